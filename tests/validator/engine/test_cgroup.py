"""Cores and kills for memory, read from both versions of control groups."""

import math
import os
from pathlib import Path

import pytest

from validator.engine import cgroup


@pytest.mark.parametrize(
    ("cpu_max", "quota_us", "period_us", "expected"),
    [
        ("150000 100000\n", "", "", 1.5),
        ("max 100000\n", "", "", math.inf),
        ("", "400000\n", "100000\n", 4.0),
        ("", "-1\n", "100000\n", math.inf),
        ("", "", "", math.inf),
    ],
)
def test_a_quota_is_read_in_both_spellings(
    cpu_max: str, quota_us: str, period_us: str, expected: float
) -> None:
    """`max`, -1 and no file at all are no quota."""
    assert cgroup.quota(cpu_max, quota_us, period_us) == expected


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cgroup file system of the test's own, and a membership file that points into it."""
    monkeypatch.setattr(cgroup, "_ROOT", tmp_path)
    monkeypatch.setattr(cgroup, "_MEMBERSHIP", tmp_path / "membership")
    return tmp_path


def put(path: Path, text: str) -> None:
    """Write a file of the tree."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_version_2_is_read_where_the_process_is(tree: Path) -> None:
    """The unified hierarchy, in the folder that /proc/self/cgroup names."""
    put(tree / "membership", "0::/pods/ours\n")
    put(tree / "pods/ours/cpu.max", "100000 100000\n")
    put(tree / "pods/ours/memory.events", "low 0\noom 3\noom_kill 2\n")

    assert cgroup.cores() == 1
    assert cgroup.memory_kills() == 2


def test_version_1_in_a_container_is_at_the_mounts_root(tree: Path) -> None:
    """The path is the host's and not visible inside: the mount's own root is ours."""
    put(tree / "membership", "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n")
    put(tree / "memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n")

    assert cgroup.memory_kills() == 5


def test_without_control_groups_affinity_decides(tree: Path) -> None:
    """Nothing to read is no limit and no kill."""
    assert cgroup.cores() == len(os.sched_getaffinity(0))
    assert cgroup.memory_kills() == 0


def test_a_quota_below_one_core_is_one_core(tree: Path) -> None:
    """Half a core still runs one child."""
    put(tree / "membership", "0::/\n")
    put(tree / "cpu.max", "50000 100000\n")

    assert cgroup.cores() == 1
