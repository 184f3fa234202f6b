"""Dockerfile, compose.yaml and the devcontainer fit the package: versions, files, commands and ports. No image is built."""

import json
import re
import urllib.request
from typing import Any

import pytest
import yaml

import tools.serve
from apparent_personality.__main__ import COMMANDS
from tests.conftest import ROOT
from tests.test_commands import Checker
from tests.test_packaging import PROJECT, requirements

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
STAGES = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", DOCKERFILE, re.MULTILINE)


def test_dockerfile_stages_exist_for_each_device() -> None:
    names = {name for _, name in STAGES}
    assert {image for image, _ in STAGES} - names == {"python:3.11-slim-bookworm", "device-${DEVICE}"}
    assert {"device-cpu", "device-gpu"} < names
    assert {*re.findall(r"--from=(\S+)", DOCKERFILE)} <= names


def test_dockerfile_installs_the_required_versions() -> None:
    versions = re.findall(r"\b[\w-]+==[\w.]+", DOCKERFILE)
    assert {*versions} == {line for line in requirements(ROOT / "requirements.txt") if line.startswith("torch")}


def test_dockerfile_installs_requirements_before_the_code() -> None:
    (copied,) = re.findall(r"^COPY (.*) /requirements/$", DOCKERFILE, re.MULTILINE)
    assert (
        copied.split()
        == re.findall(r"-r (\S+)", DOCKERFILE)
        == [f"requirements{name}.txt" for name in ("", "-page", "-serve")]
    )
    install, code = DOCKERFILE.index("-r requirements.txt"), DOCKERFILE.index("COPY --from=wheel")
    assert install < code < DOCKERFILE.index("--no-deps /dist/*.whl")


def test_dockerfile_runs_as_a_user_without_rights() -> None:
    last = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    assert "\nUSER 1000\n" in last
    assert "useradd --uid 1000 --create-home --shell /bin/bash user" in DOCKERFILE


def test_ignored_files_leave_what_the_wheel_needs() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert all((ROOT / name).exists() for name in kept)
    needed = {"apparent_personality", "lib", "tools", "pyproject.toml", "setup.py", PROJECT["readme"]}
    needed |= {*re.findall(r"-r (\S+)", DOCKERFILE)}
    assert {*kept} == needed


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_compose_commands_are_valid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = COMPOSE["services"][name]
    command, *arguments = service["command"]
    assert command in COMMANDS
    Checker(monkeypatch).parse_arguments(f"tools.{command}", arguments)
    ((host, port, inside),) = (ports.split(":") for ports in service["ports"])
    assert (host, port) == ("127.0.0.1", inside)
    assert f" {port} " in f" {re.search('EXPOSE (.*)', DOCKERFILE)[1]} "  # type: ignore[index]
    assert f'"--port", type=int, default={port}' in (ROOT / f"tools/{command}.py").read_text()


@pytest.mark.parametrize(("name", "path"), [("page", "/"), ("service", "/health")])
def test_compose_health_checks_ask_the_port(name: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = COMPOSE["services"][name]
    kind, program, option, code = service["healthcheck"]["test"]
    assert (kind, program, option) == ("CMD", "python", "-c")
    asked: list[str] = []
    monkeypatch.setattr(urllib.request, "urlopen", asked.append)
    exec(code)
    assert asked == [f"http://127.0.0.1:{service['ports'][0].split(':')[-1]}{path}"]


def test_compose_service_needs_a_key() -> None:
    key = COMPOSE["services"]["service"]["environment"][tools.serve.KEY]
    assert key.startswith(f"${{{tools.serve.KEY}:?")


def test_compose_builds_and_names_the_image_of_the_docs() -> None:
    image = COMPOSE["x-image"]
    assert image["build"] == {"context": ".", "args": {"DEVICE": "${DEVICE:-cpu}"}}
    assert image["image"] == "apparent-personality:${DEVICE:-cpu}"
    build = "docker build --tag apparent-personality:cpu ."
    assert build in DOCKERFILE
    assert build in (ROOT / "docs/predict.md").read_text()


def test_devcontainer_uses_a_stage_and_the_requirements() -> None:
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    assert container["build"]["target"] in {name for _, name in STAGES}
    assert (ROOT / ".devcontainer" / container["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert container["remoteUser"] == re.findall(r"useradd .* (\w+)$", DOCKERFILE, re.MULTILINE)[0]
    (file,) = re.findall(r"-r (\S+)", container["postCreateCommand"])
    assert (ROOT / file).is_file()
