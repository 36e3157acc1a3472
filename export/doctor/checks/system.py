"""Python, and JetPack with its Jetson Linux."""

from __future__ import annotations

from collections.abc import Iterator

from vla_edge.runtime.engines.tensorrt.library import LIBRARIES
from vla_edge.runtime.printable import one_line

from ..finding import Finding, untold
from ..jetpack import OLDEST_L4T, Installed, installed_jetpack
from ..machine import Machine

_FLASH = "Flash JetPack 6.2, which brings TensorRT 10.3."


def check_python(machine: Machine) -> Iterator[Finding]:
    """Python, which must be the one that JetPack's TensorRT is built for."""
    found = ".".join(map(str, machine.python))
    installed = installed_jetpack(machine) if machine.is_jetson else None
    theirs = installed.jetpack.python if installed and installed.jetpack else machine.python
    if theirs != machine.python and not machine.runs("tensorrt"):
        wanted = ".".join(map(str, theirs))
        yield Finding(
            "python",
            "Python",
            f"{found}; JetPack's TensorRT is for {wanted}",
            "warning",
            f"python{wanted} -m venv --system-site-packages robot, and install vla-edge there.",
        )
        return
    yield Finding("python", "Python", found)


def check_jetpack(machine: Machine) -> Iterator[Finding]:
    """JetPack and Jetson Linux; nothing on other machines."""
    if not machine.is_jetson:
        return
    installed = installed_jetpack(machine)
    if installed is None:
        yield untold("jetpack", "JetPack", "neither /etc/nv_tegra_release nor dpkg tells Jetson Linux")
        return
    yield _judged(installed)


def _judged(installed: Installed) -> Finding:
    linux = f"Jetson Linux {'.'.join(map(str, installed.l4t))}"
    known = installed.jetpack
    name = one_line(installed.package) or (known.name if known else "")
    found = f"{name} ({linux})" if name else linux
    if installed.l4t < OLDEST_L4T:
        brings = f": it brings TensorRT {known.tensorrt}" if known else ""
        return Finding("jetpack", "JetPack", f"{found} is too old{brings}", "warning", _FLASH)
    if known is None:
        return Finding("jetpack", "JetPack", f"{found}; not known to this version of vla-edge")
    return Finding(
        "jetpack",
        "JetPack",
        f"{found}; it brings {LIBRARIES['tensorrt'].label} {known.tensorrt}, CUDA {known.cuda}",
    )
