"""How much memory can still be taken, in a container too."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_edge.runtime.process.host_memory import available_memory_bytes

MIB = 1 << 20
MEMINFO = "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\nSwapFree: 1048576 kB\n"
V2 = "sys/fs/cgroup/memory."
V1 = "sys/fs/cgroup/memory/memory."

LIMITS = {
    "none": ({}, 4096),
    "no limit": ({"proc/self/cgroup": "0::/\n", V2 + "max": "max\n", V2 + "current": "5\n"}, 4096),
    "a container's": (
        {"proc/self/cgroup": "0::/\n", V2 + "max": f"{2048 * MIB}\n", V2 + "current": f"{1536 * MIB}\n"},
        512,
    ),
    "its cache can be evicted": (
        {
            "proc/self/cgroup": "0::/\n",
            V2 + "max": f"{2048 * MIB}\n",
            V2 + "current": f"{1536 * MIB}\n",
            V2 + "stat": f"anon 5\ninactive_file {1024 * MIB}\n",
        },
        1536,
    ),
    "version 1": (
        {
            "proc/self/cgroup": "3:memory:/docker/ab\n",
            V1 + "limit_in_bytes": f"{1024 * MIB}\n",
            V1 + "usage_in_bytes": f"{1000 * MIB}\n",
        },
        24,
    ),
    "more is used than the limit": (
        {"proc/self/cgroup": "0::/\n", V2 + "max": "4096\n", V2 + "current": "8192\n"},
        0,
    ),
}


@pytest.mark.parametrize("case", LIMITS)
def test_memory_is_what_the_system_and_the_container_leave(tmp_path: Path, case: str) -> None:
    files, mib = LIMITS[case]
    for name, text in {"proc/meminfo": MEMINFO, **files}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert available_memory_bytes(swap=False, root=tmp_path) == mib * MIB
    assert (
        available_memory_bytes(root=tmp_path) == (mib if files and case != "no limit" else mib + 1024) * MIB
    )


@pytest.mark.parametrize("text", [None, "", "MemAvailable:\nSwapFree: x kB\n"])
def test_a_system_that_does_not_tell_gives_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc/meminfo").write_text(text)
    assert available_memory_bytes(root=tmp_path) is None
