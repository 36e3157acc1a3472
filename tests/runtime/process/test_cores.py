"""Threads are as many as the cores that this process may use, by affinity and by quota."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vla_edge.runtime.process.cores import cpu_quota, usable_cores


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def topology(siblings: list[str]) -> dict[str, str]:
    """CPU 0 and up, each with the list of the threads that share its core."""
    place = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    return {place.format(cpu): f"{text}\n" for cpu, text in enumerate(siblings)}


@pytest.fixture
def _sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)


QUOTAS = {
    "no control groups": ({}, None),
    "version 2, no limit": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
    "half a core": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
    "one and a half": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
    "a group inside another, the outer one smaller": (
        {
            "proc/self/cgroup": "0::/robot.slice/policy.service\n",
            "sys/fs/cgroup/robot.slice/cpu.max": "200000 100000\n",
            "sys/fs/cgroup/robot.slice/policy.service/cpu.max": "400000 100000\n",
        },
        2.0,
    ),
    "a path that the container does not see": (
        {"proc/self/cgroup": "0::/../../host/pod\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"},
        3.0,
    ),
    "version 1": (
        {
            "proc/self/cgroup": "12:memory:/docker/ab\n4:cpu,cpuacct:/docker/ab\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
        2.5,
    ),
    "version 1, no limit": (
        {
            "proc/self/cgroup": "4:cpu:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        None,
    ),
    "nonsense": ({"proc/self/cgroup": "0::/\n:\n", "sys/fs/cgroup/cpu.max": "many 0\n"}, None),
    "a period of zero": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "5 0\n"}, None),
}


@pytest.mark.parametrize("case", QUOTAS)
def test_a_quota_is_read_from_control_groups_of_both_versions(tmp_path: Path, case: str) -> None:
    files, quota = QUOTAS[case]
    assert cpu_quota(plant(tmp_path, files)) == quota


@pytest.mark.usefixtures("_sixteen")
@pytest.mark.parametrize(
    ("limit", "cores"), [("50000", 1), ("100000", 1), ("150000", 2), ("9900000", 8), ("max", 8)]
)
def test_a_quota_is_rounded_up_and_never_adds_cores(tmp_path: Path, limit: str, cores: int) -> None:
    pairs = [f"{cpu - cpu % 2}-{cpu - cpu % 2 + 1}" for cpu in range(16)]
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": f"{limit} 100000\n"}
    assert usable_cores(plant(tmp_path, {**topology(pairs), **files})) == cores


@pytest.mark.usefixtures("_sixteen")
def test_without_a_topology_each_processor_counts_as_a_core(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == 16


def test_affinity_limits_the_cores_here(monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from vla_edge.runtime.process.cores import usable_cores; print(usable_cores())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_every_part_asks_the_same_function() -> None:
    """A report that says 2 cores and a session that starts 4 threads would contradict each other."""
    from vla_edge.bench import cli
    from vla_edge.bench.watch import machine
    from vla_edge.runtime.engines import onnxruntime

    assert cli.usable_cores is machine.usable_cores is onnxruntime.usable_cores is usable_cores
    assert usable_cores() >= 1


@pytest.mark.parametrize(
    "limit", ["9" * 400 + " 1", "1 " + "9" * 5000, "0 0", "-1 100000", "nan nan", "²  1", "a b c", ""]
)
def test_a_quota_that_is_no_number_sets_no_limit(limit: str, tmp_path: Path) -> None:
    plant(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": limit})
    assert cpu_quota(tmp_path) is None
    assert usable_cores(tmp_path) >= 1


def test_files_of_the_kernel_that_are_no_text_set_no_limit(tmp_path: Path) -> None:
    plant(tmp_path, {"proc/self/cgroup": "", "sys/fs/cgroup/cpu.max": "", **topology(["0", "1"])})
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.write_bytes(b"0::/\xff\xfe\n")
    assert cpu_quota(tmp_path) is None
    assert usable_cores(tmp_path) >= 1
