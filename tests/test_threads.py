"""OpenMP's environment variables, and the number of CPUs that a process may use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lib.core import threads
from lib.core.threads import SPINS, count_busy, count_cpus, set_environment
from tests.conftest import ROOT

VARIABLES = "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"
SHOW = f"import os, sys, {{}}; print([os.environ.get(name) for name in {VARIABLES}], 'torch' in sys.modules)"


def environment_of(module: str, **variables: str) -> str:
    """Return the variables in a new process that has imported a module, and whether torch is loaded."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES and "SLURM" not in name}
    line = [sys.executable, "-c", SHOW.format(module)]
    return subprocess.run(
        line, env=environment | variables, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle machine of 64 CPUs, and no torch yet."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(threads, "count_cpus", lambda _: 64)
    monkeypatch.setattr(threads, "count_busy", lambda: 0)


@pytest.mark.parametrize("package", ["stages", "tools"])
def test_stages_and_tools_set_the_policy_before_torch(package: str) -> None:
    printed = environment_of(package, OMP_NUM_THREADS="2")
    assert printed in (f"['2', None, '{SPINS}'] False\n", "['2', 'PASSIVE', None] False\n")


@pytest.mark.slow
def test_stage_keeps_the_users_wait_policy() -> None:
    assert (
        environment_of("stages.train, torch", OMP_NUM_THREADS="2", OMP_WAIT_POLICY="ACTIVE")
        == "['2', 'ACTIVE', None] True\n"
    )


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, {"GOMP_SPINCOUNT": SPINS}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_NUM_THREADS": "1"}, {"OMP_NUM_THREADS": "1"}),
        ({"OMP_NUM_THREADS": "96"}, {"OMP_NUM_THREADS": "96", "GOMP_SPINCOUNT": SPINS}),
    ],
)
@pytest.mark.usefixtures("idle")
def test_set_environment_keeps_the_users_values(variables: dict[str, str], expected: dict[str, str]) -> None:
    set_environment(environment := dict(variables))
    assert environment == expected


@pytest.mark.parametrize(
    ("cpus", "busy", "expected"),
    [
        (64, 1, {"OMP_WAIT_POLICY": "PASSIVE"}),
        (3, 61, {"OMP_NUM_THREADS": "3", "GOMP_SPINCOUNT": SPINS}),
        (3, 62, {"OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "PASSIVE"}),
        (1, 0, {"OMP_NUM_THREADS": "1"}),
    ],
)
@pytest.mark.usefixtures("idle")
def test_set_environment_follows_quota_and_load(
    monkeypatch: pytest.MonkeyPatch, cpus: int, busy: int, expected: dict[str, str]
) -> None:
    monkeypatch.setattr(threads, "count_cpus", lambda _: cpus)
    monkeypatch.setattr(threads, "count_busy", lambda: busy)
    set_environment(environment := {})
    assert environment == expected


def test_set_environment_does_nothing_after_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", threads)
    set_environment(environment := {})
    assert environment == {}


def test_count_busy_excludes_this_process(tmp_path: Path) -> None:
    (tmp_path / "loadavg").write_text("0.94 1.47 0.72 4/110 8111\n")
    assert count_busy(tmp_path / "loadavg") == 3
    assert count_busy(tmp_path / "none") == 0


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/a/b", {"a/b/cpu.max": "max 100000"}, 64),
        ("0::/a/b", {"a/b/cpu.max": "400000 100000"}, 4),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "250000 100000"}, 3),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("3:cpu,cpuacct:/a\n0::/", {"cpu,cpuacct/a/cpu.cfs_quota_us": "200000",
                                    "cpu,cpuacct/a/cpu.cfs_period_us": "100000"}, 2),
        ("1:cpu:/a", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, 64),
        ("1:cpu:/in/the/host", {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ("2:memory:/a", {"memory/a/cpu.max": "100000 100000"}, 64),
    ],
)  # fmt: skip
def test_count_cpus_reads_quotas_of_both_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, membership: str, files: dict[str, str], expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    (tmp_path / "own").write_text(membership)
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(f"{text}\n")
    assert count_cpus({}, tmp_path / "groups", tmp_path / "own") == expected


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SLURM_CPUS_PER_TASK": "8", "SLURM_CPUS_ON_NODE": "32"}, 8),
        ({"SLURM_CPUS_ON_NODE": "32"}, 32),
        ({"SLURM_CPUS_PER_TASK": "128"}, 64),
        ({"SLURM_CPUS_ON_NODE": "0"}, 1),
    ],
)
def test_count_cpus_follows_slurm_and_affinity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert count_cpus(environment, tmp_path, tmp_path / "none") == expected
