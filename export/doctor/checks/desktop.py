"""A desktop, which takes memory that a board needs for its policy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from ..finding import Finding
from ..machine import Machine, gib

# What draws a desktop, by the names of its processes (cut at 15 letters, as the kernel does).
_DESKTOP = (
    "Xorg", "Xwayland", "gnome-shell", "gdm3", "gdm-x-session", "gdm-wayland-ses", "gdm-session-wor", "lightdm",
    "lxsession", "lxpanel", "pcmanfm", "openbox", "xfwm4", "xfce4-session", "xfdesktop", "plasmashell",
    "kwin_x11", "kwin_wayland", "nautilus", "gsd-xsettings", "gnome-software", "tracker-miner-f", "evolution-calen",
)  # fmt: skip
_MOST_PROCESSES = 10_000
_KIB = 1024
# Less is not worth a warning.
_MUCH_BYTES = 200 << 20


def check_desktop(machine: Machine) -> Iterator[Finding]:
    """What the desktop takes of the memory; a warning on boards, where the GPU has no other."""
    names, taken = [], 0
    for folder in islice(_processes(machine), _MOST_PROCESSES):
        name = machine.line(f"proc/{folder}/comm")
        if name in _DESKTOP:
            names.append(name)
            taken += _own_bytes(machine, folder)
    starts = _starts_graphical(machine)
    if not names:
        if machine.is_jetson:
            yield Finding("desktop", "desktop", "none runs")
        return
    found = f"it takes {gib(taken)} ({', '.join(sorted(set(names))[:3])})"
    if not machine.shares_memory or taken < _MUCH_BYTES:
        yield Finding("desktop", "desktop", found)
        return
    ever = "sudo systemctl set-default multi-user.target && " if starts else ""
    yield Finding("desktop", "desktop", found, "warning", f"{ever}sudo init 3")


def _processes(machine: Machine) -> Iterator[str]:
    try:
        with os.scandir(machine.root / "proc") as entries:
            yield from (entry.name for entry in entries if entry.name.isdigit())
    except OSError:
        return


def _own_bytes(machine: Machine, process: str) -> int:
    """Memory that is this process's alone: what it shares is counted by nobody twice."""
    for line in (machine.text(f"proc/{process}/status") or "").splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if name == "RssAnon" and words and words[0].isdigit():
            return int(words[0]) * _KIB
    return 0


def _starts_graphical(machine: Machine) -> bool:
    """Whether the next start brings the desktop, too."""
    try:
        return (
            Path(os.readlink(machine.root / "etc/systemd/system/default.target")).name == "graphical.target"
        )
    except OSError:
        return True  # the link is the administrator's; without one, the distribution's own is graphical
