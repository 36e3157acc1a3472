"""Where Linux says how much of the machine this process may have: a container's limits, or systemd's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def group_folders(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """The folder of this process's group and of all around it, of version 2 and of version 1.

    In a container the path of the group may be the host's, of which only the upper end is mounted: some of
    the folders are not there, and set no limit.

    Args:
        controller: "cpu" or "memory".
        root: where `proc` and `sys` are; another one in tests.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        # where version 1 is beside it, version 2 is mounted in "unified" and has no such controller
        for mount in [controllers, controller] if controllers else ["."]:
            for place in (inner := PurePosixPath(group.lstrip("/")), *inner.parents):
                if ".." not in place.parts:
                    yield root / "sys/fs/cgroup" / mount / place


def number_in(path: Path) -> int | None:
    """The number that a file of a group holds; None for "max", and where there is none."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
