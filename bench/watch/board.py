"""A board such as a Jetson, whose CPU and GPU share one memory and whose power its own sensors tell; NVML does neither.

What an engine takes there is seen as what the machine has less: `MemAvailable` of /proc/meminfo, which counts
caches that could be dropped as free.

An INA3221 under /sys/class/hwmon has three channels with a voltage (`inN_input`, mV), a current (`currN_input`, mA)
and a name (`inN_label`). The channel of the whole board is VDD_IN on Orin NX and Nano; AGX Orin has none, so its
channels are added up (Jetson Linux Developer Guide, "Jetson Orin Series: Power monitors"). `psutil` reads
temperatures and fans from the same place, but no power.
"""

from __future__ import annotations

import re
from pathlib import Path

from .telemetry import MOST_BYTES, MOST_W, number

HWMON = Path("/sys/class/hwmon")
CHIP = "ina3221"
WHOLE_BOARD = "VDD_IN"
MILLI_PER_UNIT = 1000


def taken_bytes() -> float | None:
    """Memory that could not be had without swapping, the whole machine's; None where it does not tell."""
    import psutil

    def taken() -> object:
        memory = psutil.virtual_memory()
        return memory.total - memory.available

    return number("available memory", taken, MOST_BYTES)


def read_rails_w(root: Path = HWMON) -> float | None:
    """Watts that the board draws now, or None where no such sensor is.

    Args:
        root: the kernel's folder of sensors.
    """
    return number("power of the board's rails", lambda: _rails_w(root), MOST_W)


def _rails_w(root: Path) -> float | None:
    rails: dict[str, float] = {}
    chips = [chip for chip in sorted(root.glob("hwmon*")) if _text(chip / "name") == CHIP]
    for voltage in (path for chip in chips for path in sorted(chip.glob("in[0-9]_input"))):
        chip, channel = voltage.parent, voltage.name[2]
        millivolts, milliamperes = _milli(voltage), _milli(chip / f"curr{channel}_input")
        if millivolts is not None and milliamperes is not None:
            label = _text(chip / f"in{channel}_label") or f"{chip.name}/{channel}"
            rails[label] = millivolts * milliamperes / MILLI_PER_UNIT**2
    return rails.get(WHOLE_BOARD, sum(rails.values())) if rails else None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:  # a channel that is switched off cannot be read
        return ""


def _milli(path: Path) -> int | None:
    """Thousandths of a unit; nothing but plain digits, and no more of them than a sensor has."""
    found = re.fullmatch("[0-9]{1,9}", _text(path))
    return int(found[0]) if found else None
