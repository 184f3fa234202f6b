"""Render the corpus of the small demo, which takes 10 CPU seconds, once for all copies of the project."""

import fcntl
import functools
import shutil
from pathlib import Path

from lib.core import resume
from lib.sources import demo
from lib.sources.demo import corpus
from tests.conftest import ROOT

SETTINGS = demo.Settings(clips=20, seconds=2.0, shared=0.84, seed=0, emotions=0.0)
"""The settings of the small demo."""


@functools.cache
def render_corpus() -> Path:
    """Render the corpus in this folder, as the demo does, unless that was done before; one process at a time.

    Return the folder of its archives. Its name depends on the code, so that changed code renders the corpus again.
    """
    folder = ROOT / demo.rendered_folder(SETTINGS)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with Path(corpus.__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            corpus.write(folder, **demo.rendering_values(SETTINGS))
    return folder


def share_corpus(project: Path) -> None:
    """Add the archives to a copy of the project, where the stage download finds them."""
    rendered = render_corpus()
    shutil.copytree(rendered, project / resume.ROOT / rendered.name)


def copy_corpus(folder: Path) -> None:
    """Write the archives, which have FIV2's layout, to a new folder."""
    shutil.copytree(render_corpus(), folder)
