"""Build the package `apparent_personality` from the folders lib and tools, which keep their short names in the repository.

The other settings are in pyproject.toml. In the package, `lib` is `apparent_personality.lib`, and `tools` with the tools for
users of a model is `apparent_personality.tools`: the build rewrites imports, and the commands that messages name. Nothing
with the name `lib` or `tools` is installed.
"""

import ast
import re
import shutil
import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))
from apparent_personality.__main__ import COMMANDS  # noqa: E402

NAME = "apparent_personality"
FOLDERS = ("lib", "tools")
PATTERNS = (
    (r"(?m)^(\s*from )(lib|tools)(?=[. ])", rf"\1{NAME}.\2"),
    (r"(?<=[\"'])(lib|tools)(?=\.[\w.{}]+[\"'])", rf"{NAME}.\1"),  # a string with the name of a module
    (rf"python -m tools\.({'|'.join(COMMANDS)})\b", r"apparent-personality \1"),
    (r"-r requirements-([\w{}]+)\.txt", r"apparent-personality[\1]"),
)
"""What the build replaces in the source code, and by what."""


def rewrite(source: str) -> str:
    """Return the source code of a module of `lib` or `tools` as a part of the package.

    Raises ValueError if the result imports a module by its name in the repository, as `import lib.core` would.
    """
    for pattern, replacement in PATTERNS:
        source = re.sub(pattern, replacement, source)
    for node in ast.walk(ast.parse(source)):
        imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        imported += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        if wrong := [name for name in imported if name.partition(".")[0] in (*FOLDERS, "stages", "tests")]:
            raise ValueError(
                f"line {node.lineno} imports {wrong[0]}; allowed: `from lib.MODULE import NAME`; correct it"
            )
    return source


def list_packages() -> list[str]:
    """Return the names of the package's packages."""
    found = find_packages(str(ROOT), include=["lib", "lib.*", "tools", *(f"tools.{name}" for name in COMMANDS)])
    return [NAME, *(f"{NAME}.{name}" for name in found)]


class BuildPackage(build_py):
    """Copies the modules of the package and rewrites those of `lib` and `tools`."""

    def run(self) -> None:
        if self.editable_mode:
            raise SystemExit(
                "pip install -e is not possible, because the package is a rewritten copy; in the repository's folder run"
                " python -m tools.NAME without an installation, or use pip install ."
            )
        shutil.rmtree(self.build_lib, ignore_errors=True)  # modules that the repository no longer has
        super().run()

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        modules = super().find_package_modules(package, package_dir)
        users = {"__init__", *COMMANDS}
        return [module for module in modules if package != f"{NAME}.tools" or module[1] in users]

    def build_module(self, module: str, module_file: str, package: str) -> tuple[str, bool]:
        copied, changed = super().build_module(module, module_file, package)
        Path(copied).write_text(rewrite(Path(copied).read_text(encoding="utf-8")), encoding="utf-8")
        return copied, changed


if __name__ == "__main__":
    setup(
        packages=list_packages(),
        package_dir={NAME: NAME, **{f"{NAME}.{folder}": folder for folder in FOLDERS}},
        package_data={"": ["py.typed", "*.html"]},
        cmdclass={"build_py": BuildPackage},
    )
