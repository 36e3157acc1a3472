"""How figures and names are written, the same in every kind of report."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import TypeGuard

from vla_edge.bench.report.types import (
    Agreement,
    ColdStart,
    FloorDistance,
    Latency,
    Memory,
    Options,
    Paced,
    Parity,
    Row,
)

NOTHING = "-"
# letters of what files name, past which a mark stands for the rest: of a name, and of a sentence
NAME_LIMIT = 120
TEXT_LIMIT = 2000
CUT = "…"
# past these a figure is no time, no size and no ratio; written out it could have 300 digits
LARGEST, SMALLEST = 1e12, -1e12
REPLACEMENT = "\ufffd"
TRAINED = "checkpoint"

_ENGINES = {
    "onnxruntime": "ONNX Runtime",
    "tensorrt-rtx": "TensorRT-RTX",
    "tensorrt": "TensorRT",
    "torch": "PyTorch",
}
_WORDS = {
    "compile": "compiled",
    "cpu": "CPU",
    "cuda": "CUDA",
    "fp16": "FP16",
    "fp32": "FP32",
    "tf32": "TF32",
    "graph": "CUDA graph",
}
_LINE_BREAK = re.compile(r"\r\n|[\r\n\t\v\f\x85\u2028\u2029]")
# what a table's cell says of a status: what must not be overlooked stands in capitals
_STATUS_WORDS = {"wrong": "WRONG", "failed": "FAILED"}


def known(value: float | None) -> TypeGuard[float]:
    """Whether a figure is one: there, finite, and of a size that can be meant."""
    return value is not None and math.isfinite(value) and SMALLEST < value < LARGEST


def significant(value: float | None) -> str:
    """Three digits, and never an exponent."""
    if not known(value):
        return NOTHING
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f}"


def fixed(value: float | None, digits: int) -> str:
    return f"{value:,.{digits}f}" if known(value) else NOTHING


def exponent(value: float | None) -> str:
    """Two digits and an exponent, for errors; a plain 0 where there is none."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:.1e}" if value else "0"


def share(value: float) -> str:
    """A part of 1 as a percentage; below one percent with a decimal."""
    if not known(value):
        return NOTHING
    return f"{value:.1%}" if 0 < value < 0.01 else f"{value:.0%}"


def floor_p50_ms(floor: FloorDistance) -> float:
    """What `times_floor` was taken of: the device alone where it was timed, else the step."""
    return floor.ms * floor.times_floor


def factor(value: float | None) -> str:
    """A ratio as a table shows it."""
    return f"{value:.2f}" if known(value) else NOTHING


def times(value: float) -> str:
    """A ratio as a sentence says it: two digits, more only before the point."""
    if not known(value):
        return NOTHING
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def metres_per_second(value: float) -> str:
    """An action error as a sentence says it, never rounded down to nothing."""
    if not known(value):
        return NOTHING
    if value == 0:
        return "0 m/s"
    return f"{value:.3f} m/s" if value >= 0.001 else f"{value:.1e} m/s"


def plain_error(parity: Parity | None) -> str:
    """The largest difference in m/s as a decimal, where one can be read."""
    if parity is None or not parity.finite or parity.max_abs_mps is None:
        return error_cells(parity)[0]
    return metres_per_second(parity.max_abs_mps).split(" ")[0]


def latency_cells(step: Latency | None) -> tuple[str, ...]:
    """p50, p90, p99, maximum, standard deviation in ms, and calls a second."""
    if step is None:
        return (NOTHING,) * 6
    values = (step.p50_ms, step.p90_ms, step.p99_ms, step.max_ms, step.std_ms)
    return (*map(significant, values), significant(step.fps))


def start_cells(start: ColdStart | None) -> tuple[str, ...]:
    """Interpreter, import, load, first step and their total, in s."""
    if start is None:
        return (NOTHING,) * 5
    seconds = (start.interpreter_s, start.import_s, start.load_s, start.first_call_s, start.total_s)
    return tuple(fixed(value, 2) for value in seconds)


def error_cells(parity: Parity | None) -> tuple[str, str]:
    """Largest difference in m/s, and relative L2."""
    if parity is None:
        return NOTHING, NOTHING
    if not parity.finite:
        return "NaN/inf", "NaN/inf"
    return exponent(parity.max_abs_mps), exponent(parity.relative_l2)


def memory_cells(memory: Memory | None) -> tuple[str, str, str]:
    """Peaks in MiB: host anonymous, host resident, device."""
    if memory is None:
        return NOTHING, NOTHING, NOTHING
    values = (memory.host_anonymous_peak_mib, memory.host_peak_mib, memory.device_peak_mib)
    anonymous, resident, device = (fixed(value, 0) for value in values)
    return anonymous, resident, device


def paced_cells(paced: Paced) -> tuple[str, ...]:
    """Rate, deadline, p50, p99, p99 of waking late, ticks, misses, longest run of them."""
    return (
        f"{paced.rate_hz:g}",
        significant(paced.deadline_ms),
        significant(paced.latency.p50_ms),
        significant(paced.latency.p99_ms),
        significant(paced.wake.p99_ms),
        f"{paced.ticks:,}",
        f"{paced.misses:,}",
        f"{paced.longest_run_of_misses:,}",
    )


def agreement_cells(agreement: Agreement) -> tuple[str, ...]:
    """Frames, reference, largest, mean and last difference in m/s."""
    last = agreement.error_mps[-1] if agreement.error_mps else None
    return (
        f"{agreement.frames:,}",
        agreement.reference,
        exponent(agreement.max_mps),
        exponent(agreement.mean_mps),
        exponent(last),
    )


def status_word(status: str) -> str:
    return _STATUS_WORDS.get(status, status)


def weights_word(origin: str) -> str:
    """Whether the weights are real, in one word: "checkpoint", "sample", "random"."""
    return clipped(origin.split(":", 1)[0].strip(), 24) or "unknown"


def weights_name(origin: str) -> str:
    """The same for a person: "trained weights", "generated weights"."""
    return "trained weights" if has_trained_weights(origin) else "generated weights"


def other_weights(row_origin: str, origin: str) -> str:
    """What to call a row's weights where they are not of the kind of its bundle's; "" where they are."""
    word = weights_word(row_origin)
    if word == weights_word(origin):
        return ""
    return weights_name(row_origin) if word == TRAINED else f"{printable(word)} weights"


def has_trained_weights(origin: str) -> bool:
    """Only what is called a checkpoint's counts as trained."""
    return weights_word(origin) == TRAINED


def computes(row: Row) -> str:
    """The arithmetic that really ran, in one word."""
    return row.identity.compute.split(" ")[0] if row.identity else NOTHING


def backend_label(row: Row) -> str:
    """A backend as a person calls it: "torch-fp16-graph" is "PyTorch FP16 CUDA graph".

    An engine has its graph's precision, and what it was computed in where that is another.
    """
    kind = backend_kind(row.backend)
    engine = next((name for name in _ENGINES if re.match(rf"{name}(-|$)", kind)), None)
    if engine is None:
        return clipped(row.backend)
    rest = kind[len(engine) :].strip("-")
    words = [_WORDS.get(word, word) for word in rest.split("-")] if rest else []
    if row.identity and engine != "torch" and row.identity.precision not in rest:
        words.append(_WORDS.get(row.identity.precision, row.identity.precision))
    label = clipped(" ".join([_ENGINES[engine], *words]))
    computed = computes(row)
    if row.identity and engine != "torch" and computed != row.identity.precision:
        return f"{label} (in {_WORDS.get(computed, computed)})"
    return label


def backend_kind(name: str) -> str:
    """A backend's name without the workload that may stand before it: "torch-fp32" of "x:torch-fp32"."""
    return name.rpartition(":")[2]


def is_torch(name: str) -> bool:
    """Whether a backend is PyTorch in some form, and no engine."""
    return backend_kind(name).startswith("torch")


def printable(text: str) -> str:
    """Text on one line, without control, formatting and surrogate characters, each replaced by a mark.

    Names in a report come from files: an escape sequence must not reach a terminal, a bidirectional override
    must not turn a word round, and a control character must not make an SVG unreadable.
    """
    if text.isascii() and text.isprintable():
        return text
    text = _LINE_BREAK.sub(" ", text)
    return "".join(REPLACEMENT if unicodedata.category(char) in ("Cc", "Cf", "Cs") else char for char in text)


def clipped(text: str, limit: int = NAME_LIMIT) -> str:
    """A text of at most `limit` letters; what is cut off leaves a mark."""
    return text if len(text) <= limit else f"{text[: limit - 1]}{CUT}"


def command_line(options: Options, path: str) -> str:
    """The command that measures the same again."""
    import shlex

    words = ["vla-bench", shlex.quote(path), "--device", options.device, "--threads", str(options.threads)]
    for name in options.backends:
        words += ["--backends", shlex.quote(name)]
    if options.runs is not None:
        words += ["--runs", str(options.runs)]
    else:
        words += ["--seconds", f"{options.seconds:g}"]
    if options.warmup is not None:
        words += ["--warmup", str(options.warmup)]
    for workload in options.workloads if options.workloads != ("policy",) else ():
        words += ["--workload", shlex.quote(workload)]
    if options.quick:
        words.append("--quick")
    elif options.rate_hz is not None:
        words += ["--rate", f"{options.rate_hz:g}"]
    else:
        words += ["--rate", "0"]
    if options.images:
        words += ["--images", "FRAMES"]
    return " ".join([*words, "--time-limit", f"{options.time_limit_s:g}"])
