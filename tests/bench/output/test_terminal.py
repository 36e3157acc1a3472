"""The text that a person reads, on a terminal of any width and through a pipe."""

from __future__ import annotations

import io
import re
from pathlib import Path

import golden_reports
import msgspec
import pytest
from bench_examples import example_report, full_report, full_row, measured_row, stretched_report
from rich.cells import cell_len
from rich.console import Console

from vla_edge.bench.harness.rows import with_speedups
from vla_edge.bench.measure.timing import summarise
from vla_edge.bench.output.markdown import to_markdown
from vla_edge.bench.output.tables.sections import bundle_grids, latency_grid, summary_grid
from vla_edge.bench.output.terminal import print_report
from vla_edge.bench.report.codec import decode
from vla_edge.bench.report.types import Doubt, Report, Row

KEPT = Path(__file__).parents[3] / "bench" / "results"
WIDTHS = (40, 60, 80, 100, 120, 160, 240)
_STYLE = re.compile(r"\x1b\[[0-9;]*m")


def printed(report: Report | None = None, **console: object) -> str:
    file = io.StringIO()
    full = bool(console.pop("full", False))
    screen = Console(file=file, **{"width": 200, **console})  # type: ignore[arg-type]
    print_report(report or example_report(), screen, full=full)
    return file.getvalue()


def on_terminal(report: Report | None = None, width: int = 200, *, full: bool = False) -> str:
    return _STYLE.sub("", printed(report, force_terminal=True, width=width, full=full))


def kept(name: str) -> Report:
    return decode((KEPT / name).read_bytes(), name)


def with_bundle(report: Report | None = None, **changes: object) -> Report:
    report = report or example_report()
    bundle = msgspec.structs.replace(report.bundles[0], **changes)
    return msgspec.structs.replace(report, bundles=(bundle, *report.bundles[1:]))


@pytest.mark.parametrize(("backend", "precision"), [("torch-fp32", "fp32"), ("torch-fp16", "fp16")])
def test_there_is_no_ratio_to_a_pytorch_that_is_wrong(backend: str, precision: str) -> None:
    wrong = full_row(backend, precision, 21.5, 0.36, 4504, 1460, status="wrong", reason="off")
    fast = full_row("tensorrt", "fp16", 3.0, 0.01, 3000, 400)
    heading = f"x {precision.upper()}"
    assert heading not in latency_grid((wrong, fast)).without_empty().headings
    assert heading not in summary_grid((wrong, fast)).headings
    assert getattr(with_speedups((wrong, fast))[1], f"speedup_over_{backend.replace('-', '_')}") is None


def test_the_example_gives_these_bytes_through_a_pipe() -> None:
    assert golden_reports.in_a_terminal() == golden_reports.TERMINAL.read_text(encoding="utf-8")


@pytest.mark.parametrize("report", [example_report(), full_report()])
def test_a_pipe_gets_no_markup_and_no_escape(report: Report) -> None:
    shown = printed(report)
    assert not re.search(r"\\[|~#$*`_]|&(amp|lt|gt);|\*\*|\||<details>|\x1b", shown)


def test_a_name_is_itself_through_a_pipe() -> None:
    shown = printed(with_bundle(name="left_arm|v2 <best> & `more` [1]*"))
    assert "left_arm|v2 <best> & `more` [1]*" in shown


@pytest.mark.parametrize("width", WIDTHS)
def test_the_answer_is_the_first_line_of_every_screen(width: int) -> None:
    words = " ".join(on_terminal(full_report(), width).split())
    assert words.startswith(
        "TensorRT FP16 answers in 3.74 ms, 8.0x faster than PyTorch FP32 (PyTorch's figure is in doubt); "
        "right within 0.014 m/s hybrid-fp16 on"
    )


@pytest.mark.parametrize("name", ["h100.json", "h200.json"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("full", [False, True], ids=["brief", "full"])
def test_no_line_of_a_screen_is_wider_than_it(name: str, width: int, full: bool) -> None:
    assert max(map(len, on_terminal(kept(name), width, full=full).splitlines())) <= width


def test_a_first_look_has_the_summary_the_doubts_and_a_line_on_what_else_there_is() -> None:
    shown = on_terminal(full_report(), 120)
    assert "more figures" not in shown
    assert "[1]" not in shown
    assert "RTX 4090" not in shown
    more = shown[shown.index("More: all of it with --full, through a pipe, and in the files of --out") :]
    for grid in bundle_grids(full_report().bundles[0]):
        assert f"- {re.split('[,;(]', grid.caption)[0].strip()}\n" in more
    assert "- Other devices: PREDICTION (1 bundle)\n" in more
    assert "The stand-in, 438,997,250 random parameters" in shown


@pytest.mark.parametrize("report", [example_report(), full_report(), kept("h100.json")])
def test_a_first_look_is_no_longer_than_half_of_everything(report: Report) -> None:
    brief, whole = on_terminal(report, 80), on_terminal(report, 80, full=True)
    assert len(brief.splitlines()) < 0.6 * len(whole.splitlines())
    assert "RTX 4090" in on_terminal(full_report(), 80, full=True)


@pytest.mark.parametrize("report", [example_report(), full_report()])
def test_a_pipe_has_everything_whether_it_is_asked_for_or_not(report: Report) -> None:
    assert printed(report) == printed(report, full=True)
    assert "--full" not in printed(report)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_screen_of_any_width_has_every_figure(width: int) -> None:
    wide = set(re.findall(r"\d[\d,.e+-]*", on_terminal(kept("h100.json"), 400, full=True)))
    narrow = set(re.findall(r"\d[\d,.e+-]*", on_terminal(kept("h100.json"), width, full=True)))
    # a word such as "2026-11-25T16:55:38" may be folded
    assert {figure for figure in wide - narrow if re.fullmatch(r"[\d,]+(\.\d+)?(e[+-]\d+)?", figure)} <= {
        "1,859,579,651",
        "1,703,973,122",
    }


@pytest.mark.parametrize("width", [60, 80, 240])
def test_predictions_show_their_figures_before_their_sources(width: int) -> None:
    shown = on_terminal(kept("h100.json"), width, full=True)
    table = shown[shown.index("PREDICTION for best_simple_clip") :]
    row = next(line for line in table.splitlines() if line.startswith("Jetson AGX Orin"))
    assert "55.7" in row
    assert shown.count("NVIDIA Jetson AGX Orin Series Technical Brief") == 1
    assert table.index("55.7") < table.index("[5] NVIDIA Jetson AGX Orin")


def test_the_answer_is_told_again_below_a_screen_that_it_does_not_fit() -> None:
    answer = "TensorRT FP16 answers in 3.74 ms"
    assert on_terminal(full_report()).count(answer) == 2
    assert printed(full_report()).count(answer) == 1
    assert printed(full_report(), force_terminal=True, height=1000).count(answer) == 1


def test_a_terminal_is_told_of_everything_that_speaks_against_a_row() -> None:
    shown = on_terminal(full_report(), 300)
    rows = [row for bundle in full_report().bundles for row in bundle.rows]
    for text in [doubt.text for row in rows for doubt in row.doubts]:
        assert text in shown
    for row in rows:
        assert row.reason in shown


def test_a_remark_on_several_backends_is_told_once() -> None:
    rows = [measured_row(name, (1.0, 1.0), notes=("copied in",)) for name in ("tensorrt", "onnxruntime")]
    assert printed(with_bundle(rows=tuple(rows))).count("copied in") == 1


def test_what_failed_and_what_was_refused_stand_before_any_table() -> None:
    shown = on_terminal()
    table = shown.index("p50 ms")
    assert shown.index("FAILED: TensorRT of policy-fp16: killed by SIGSEGV in phase 'load'") < table
    assert shown.index("REFUSED: /robot/engines/torn: model.onnx.data is truncated") < table
    unfinished = msgspec.structs.replace(example_report(), complete=False)
    assert on_terminal(unfinished).index("UNFINISHED: this report: the command was ended") < table


def test_a_short_run_is_a_note_and_no_doubt() -> None:
    few = Doubt(kind="few-runs", text="p99 of 20 runs is little but the maximum")
    rows = tuple(msgspec.structs.replace(row, doubts=(few,)) for row in full_report().bundles[0].rows)
    report = with_bundle(full_report(), rows=rows)
    report = msgspec.structs.replace(report, options=msgspec.structs.replace(report.options, quick=True))
    assert "doubt" not in on_terminal(report)
    for shown in (printed(report), on_terminal(report, full=True)):
        assert "doubt" not in shown.replace("doubt it", "")
        assert "note: p99 of 20 runs" in " ".join(shown.split())
        assert "A short run (--quick)" in shown
        assert shown.index("note: p99 of 20 runs") > shown.index("more figures")


def test_where_nothing_ran_there_are_no_tables_of_names_alone() -> None:
    rows = tuple(
        Row(row.backend, "failed", reason="no CUDA", weights_origin=row.weights_origin)
        for row in example_report().bundles[0].rows
    )
    shown = printed(with_bundle(rows=rows))
    assert "FAILED: " in shown
    assert len(re.findall("^------", shown, re.MULTILINE)) == 1, "under the head of the summary"
    assert "more figures" not in shown


def test_generated_weights_are_said_once_and_rows_that_differ_say_so() -> None:
    same = printed(full_report())
    assert same.count("Generated weights") == 1
    assert " sample " not in same[same.index("p50 ms") : same.index("more figures")]
    rows = (
        measured_row("torch-fp32", (1.0, 1.0), weights_origin="random: seed 0"),
        *example_report().bundles[0].rows[1:],
    )
    shown = printed(with_bundle(rows=rows))
    line = next(line for line in shown.splitlines() if line.startswith("PyTorch FP32  "))
    assert line.split()[:4] == ["PyTorch", "FP32", "ok", "random"]


def test_real_weights_are_not_called_generated() -> None:
    row = measured_row("onnxruntime", (1.0, 1.0), weights_origin="checkpoint")
    shown = printed(with_bundle(rows=(row,), weights_origin="checkpoint"))
    assert "enerated" not in shown
    assert "sample" not in shown.replace("samples", "")


def figures_of(shown: str, caption: str, backend: str) -> dict[str, str]:
    """A row of the table below a caption, by the heading of each column."""
    lines = shown[shown.index(caption) :].splitlines()
    rule = lines[2]
    edges = [match.span() for match in re.finditer("-+", rule)]
    row = next(line for line in lines if line.startswith(backend))
    return {lines[1][a:b].strip(): row[a:b].strip() for a, b in edges}


def test_every_figure_stands_under_its_own_heading() -> None:
    row = measured_row("torch-fp16", (8.0,) * 100, device=summarise((7.5,)), speedup_over_torch_fp32=1.5)
    shown = printed(with_bundle(rows=(row,)))
    assert figures_of(shown, "One policy step on preprocessed input", "PyTorch FP16") == {
        "backend": "PyTorch FP16",
        "result": "ok",
        "p50": "8.00",
        "p90": "8.00",
        "p99": "8.00",
        "max": "8.00",
        "std": "0.000",
        "FPS": "125",
        "GPU p50": "7.50",
        "x FP32": "1.50",
    }


HOSTILE = (
    "\x1b[31mred\x1b[0m\x07",
    "evil\u202egnp.exe",
    "a\r\nb\u2028c\x85d",
    "[bold]markup[/bold] [/]",
    "カメラ" * 30,
    "x" * 100_000,
    "z\u200d\u2066\ufeff\x00",
)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("width", [40, 120])
def test_a_hostile_name_stays_text_and_inside_the_screen(name: str, width: int) -> None:
    row = measured_row(name, (1.0, 2.0), reason=name, status="failed", notes=(name,), weights_origin=name)
    machine = msgspec.structs.replace(example_report().machine, cpu=name, versions={name: name})
    report = msgspec.structs.replace(
        with_bundle(name=name, layout=name, source_file=name, precision=name, rows=(row,)), machine=machine
    )
    shown = on_terminal(report, width)
    assert max(map(cell_len, shown.split("\n"))) <= width
    for text in (shown, printed(report)):
        assert not re.search(
            "[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\u200d\ufeff]", text
        )
        assert len(text) < 60_000
    if "[" in name and "\x1b" not in name:
        assert "[bold]markup[/bold]" in printed(report)


def test_an_output_without_unicode_still_gets_the_report() -> None:
    raw = io.BytesIO()
    report = with_bundle(name="컵 " + "n" * 200)
    file = io.TextIOWrapper(raw, "ascii", write_through=True)
    print_report(report, Console(file=file, width=80))
    shown = raw.getvalue().decode("ascii")
    assert "\\ucef5 nnn" in shown
    assert "n..." in shown


def test_thousands_of_rows_are_a_table_in_seconds() -> None:
    rows = tuple(measured_row(f"backend-{at}", (1.0, 2.0)) for at in range(3000))
    shown = on_terminal(with_bundle(rows=rows), 80)
    assert "backend-2999" in shown


@pytest.mark.parametrize("value", [9e99, 1e15, 5e-324, 0.0])
def test_figures_that_no_run_can_have_are_no_figures(value: float) -> None:
    report = stretched_report(value)
    for shown in (printed(report), on_terminal(report, 80), to_markdown(report)):
        assert not re.search(r"\bnan\b|\binf\b|\d{60}", shown)
