"""The report as tables: latency of one step, error and memory, camera to action and cold start."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .report import BundleReport, ColdStart, Latency, Machine, Memory, Parity, Report, Row

# wider than any table: a figure that is cut short to fit a narrow terminal would be another figure
COLUMNS = 160
FEW_RUNS = 100
UNSTEADY = 0.25  # standard deviation over mean
STYLES = {"ok": "", "wrong": "bold red", "failed": "red", "skipped": "dim"}


def print_report(report: Report, console: Console) -> None:
    """Print the machine and every bundle's tables; Markdown where the console is not a terminal."""
    _print_text(machine_line(report.machine, report.options.device, report.options.threads), console)
    for bundle in report.bundles:
        _print_bundle(bundle, console)
    for refused in report.refused:
        console.print()
        _print_text(f"{refused.path} refused: {refused.reason}", console, style=STYLES["failed"])


def machine_line(machine: Machine, device: str, threads: int) -> str:
    """One line: what the figures were made on."""
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    gpus = [
        f"{gpu.name} (sm{gpu.compute_capability.replace('.', '')}, driver {gpu.driver})"
        for gpu in machine.gpus
    ]
    where = ", ".join(gpus) if device == "cuda" else f"{machine.board or machine.cpu}, {threads} threads"
    return f"{device}: {where}; {versions}"


def _print_bundle(bundle: BundleReport, console: Console) -> None:
    """Heading, the two tables, and the reasons behind what is not plainly ok."""
    console.print()
    _print_text(
        f"{bundle.name}: {bundle.layout}, {bundle.parameters:,} parameters, {bundle.precision}; "
        f"weights of {bundle.source_file}: {bundle.weights_origin}",
        console,
        style="bold",
    )
    console.print()
    height, width = bundle.frame
    _print_table("One policy step on preprocessed input, ms", _latency_table(bundle), console)
    _print_table("Error against the golden actions; peak memory, MiB", _checks_table(bundle), console)
    caption = f"Policy.act from a {width}x{height} frame, ms; from process start to the first step, s"
    _print_table(caption, _start_table(bundle), console)
    for line in _remarks(bundle):
        _print_text(f"- {line}", console)


def _print_text(text: str, console: Console, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)


def _print_table(caption: str, table: Table, console: Console) -> None:
    _print_text(caption, console)
    if console.is_terminal:
        console.print(table)
        return
    table.box, table.pad_edge = box.MARKDOWN, True
    with console.capture() as capture:
        console.print(table)
    # rich draws the missing upper and lower edge of a Markdown table as lines of spaces
    lines = [line for line in capture.get().splitlines() if line.strip()]
    _print_text("\n".join(["", *lines, ""]), console)


def _table(words: tuple[str, ...], figures: tuple[str, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in words:
        table.add_column(name, no_wrap=True)
    for name in figures:
        table.add_column(name, no_wrap=True, justify="right")
    return table


def _latency_table(bundle: BundleReport) -> Table:
    figures = ("p50", "p90", "p99", "max", "std", "FPS", "GPU p50", "x FP32", "x FP16")
    table = _table(("backend", "result", "weights"), figures)
    for row in bundle.rows:
        result = row.status.upper() if row.status in ("wrong", "failed") else row.status
        on_gpu = _significant(row.device.p50_ms) if row.device else "-"
        ratios = (_ratio(row.speedup_over_torch_fp32), _ratio(row.speedup_over_torch_fp16))
        cells = (*_latency(row.step), on_gpu, *ratios)
        table.add_row(row.backend, result, _weights(row), *cells, style=STYLES[row.status])
    return table


def _checks_table(bundle: BundleReport) -> Table:
    figures = ("max m/s", "relative", "host anonymous", "host peak", "device")
    table = _table(("backend", "weights", "computes"), figures)
    for row in bundle.rows:
        computes = row.identity.compute.split(" ")[0] if row.identity else "-"
        cells = (*_errors(row.parity), *_memory(row.memory))
        table.add_row(row.backend, _weights(row), computes, *cells, style=STYLES[row.status])
    return table


def _start_table(bundle: BundleReport) -> Table:
    figures = ("act p50", "act p99", "interpreter", "import", "load", "first step", "total")
    table = _table(("backend", "weights"), figures)
    for row in bundle.rows:
        act = (_significant(row.act.p50_ms), _significant(row.act.p99_ms)) if row.act else ("-", "-")
        table.add_row(row.backend, _weights(row), *act, *_start(row.cold_start), style=STYLES[row.status])
    return table


def _weights(row: Row) -> str:
    """Whether the weights are real: on every line that has a figure."""
    return row.weights_origin.split(":", 1)[0]


def _latency(step: Latency | None) -> tuple[str, ...]:
    if step is None:
        return ("-",) * 6
    times = (step.p50_ms, step.p90_ms, step.p99_ms, step.max_ms, step.std_ms)
    return (*map(_significant, times), _significant(step.fps))


def _start(start: ColdStart | None) -> tuple[str, ...]:
    if start is None:
        return ("-",) * 5
    seconds = (start.interpreter_s, start.import_s, start.load_s, start.first_call_s, start.total_s)
    return tuple(_fixed(value, 2) for value in seconds)


def _errors(parity: Parity | None) -> tuple[str, str]:
    if parity is None:
        return "-", "-"
    if not parity.finite:
        return "NaN/inf", "NaN/inf"
    return _error(parity.max_abs_mps), _error(parity.relative_l2)


def _memory(memory: Memory | None) -> tuple[str, str, str]:
    if memory is None:
        return "-", "-", "-"
    values = (memory.host_anonymous_peak_mib, memory.host_peak_mib, memory.device_peak_mib)
    anonymous, peak, device = (_fixed(value, 0) for value in values)
    return anonymous, peak, device


def _remarks(bundle: BundleReport) -> Iterator[str]:
    for row in bundle.rows:
        if row.status != "ok":
            yield f"{row.backend} {row.status}: {row.reason}"
        if row.identity and row.identity.compute.split(" ")[0] != row.identity.precision:
            yield f"{row.backend}: a graph of {row.identity.precision}, computed in {row.identity.compute}"
        if row.warmup and not row.warmup.stable:
            yield f"{row.backend}: still not steady after {row.warmup.calls} warm-up calls"
        yield from (f"{row.backend}: {note}" for note in row.notes)
        if row.step and row.step.std_ms > UNSTEADY * row.step.mean_ms:
            spread = row.step.std_ms / row.step.mean_ms
            yield f"{row.backend}: samples spread by {spread:.0%} of their mean; was the machine busy?"
    few = [row.backend for row in bundle.rows if row.step and row.step.runs < FEW_RUNS]
    if few:
        yield f"fewer than {FEW_RUNS} runs, so p99 is little but the maximum: {', '.join(few)}"


def _significant(value: float) -> str:
    """Three digits, and never an exponent."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f}"


def _error(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}" if value else "0"


def _fixed(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
