"""Power mode, clocks and throttling, read from files that the kernel and nvpmodel keep."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from vla_edge.runtime.printable import one_line

from ..finding import Finding, untold
from ..machine import Machine

_NVPMODEL_LIMIT_S = 3
_STATUS = re.compile(r"pmode:0*(\d+)")
_MODEL = re.compile(r"< POWER_MODEL ID=(\d+) NAME=(\S+) >")
_DEFAULT = re.compile(r"< PM_CONFIG DEFAULT=(\d+) >")
_SAID = re.compile(r"NV Power Mode: (\S+)")
_BEST = "MAXN"  # and MAXN_SUPER
_HERTZ_PER_MHZ = 1_000_000
# How the GPU's clock shows: Orin's, and how JetPack 7 names it.
_CLOCKS = ("sys/class/devfreq/*.gpu", "sys/class/devfreq/gpu-gpc-*")
# Cooling devices of a Jetson that tell of a limit; a fan's state is no fault.
_ALERTS = ("-throttle-alert", "hot-surface-alert")
_OVERCURRENT = ("under voltage", "average overcurrent", "instantaneous overcurrent")  # oc1, oc2, oc3 of Orin


def check_power_mode(machine: Machine) -> Iterator[Finding]:
    """The power mode of a Jetson, which caps its clocks."""
    if not machine.is_jetson:
        return
    settings = machine.text("etc/nvpmodel.conf") or ""
    models = dict(_MODEL.findall(settings))
    name = _power_mode(machine, models, settings)
    best = [number for number, model in models.items() if model.startswith(_BEST)]
    if not name:
        yield untold("power-mode", "power mode", "no /var/lib/nvpmodel/status, and nvpmodel -q tells none")
    elif name.startswith(_BEST) or not best:
        yield Finding("power-mode", "power mode", one_line(name))
    else:
        yield Finding(
            "power-mode",
            "power mode",
            f"{one_line(name)} caps the clocks; this board has {one_line(models[best[-1]])}, too",
            "warning",
            f"sudo nvpmodel -m {best[-1]}, if supply and cooling allow; figures count for one mode.",
        )


def _power_mode(machine: Machine, models: Mapping[str, str], settings: str) -> str:
    """The name of the mode, or empty. nvpmodel keeps it where one was chosen; the default counts until then."""
    status = _STATUS.search(machine.text("var/lib/nvpmodel/status") or "")
    if status:
        return models.get(status[1], f"mode {status[1]}")
    said, default = _ask_nvpmodel(machine), _DEFAULT.search(settings)
    return said or (models.get(default[1], "") if default else "")


def _ask_nvpmodel(machine: Machine) -> str:
    """What `nvpmodel -q` says; empty for a planted machine, and where it does not answer."""
    if machine.root != Path("/") or not shutil.which("nvpmodel"):
        return ""
    try:
        done = subprocess.run(
            ["nvpmodel", "-q"],
            capture_output=True,
            timeout=_NVPMODEL_LIMIT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = _SAID.search(done.stdout.decode(errors="replace"))
    return found[1] if found else ""


def check_clocks(machine: Machine) -> Iterator[Finding]:
    """The GPU's clock on a board: where it may go, and whether it is held there."""
    folders = [folder for pattern in _CLOCKS for folder in sorted(machine.root.glob(pattern))]
    if not folders:
        return
    base = str(folders[0].relative_to(machine.root))
    least, most, now = (machine.number(f"{base}/{name}_freq") for name in ("min", "max", "cur"))
    if most is None:
        yield untold("clocks", "GPU clock", f"/{base}/max_freq holds no number")
        return
    found = f"at most {most // _HERTZ_PER_MHZ} MHz"
    if now is not None:
        found = f"{now // _HERTZ_PER_MHZ} MHz now, {found}"
    if least == most:
        yield Finding("clocks", "GPU clock", f"{found}, held there")
        return
    todo = "sudo jetson_clocks holds it at its most: steadier latency. It does not outlast a reboot."
    yield Finding("clocks", "GPU clock", f"{found}; it follows the load", "ok", todo)


def check_throttling(machine: Machine) -> Iterator[Finding]:
    """Whether heat or the supply holds the clocks down, or did since the start."""
    now = [*_alerts(machine), *machine.slowdowns]
    before = [*_overcurrents(machine)]
    if now:
        yield Finding(
            "throttling",
            "throttling",
            f"now: {', '.join(now)}{_hottest(machine)}",
            "warning",
            "Cool it: fan, heat sink, room around it; or a lower power mode. Latency grows meanwhile.",
        )
    elif before:
        yield Finding(
            "throttling",
            "throttling",
            f"since the start: {', '.join(before)}",
            "warning",
            "Check the power supply and its cable, or take a lower power mode.",
        )
    elif machine.should_have_gpu:
        temperature = _hottest(machine)
        yield Finding("throttling", "throttling", f"none{temperature}")


def _alerts(machine: Machine) -> Iterator[str]:
    for folder in sorted(machine.root.glob("sys/class/thermal/cooling_device*")):
        base = str(folder.relative_to(machine.root))
        kind = machine.line(f"{base}/type") or ""
        if kind.endswith(_ALERTS) and (machine.number(f"{base}/cur_state") or 0) > 0:
            yield kind.removesuffix("-alert").removesuffix("-throttle")


def _overcurrents(machine: Machine) -> Iterator[str]:
    for at, name in enumerate(_OVERCURRENT, 1):
        for path in sorted(machine.root.glob(f"sys/class/hwmon/hwmon*/oc{at}_event_cnt")):
            count = machine.number(str(path.relative_to(machine.root))) or 0
            if count:
                yield f"{name} {count} times"


def _hottest(machine: Machine) -> str:
    """Such as ", hottest 51 C (gpu-thermal)"; empty where no zone tells."""
    degrees = [
        (milli // 1000, machine.line(f"{folder}/type") or "")
        for path in machine.root.glob("sys/class/thermal/thermal_zone*")
        if (milli := machine.number(f"{(folder := str(path.relative_to(machine.root)))}/temp")) is not None
    ]
    if not degrees:
        return ""
    most, zone = max(degrees)
    return f", hottest {most} C ({zone})" if zone else f", hottest {most} C"
