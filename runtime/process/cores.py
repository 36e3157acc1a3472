"""How many cores this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable
from pathlib import Path

from .control_groups import group_folders


def usable_cores(root: Path = Path("/")) -> int:
    """Physical cores that this process may run on, at most as many as its CPU quota pays for; at least 1.

    Matmuls gain nothing from a core's second thread, and lose much by more threads than a quota (of a
    container, or systemd's `CPUQuota`) lets run: each is stopped until the others had their turn.

    Args:
        root: where `proc` and `sys` are; another one in tests.
    """
    cores, quota = _physical(allowed_cpus(), root), cpu_quota(root)
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def allowed_cpus() -> Collection[int]:
    """Numbers of the logical CPUs that this process may run on, two or more of a physical core among them."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)


def cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs' worth of time that control groups allow this process; None where they set no limit.

    The smallest counts of those of its group and the groups around it.
    """
    quotas = [quota for folder in group_folders("cpu", root) if (quota := _quota_of(folder)) is not None]
    return min(quotas, default=None)


def _physical(allowed: Iterable[int], root: Path) -> int:
    logical = list(allowed)
    cpus = root / "sys/devices/system/cpu"
    try:
        return len({(cpus / f"cpu{cpu}/topology/thread_siblings_list").read_text() for cpu in logical})
    except (OSError, ValueError):  # not every kernel and container shows the topology
        return len(logical)


def _quota_of(folder: Path) -> float | None:
    """CPUs' worth of time by the files of one group; None where it sets none, or says what is no number."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        limit = int(quota) / int(period)
    except (OSError, ValueError, ArithmeticError):  # "max", or no such file
        return None
    return limit if limit > 0 else None  # version 1 says -1 for no limit
