"""Every command in README and the documentation is valid, and every Python block compiles.

A block of commands is run by bash with stand-ins for all programs, which record their arguments. Each recorded command is
then checked by the program's own parser, and each parameter against the file of params/ that the page chose last.
"""

import argparse
import copy
import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dvc.cli.parser import get_main_parser

from apparent_personality.__main__ import COMMANDS
from lib.streams import base
from tests.code_blocks import find_code_blocks
from tests.conftest import ROOT
from tests.test_documents import FILES, name_of
from tools import parameters

PROGRAMS = (
    "python",
    "python3.11",
    "dvc",
    "git",
    "pip",
    "find",
    "ln",
    "sed",
    "mkdocs",
    "ruff",
    "mypy",
    "pre-commit",
    "jupyter",
    "apparent-personality",
    "ct2-transformers-converter",
    "curl",
    "docker",
    "openssl",
)
STAND_IN = '{name}() {{ local words; printf -v words "%s\\037" {name} "$@"; printf "%s\\036" "$words" >&3; }}'
"""A program's stand-in. It writes all words at once, because the programs of a pipeline run at the same time."""
ADDED = "loudness", "changes", "attention_pooling"
"""The stream, the encoder and the fusion that tutorials add."""
HEADERS = sorted((ROOT / "params").glob("*.yaml"))


class ParsedError(Exception):
    """Raised after the arguments are parsed, in place of running the tool."""


def command_blocks(page: Path) -> list[str]:
    """Return the blocks of commands of a page; for a console, the lines after the prompt.

    A block of text is one of commands if it begins with a program. The tests of tutorials do not run these.
    """
    blocks = re.findall(r"^```(bash|console|text)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [
        "\n".join(re.findall(r"^\$ (.*)$", text, re.MULTILINE)) if kind == "console" else text
        for kind, text in blocks
        if kind != "text" or text.split()[0] in PROGRAMS
    ]


def inline_commands(page: Path) -> list[str]:
    """Return the commands within the sentences of a page, without those that leave open what runs."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    commands = re.findall(rf"`(?:\w+=\S+ )*((?:{'|'.join(PROGRAMS)}) [^`]*)`", text)
    parts = [part for command in commands for part in command.split(" && ")]
    is_open = re.compile(r"(tools\.parameters |stages\.stream |benchmarks\.)NAME\b|\bKEY=VALUE")
    return [part for part in parts if not is_open.search(part)]


def record(block: str, folder: Path) -> list[list[str]]:
    """Return the commands of a block as lists of words, after bash has expanded them."""
    (folder / ".venv/bin").mkdir(parents=True, exist_ok=True)
    (folder / ".venv/bin/activate").touch()
    script = "\n".join([*(STAND_IN.format(name=name) for name in PROGRAMS), "set -e", block])
    done = subprocess.run(
        ["/bin/bash", "-c", f"{{ {script}\n}} 3>recorded"],
        cwd=folder, env={"PATH": "/nowhere"}, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stderr}\n{block}"
    assert not done.stderr, f"{done.stderr}\n{block}"
    return [line.split("\037")[:-1] for line in (folder / "recorded").read_text().split("\036") if line]


def require_nothing(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Return the parser after all its arguments became optional."""
    for action in parser._actions:
        action.required = False
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                require_nothing(command)
    return parser


class Checker:
    """Checks the commands of a page in their order. `params` are the parameters that params.yaml would have."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.is_complete = True
        """False allows commands without required arguments, such as the name of a tool with one option."""
        self.params: Any = parameters.merge_parameters("demo", [])
        parse = argparse.ArgumentParser.parse_args

        def parse_and_stop(parser: argparse.ArgumentParser, *arguments: Any) -> None:
            parse(parser if self.is_complete else require_nothing(parser), *arguments)
            raise ParsedError

        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
        self.parse = parse

    def check(self, words: list[str]) -> None:
        program, *arguments = words
        if program in ("python", "python3.11"):
            assert arguments[0] == "-m" or arguments[0] in WRITTEN, words
            if arguments[0] == "-m":
                self.check_module(arguments[1], arguments[2:])
        elif program == "dvc":
            self.check_dvc(arguments)
        elif program == "pip":
            for name in arguments[arguments.index("-r") + 1 :: 2] if "-r" in arguments else []:
                assert name in WRITTEN or (ROOT / name).is_file(), words
        elif program == "apparent-personality":
            assert arguments[0] in COMMANDS, words
            self.parse_arguments(f"tools.{arguments[0]}", arguments[1:])
        elif program == "git":
            assert arguments[0] in ("add", "commit", "clone", "tag", "init"), words

    def check_module(self, name: str, arguments: list[str]) -> None:
        if name == "tools.parameters" and arguments:
            changes = [re.sub(rf",({'|'.join(ADDED)})\b", "", change) for change in arguments[1:]]
            changes = [change for change in changes if change.partition("=")[2] not in ADDED]
            self.params = parameters.merge_parameters(arguments[0], changes)
            parameters.check(self.params)
        elif name == "stages.stream":
            assert arguments[0] in (*base.list_names(), *ADDED)
        elif name.startswith("stages."):
            assert importlib.util.find_spec(name), name
            assert not arguments, arguments
        elif name.startswith("tools."):
            self.parse_arguments(name, arguments)
        else:
            assert importlib.util.find_spec(name), name

    def parse_arguments(self, name: str, arguments: list[str]) -> None:
        package = importlib.util.find_spec(name.removesuffix(".NAME"))  # any module of a folder
        assert package, name
        module = importlib.import_module(f"{name}.__main__" if package.submodule_search_locations else name)
        self.monkeypatch.setattr(sys, "argv", [name, *arguments])
        with pytest.raises(ParsedError):
            module.main()

    def check_dvc(self, arguments: list[str]) -> None:
        parser = get_main_parser()
        options = self.parse(parser if self.is_complete else require_nothing(parser), arguments)
        changed = copy.deepcopy(self.params)
        for change in getattr(options, "set_param", None) or []:
            key, value = parameters.parse_change(change)
            *sections, last = key.split(".")
            section = changed
            for part in sections:
                section = section[part]
            assert last in section, f"{key} is not a parameter"
            parameters.put(changed, key, value)
        parameters.check(changed)


WRITTEN = "chain/requirements.txt", "chain/predict.py"
"""Files that `tools.export --chain chain` writes; tests/test_chain.py runs the program."""


@pytest.fixture
def checker(monkeypatch: pytest.MonkeyPatch) -> Checker:
    monkeypatch.chdir(ROOT)
    return Checker(monkeypatch)


@pytest.mark.parametrize("page", [page for page in FILES if command_blocks(page)], ids=name_of)
def test_commands_are_valid(page: Path, checker: Checker, tmp_path: Path) -> None:
    for block in command_blocks(page):
        for words in record(block, tmp_path):
            try:
                checker.check(words)
            except BaseException as error:
                raise AssertionError(f"{page}: {' '.join(words)}: {error!r}") from error


@pytest.mark.parametrize("page", [page for page in FILES if inline_commands(page)], ids=name_of)
def test_inline_commands_are_valid(page: Path, checker: Checker) -> None:
    checker.is_complete = False
    for command in inline_commands(page):
        try:
            checker.check(shlex.split(command))
        except BaseException as error:
            raise AssertionError(f"{page}: {command}: {error!r}") from error


@pytest.mark.parametrize("page", [page for page in FILES if find_code_blocks(page, "python")], ids=name_of)
def test_python_blocks_compile(page: Path) -> None:
    for block in find_code_blocks(page, "python"):
        compile(block, str(page), "exec")


@pytest.mark.parametrize("path", HEADERS, ids=name_of)
def test_header_settings_are_valid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    header = "".join(re.match(r"(?:#.*\n)+", path.read_text())[0].replace("\n# ", " "))
    for settings in re.findall(r"`((?:[\w.]+=[^\s`]+\s*)+)`", header):
        parameters.check(parameters.merge_parameters(path.stem, settings.split()))


def test_invalid_parameter_is_found(checker: Checker) -> None:
    checker.check(["python", "-m", "tools.parameters", "audio_visual"])
    net = "model.encoders.audio.net=conv2d"
    with pytest.raises(Exception, match="filters"):
        checker.check(["dvc", "exp", "run", "-S", net, "-S", "model.encoders.audio.filters=[4]"])
    with pytest.raises(KeyError):
        checker.check(["dvc", "exp", "run", "-S", "model.encoder.audio.net=mlp"])


def test_invalid_option_is_found(checker: Checker, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        checker.check(["python", "-m", "tools.predict", "clip.mp4", "--farmat", "csv"])


def test_incomplete_command_has_only_options_of_its_tool(checker: Checker, capsys: pytest.CaptureFixture[str]) -> None:
    checker.is_complete = False
    checker.check(["python", "-m", "tools.compare", "--unseen"])
    with pytest.raises(SystemExit):
        checker.check(["python", "-m", "tools.predict", "--unseen"])
