"""The settings of figures and reports: the section `figures` of params.yaml."""

from typing import Annotated, Literal

from pydantic import Field

from lib.core.parameters import Section

FacesMode = Literal["show", "blur", "landmarks", "none"]
NamesMode = Literal["clip", "pseudonym"]


class Settings(Section):
    """The section figures."""

    dpi: Annotated[int, Field(ge=30, le=1200)]
    faces: FacesMode
    names: NamesMode
