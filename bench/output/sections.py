"""What stands in a report's tables and remarks, apart from how it is laid out: Markdown and the page share it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from ..report import BundleReport, Forecast, Row, StandinReport, StandinRow
from .format import (
    NOTHING,
    agreement_cells,
    backend_label,
    computes,
    error_cells,
    factor,
    fixed,
    floor_p50_ms,
    latency_cells,
    memory_cells,
    paced_cells,
    plain_error,
    printable,
    share,
    significant,
    start_cells,
    status_word,
    weights_word,
)

GIGA = 1e9
LAYERS_SHOWN = 10


@dataclass(frozen=True)
class Line:
    """One line of a table; `status` is the row's, "" where the line is no backend's."""

    cells: tuple[str, ...]
    status: str = ""


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        key: what it shows, in one word.
        caption: with the units of its figures.
        words: headings of the columns that are text; the backend is the first.
        figures: headings of the columns that are numbers.
        lines: of as many cells as there are headings.
    """

    key: str
    caption: str
    words: tuple[str, ...]
    figures: tuple[str, ...]
    lines: tuple[Line, ...]

    def without_empty(self) -> Grid:
        """The same without the figures that no line has."""
        first = len(self.words)
        columns = range(first, len(self.headings))
        kept = [at for at in columns if any(line.cells[at] != NOTHING for line in self.lines)]
        lines = tuple(
            Line((*line.cells[:first], *(line.cells[at] for at in kept)), line.status) for line in self.lines
        )
        return replace(self, figures=tuple(self.headings[at] for at in kept), lines=lines)

    @property
    def headings(self) -> tuple[str, ...]:
        return (*self.words, *self.figures)


@dataclass(frozen=True)
class Remark:
    """What must be known beside a row's figures.

    `kind` is the row's status where it is not ok, "doubt: ..." for a reason not to trust, or "note".
    """

    backend: str
    kind: str
    text: str

    @property
    def grave(self) -> bool:
        """Whether the figures must not be read without it."""
        return self.kind != "note"


def bundle_grids(bundle: BundleReport) -> tuple[Grid, ...]:
    """The tables of a bundle that have something to show; latency is always the first."""
    grids = (
        latency_grid(bundle.rows),
        checks_grid(bundle.rows),
        start_grid(bundle),
        _paced_grid(bundle.rows),
        _energy_grid(bundle.rows),
        _floor_grid(bundle.rows),
        _stage_grid(bundle.rows),
        _layer_grid(bundle.rows),
        _prompt_grid(bundle.rows),
        _agreement_grid(bundle.rows),
        _growth_grid(bundle.rows),
    )
    return tuple(grid.without_empty() for grid in grids if grid.lines)


def summary_grid(rows: Iterable[Row]) -> Grid:
    """What matters most of each backend, in one line."""

    def cells(row: Row) -> tuple[str, ...]:
        anonymous, _, device = memory_cells(row.memory)
        step = row.step
        return (
            backend_label(row),
            status_word(row.status),
            significant(step.p50_ms if step else None),
            significant(step.p99_ms if step else None),
            factor(row.speedup_over_torch_fp32),
            plain_error(row.parity),
            device,
            anonymous,
            significant(row.energy.joules_per_step if row.energy else None),
        )

    figures = ("p50 ms", "p99 ms", "x FP32", "error m/s", "device MiB", "host MiB", "J a step")
    lines = tuple(_line(row, cells(row), marked=False) for row in rows)
    return Grid("summary", "One policy step", ("backend", "result"), figures, lines).without_empty()


def latency_grid(rows: Iterable[Row]) -> Grid:
    figures = ("p50", "p90", "p99", "max", "std", "FPS", "GPU p50", "x FP32", "x FP16")

    def cells(row: Row) -> tuple[str, ...]:
        on_gpu = significant(row.device.p50_ms) if row.device else NOTHING
        ratios = (factor(row.speedup_over_torch_fp32), factor(row.speedup_over_torch_fp16))
        return (
            row.backend,
            status_word(row.status),
            weights_word(row.weights_origin),
            *latency_cells(row.step),
            on_gpu,
            *ratios,
        )

    lines = tuple(_line(row, cells(row), marked=False) for row in rows)
    caption = "One policy step on preprocessed input, ms"
    return Grid("latency", caption, ("backend", "result", "weights"), figures, lines)


def checks_grid(rows: Iterable[Row]) -> Grid:
    figures = ("max m/s", "relative", "host anonymous", "host peak", "device")
    lines = tuple(
        _line(
            row,
            (
                row.backend,
                weights_word(row.weights_origin),
                computes(row),
                *error_cells(row.parity),
                *memory_cells(row.memory),
            ),
        )
        for row in rows
    )
    caption = "Error against the golden actions; peak memory, MiB"
    return Grid("checks", caption, ("backend", "weights", "computes"), figures, lines)


def start_grid(bundle: BundleReport) -> Grid:
    height, width = bundle.frame
    figures = (
        "act p50",
        "act p99",
        "preprocess p50",
        "interpreter",
        "import",
        "load",
        "first step",
        "total",
        "of it compile",
    )

    def cells(row: Row) -> tuple[str, ...]:
        act = (row.act.p50_ms, row.act.p99_ms) if row.act else (None, None)
        return (
            *map(significant, (*act, row.preprocess.p50_ms if row.preprocess else None)),
            *start_cells(row.cold_start),
            fixed(row.compile_s, 2),
        )

    caption = f"Policy.act from a {width}x{height} frame, ms; from process start to the first step, s"
    return _grid("start", caption, figures, bundle.rows, cells)


def _grid(
    key: str,
    caption: str,
    figures: tuple[str, ...],
    rows: Iterable[Row],
    cells: Callable[[Row], tuple[str, ...]],
    has: Callable[[Row], object] = lambda row: True,
) -> Grid:
    """A table of backend, weights and figures, with a line for each row that `has` what it shows."""
    lines = tuple(
        _line(row, (row.backend, weights_word(row.weights_origin), *cells(row))) for row in rows if has(row)
    )
    return Grid(key, caption, ("backend", "weights"), figures, lines)


def _line(row: Row, cells: tuple[str, ...], *, marked: bool = True) -> Line:
    """A row's line; `marked` has a wrong one say so beside its name, for tables without a result column."""
    name, *others = map(printable, cells)
    mark = " (WRONG)" if marked and row.status == "wrong" else ""
    return Line((f"{name}{mark}", *others), row.status)


def _paced_grid(rows: Iterable[Row]) -> Grid:
    figures = (
        "rate Hz",
        "deadline",
        "p50",
        "p99",
        "woken late p99",
        "ticks",
        "misses",
        "longest run",
    )
    caption = "A loop at a fixed rate that sleeps in between, from tick to answer, ms"
    return _grid(
        "paced",
        caption,
        figures,
        rows,
        lambda row: paced_cells(row.paced) if row.paced else (),
        lambda row: row.paced,
    )


def _energy_grid(rows: Iterable[Row]) -> Grid:
    def cells(row: Row) -> tuple[str, ...]:
        energy = row.energy
        return (significant(energy.joules_per_step), significant(energy.mean_power_w)) if energy else ()

    caption = "Energy of the whole device while steps were timed, idle power included"
    grid = _grid("energy", caption, ("J a step", "mean W"), rows, cells, lambda row: row.energy)
    methods = sorted({row.energy.method for row in rows if row.energy})
    return replace(grid, caption=f"{caption} ({', '.join(methods)})")


def _floor_grid(rows: Iterable[Row]) -> Grid:
    figures = ("GB read", "GFLOP", "memory", "compute", "floor", "measured p50", "x floor")

    def cells(row: Row) -> tuple[str, ...]:
        floor = row.floor
        if floor is None:
            return ()
        return (
            significant(floor.bytes_read / GIGA),
            significant(floor.operations / GIGA),
            *map(significant, (floor.memory_ms, floor.compute_ms, floor.ms)),
            significant(floor_p50_ms(floor)),
            factor(floor.times_floor),
        )

    caption = (
        "The least time that this device could take, by its measured rates, ms; "
        "measured is the GPU alone where it was timed, else the step"
    )
    return _grid("floor", caption, figures, rows, cells, lambda row: row.floor)


def _stage_grid(rows: Iterable[Row]) -> Grid:
    lines = tuple(
        _line(
            row,
            (
                row.backend,
                weights_word(row.weights_origin),
                stage.stage,
                row.profile.source,
                significant(stage.ms),
                share(stage.share),
            ),
        )
        for row in rows
        if row.profile
        for stage in row.profile.stages
    )
    caption = "Where one step's time goes, ms; measured apart, since profiling slows it"
    return Grid(
        "stages", caption, ("backend", "weights", "stage", "measured by"), ("mean", "of profile"), lines
    )


def _layer_grid(rows: Iterable[Row]) -> Grid:
    lines = tuple(
        _line(
            row,
            (
                row.backend,
                weights_word(row.weights_origin),
                layer.stage,
                layer.name,
                significant(layer.ms),
                share(layer.share),
            ),
        )
        for row in rows
        if row.profile
        for layer in row.profile.layers[:LAYERS_SHOWN]
    )
    caption = "Slowest layers, mean ms a step"
    return Grid("layers", caption, ("backend", "weights", "stage", "layer"), ("mean", "of profile"), lines)


def _prompt_grid(rows: Iterable[Row]) -> Grid:
    rows = tuple(rows)
    lengths = sorted({prompt.tokens for row in rows for prompt in row.prompts})

    def cells(row: Row) -> tuple[str, ...]:
        p50_ms = {prompt.tokens: prompt.p50_ms for prompt in row.prompts}
        return tuple(significant(p50_ms.get(length)) for length in lengths)

    caption = "One step by the instruction's length, p50 in ms"
    figures = tuple(f"{length} tokens" for length in lengths)
    return _grid("prompts", caption, figures, rows, cells, lambda row: row.prompts)


def _agreement_grid(rows: Iterable[Row]) -> Grid:
    lines = tuple(
        _line(row, (row.backend, weights_word(row.weights_origin), cells[1], cells[0], *cells[2:]))
        for row in rows
        if row.agreement
        for cells in (agreement_cells(row.agreement),)
    )
    caption = "Actions on your own frames, difference in m/s"
    return Grid(
        "agreement",
        caption,
        ("backend", "weights", "against"),
        ("frames", "max", "mean", "last frame"),
        lines,
    )


def _growth_grid(rows: Iterable[Row]) -> Grid:
    def cells(row: Row) -> tuple[str, ...]:
        growth = row.growth
        if growth is None:
            return ()
        return f"{growth.steps:,}", fixed(growth.host_anonymous_mib, 1), fixed(growth.device_mib, 1)

    caption = "What the process held more after the timed steps than before, MiB"
    return _grid(
        "growth", caption, ("steps", "host anonymous", "device"), rows, cells, lambda row: row.growth
    )


def remarks(rows: Iterable[Row]) -> Iterator[Remark]:
    """Everything to know beside the figures, row by row: the reason of a status first, then the doubts."""
    for row in rows:
        yield from row_remarks(row)


def row_remarks(row: Row) -> Iterator[Remark]:
    if row.status != "ok":
        yield Remark(printable(row.backend), row.status, printable(row.reason))
    yield from (
        Remark(printable(row.backend), f"doubt: {doubt.kind}", printable(doubt.text)) for doubt in row.doubts
    )
    told = any(doubt.kind == "cold" for doubt in row.doubts)
    if row.warmup and not row.warmup.stable and not told:
        text = f"still not steady after {row.warmup.calls} warm-up calls"
        yield Remark(printable(row.backend), "doubt: warm-up", text)
    if row.identity and computes(row) != row.identity.precision:
        text = f"a graph of {row.identity.precision}, computed in {row.identity.compute}"
        yield Remark(printable(row.backend), "note", printable(text))
    yield from (Remark(printable(row.backend), "note", printable(note)) for note in row.notes)


def standin_grid(standin: StandinReport) -> Grid:
    """The stand-in: what PyTorch's allocator held beside what the bytes of its shapes explain."""
    figures = ("p50", "p99", "FPS", "x FP32", "max m/s", "allocator", "explained", "off by", "device")

    def cells(item: StandinRow) -> tuple[str, ...]:
        row, step, memory = item.row, item.row.step, item.row.memory
        allocated_mib = memory.torch_allocator_peak_mib if memory else None
        return (
            row.backend,
            status_word(row.status),
            item.protocol,
            *((significant(step.p50_ms), significant(step.p99_ms), significant(step.fps)) if step else "---"),
            factor(row.speedup_over_torch_fp32),
            error_cells(row.parity)[0],
            fixed(allocated_mib, 0),
            fixed(item.explained_mib, 0),
            _off_by(allocated_mib, item.explained_mib),
            memory_cells(memory)[2],
        )

    lines = tuple(_line(item.row, cells(item), marked=False) for item in standin.rows)
    caption = "The random stand-in, one step, ms; peak memory of PyTorch's allocator and of the device, MiB"
    return Grid("standin", caption, ("backend", "result", "protocol"), figures, lines).without_empty()


def _off_by(measured: float | None, explained: float | None) -> str:
    return NOTHING if measured is None or not explained else f"{measured / explained - 1:+.1%}"


def claims_grid(standin: StandinReport) -> Grid:
    """The published table, with its speed-up beside the one measured here."""
    lines = tuple(
        Line(
            (
                printable(claim.model),
                significant(claim.fp32_ms),
                significant(claim.fp16_ms),
                factor(claim.fp32_ms / claim.fp16_ms if claim.fp16_ms else None),
                fixed(claim.fp32_memory_mb, 0),
                fixed(claim.fp16_memory_mb, 0),
            )
        )
        for claim in standin.claims
    )
    caption = "Published for this stand-in under the names of models; not measured here"
    figures = ("FP32 ms", "FP16 ms", "FP32 / FP16", "FP32 MB", "FP16 MB")
    return Grid("claims", caption, ("published as",), figures, lines)


def forecast_grid(forecast: Forecast) -> Grid:
    lines = tuple(
        Line(
            (
                printable(row.device),
                "prediction",
                printable(row.source),
                significant(row.memory_gb_s),
                significant(row.fp16_tflops),
                significant(row.floor_ms),
                significant(row.expected_ms),
            )
        )
        for row in forecast.rows
    )
    caption = (
        f"PREDICTION for {printable(forecast.bundle)}, ms, from published figures; measured on none of these "
        f"({significant(forecast.bytes_read / GIGA)} GB read, {significant(forecast.operations / GIGA)} GFLOP)"
    )
    figures = ("GB/s", "FP16 TFLOPS", "floor", "expected")
    return Grid("forecast", caption, ("device", "kind", "source"), figures, lines)
