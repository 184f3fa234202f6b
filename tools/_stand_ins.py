"""Run code that only reads settings without the packages that take seconds to load.

A stand-in takes the place of such a package. It can be called, and classes can derive from it, but it has no value: to
compare it, to iterate over it or to print it raises an error. Code that ends normally therefore did not need the package.
"""

import os
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, NoReturn

PACKAGES = frozenset(
    (
        "av",
        "cv2",
        "h5py",
        "joblib",
        "lightning_fabric",
        "lightning_utilities",
        "matplotlib",
        "pandas",
        "PIL",
        "pyzipper",
    )
    + ("requests", "safetensors", "scipy", "sklearn", "torch", "torchvision")
)
"""Packages of requirements.txt that take long to load."""


def succeeds(function: Callable[[], None]) -> bool:
    """Return whether `function` ends normally in a copy of this process, in which all imports of PACKAGES get stand-ins.

    False means that the function failed or used one of the packages; the copy's messages are discarded.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    status = 1
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        install()
        function()
        status = 0
    finally:
        os._exit(status)


def install() -> None:
    """Let imports of PACKAGES that follow in this process get stand-ins."""
    sys.meta_path.insert(0, _Finder())


class _NoValueError(Exception):
    """A stand-in was used as a value."""


class _StandIn(type):
    """The type of stand-ins. They are classes, because other classes derive from them."""

    def __getattr__(cls, name: str) -> Any:
        return _look_up(name)

    def __call__(cls, *arguments: Any, **keywords: Any) -> Any:
        """Return a stand-in for the result, also for an instance of a class that derives from a stand-in."""
        return _make("result")

    def __getitem__(cls, key: Any) -> Any:
        return _make("item")

    def __or__(cls, other: Any) -> Any:
        return _make("union")

    __ror__ = __or__
    __hash__ = type.__hash__

    def __eq__(cls, other: object) -> bool:
        if cls is other:
            return True
        if "typing" in (
            type(other).__module__,
            getattr(other, "__module__", ""),
        ):  # which compares the type of each annotation with Any and others
            return False
        raise _NoValueError

    def _refuse(cls, *_: Any) -> NoReturn:
        raise _NoValueError

    __bool__ = __iter__ = __repr__ = __instancecheck__ = __subclasscheck__ = _refuse  # type: ignore[assignment]


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        return _look_up(name)


class _Finder(MetaPathFinder, Loader):
    """Finds the installed PACKAGES, and loads a stand-in for each module."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in PACKAGES:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None:
            spec.loader = self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module empty: `__getattr__` makes its contents."""


def _look_up(name: str) -> Any:
    if name.startswith("__"):  # whether it exists is a value
        raise AttributeError(name)
    return _make(name)


def _make(name: str) -> Any:
    return _StandIn(name, (), {})
