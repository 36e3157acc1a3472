"""JetPack by the release of Jetson Linux (L4T) under it, and what comes with it; the table of docs/jetson.md."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .machine import Machine, numbers

# "# R36 (release), REVISION: 4.3, GCID: ..."
_RELEASE = re.compile(r"# R(\d+) \(release\), REVISION: ([\d.]+)")
_STATUS = "var/lib/dpkg/status"
_MOST_STATUS_BYTES = 32 << 20
OLDEST_L4T = (36, 4)


@dataclass(frozen=True)
class JetPack:
    """What NVIDIA ships together; from documentation."""

    name: str
    tensorrt: str
    cuda: str
    python: tuple[int, int]


# By the first numbers of L4T; sources in docs/jetson.md.
_KNOWN: dict[tuple[int, ...], JetPack] = {
    (36, 3): JetPack("6.0", "8.6", "12.2", (3, 10)),
    (36, 4): JetPack("6.1 or 6.2", "10.3", "12.6", (3, 10)),
    (39, 2): JetPack("7.2", "10.16", "13.2", (3, 12)),
}


@dataclass(frozen=True)
class Installed:
    """What a Jetson runs.

    Attributes:
        l4t: numbers of Jetson Linux: (36, 4, 3).
        package: version of the package nvidia-jetpack; empty where it is not installed.
        jetpack: what belongs to this L4T; None where the table does not have it.
    """

    l4t: tuple[int, ...]
    package: str
    jetpack: JetPack | None


def installed_jetpack(machine: Machine) -> Installed | None:
    """What this Jetson runs; None where nothing tells its L4T."""
    packages = machine.text(_STATUS, _MOST_STATUS_BYTES) or ""
    l4t = _l4t(machine) or numbers(_package(packages, "nvidia-l4t-core").replace("-", "."))[:3]
    if not l4t:
        return None
    return Installed(l4t, _package(packages, "nvidia-jetpack"), _KNOWN.get(l4t[:2]))


def _l4t(machine: Machine) -> tuple[int, ...]:
    found = _RELEASE.match(machine.text("etc/nv_tegra_release") or "")
    return (int(found[1]), *numbers(found[2])) if found else ()


def _package(status: str, name: str) -> str:
    """The version of an installed Debian package by dpkg's own file, or empty."""
    start = 0 if status.startswith(f"Package: {name}\n") else status.find(f"\nPackage: {name}\n") + 1
    if start == 0 and not status.startswith(f"Package: {name}\n"):
        return ""
    paragraph = status[start:].split("\n\n", 1)[0]
    fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line)
    return fields.get("Version", "") if fields.get("Status", "").endswith(" installed") else ""
