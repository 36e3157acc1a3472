"""Memory that this process can still take, by the system and by the control groups that it is in."""

from __future__ import annotations

from pathlib import Path

from .control_groups import group_folders, number_in

# Of version 2 and of version 1: the limit, what is used of it, and the cache in it that can be evicted.
_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def available_memory_bytes(swap: bool = True, root: Path = Path("/")) -> int | None:
    """Memory that can be taken, at most what a container's limit leaves; None where the system does not tell.

    Args:
        swap: count free swap as memory.
        root: where `proc` and `sys` are; another one in tests.
    """
    try:
        text = (root / "proc/meminfo").read_text()
        lines = dict(line.split(":", 1) for line in text.splitlines())
        keys = ("MemAvailable", "SwapFree") if swap else ("MemAvailable",)
        system = sum(int(lines[key].split()[0]) * 1024 for key in keys)
    except (OSError, KeyError, ValueError, IndexError):
        return None
    left = (_left_in(folder) for folder in group_folders("memory", root))
    return min([system, *(size for size in left if size is not None)])


def _left_in(folder: Path) -> int | None:
    """What a group's limit leaves; None where it sets none."""
    for limit_name, used_name, cache_name in _FILES:
        limit, used = number_in(folder / limit_name), number_in(folder / used_name)
        if limit is not None and used is not None:
            return max(0, limit - used + _cache_in(folder, cache_name))
    return None


def _cache_in(folder: Path, name: str) -> int:
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)
    except (OSError, ValueError, IndexError):
        return 0
