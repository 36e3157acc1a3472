"""The plots: what is drawn, and how it becomes part of a page."""

from __future__ import annotations

import re
import warnings
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest
from bench_examples import example_report, full_report, full_row, measured_row
from matplotlib.collections import LineCollection

from vla_edge.bench.output.format import significant, times
from vla_edge.bench.output.plots.error_plot import error_plot
from vla_edge.bench.output.plots.lanes import Heading, Lanes
from vla_edge.bench.output.plots.memory_plots import memory_plot, phases_plot
from vla_edge.bench.output.plots.plots import (
    bundle_plots,
    drift_plot,
    floor_plot,
    latency_plot,
    paced_plot,
    stages_plot,
)
from vla_edge.bench.output.plots.standin_plots import standin_plots
from vla_edge.bench.output.plots.svg import HALF, NARROW, WIDE, Plot, render, to_svg
from vla_edge.bench.report.types import Doubt, Parity

ROWS = full_report().bundles[0].rows


def words(svg: str) -> list[str]:
    """The texts of a drawing."""
    return [
        element.text or "" for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("}text")
    ]


def drawn(plot: Plot | None, canvas=HALF) -> str:
    assert plot is not None
    return to_svg(plot.draw, canvas, "p", plot.title)


def test_a_full_report_has_every_plot() -> None:
    (bundle,) = full_report().bundles
    assert [plot.key for plot in bundle_plots(bundle)] == [
        "latency",
        "error",
        "floor",
        "memory",
        "phases",
        "stages",
        "start",
        "paced",
        "wake",
        "drift",
    ]


def test_plots_without_data_are_left_out() -> None:
    (bundle,) = example_report().bundles
    assert [plot.key for plot in bundle_plots(bundle)] == ["latency", "error", "memory", "phases", "start"]
    assert bundle_plots(msgspec.structs.replace(bundle, rows=())) == ()


def test_figures_of_the_latency_plot_are_those_of_the_report() -> None:
    texts = words(drawn(latency_plot(ROWS), WIDE))
    for row in ROWS:
        if row.step:
            p50, p99 = significant(row.step.p50_ms), significant(row.step.p99_ms)
            assert f"p50 {p50} ms, p99 {p99} ms" in texts


def test_the_p50_mark_is_at_the_median() -> None:
    samples = tuple(float(value) for value in np.linspace(1, 3, 101))
    plot = latency_plot((measured_row("onnxruntime", samples),))
    assert plot is not None
    axes = plot.draw(WIDE).axes[0]
    lines = [item for item in axes.collections if isinstance(item, LineCollection)]
    upright = [start[0] for line in lines for start, end in line.get_segments() if start[0] == end[0]]
    assert upright == [pytest.approx(2.0), pytest.approx(2.98)]


def test_a_wrong_row_says_so_in_words_and_colour() -> None:
    for plot in (latency_plot(ROWS), error_plot(ROWS), floor_plot(ROWS), memory_plot(ROWS), paced_plot(ROWS)):
        svg = drawn(plot, WIDE)
        assert "PyTorch FP16 CUDA graph · WRONG" in words(svg)
        assert "var(--wrong)" in svg


def test_a_doubted_row_says_so() -> None:
    assert "PyTorch FP32 · in doubt" in words(drawn(latency_plot(ROWS)))


def test_actions_that_are_not_finite_are_named_since_they_cannot_be_drawn() -> None:
    nan = Parity(calls=1, samples=1, finite=False, max_abs_mps=None, relative_l2=None)
    rows = (*ROWS[:2], full_row("tensorrt", "fp16", 1.0, 0.0, 1, 1, status="wrong", parity=nan))
    plot = error_plot(rows)
    assert plot is not None
    assert plot.caption.endswith("since its actions are NaN or infinite: TensorRT FP16.")


def test_of_many_actions_that_are_not_finite_the_others_are_counted() -> None:
    nan = Parity(calls=1, samples=1, finite=False, max_abs_mps=None, relative_l2=None)
    hidden = (measured_row(f"b{at}", (1.0, 2.0), status="wrong", parity=nan) for at in range(19))
    plot = error_plot((*ROWS[:2], *hidden))
    assert plot is not None
    assert plot.caption.endswith("b14, b15 and 3 more.")


@pytest.mark.parametrize(("count", "said"), [(16, ""), (17, "17"), (40, "40")])
def test_names_that_a_drawing_has_no_room_for_are_counted_below_it(count: int, said: str) -> None:
    assert ROWS[6].profile is not None
    assert ROWS[6].memory is not None
    profile, memory = ROWS[6].profile, ROWS[6].memory
    stages = tuple(msgspec.structs.replace(profile.stages[0], stage=f"s{at}") for at in range(count))
    phases = tuple(msgspec.structs.replace(memory.phases[0], phase=f"p{at}") for at in range(count))
    row = msgspec.structs.replace(
        ROWS[6],
        profile=msgspec.structs.replace(profile, stages=stages),
        memory=msgspec.structs.replace(memory, phases=phases),
    )
    for plot, word in ((stages_plot((row,)), "stages"), (phases_plot((row,)), "phases")):
        assert plot is not None
        told = f" Only the first 16 of {said} {word} are drawn."
        assert plot.caption.endswith(told) if said else "Only the first" not in plot.caption


def test_names_of_the_error_plot_do_not_cover_each_other() -> None:
    plot = error_plot(ROWS)
    assert plot is not None
    for canvas in (HALF, NARROW):
        boxes = [text.get_window_extent() for text in plot.draw(canvas).axes[0].texts]
        assert len(boxes) == 7
        covered = [(a, b) for at, a in enumerate(boxes) for b in boxes[:at] if a.shrunk(0.9, 0.7).overlaps(b)]
        assert covered == []


def test_the_floor_plot_says_how_far_each_row_is() -> None:
    texts = words(drawn(floor_plot(ROWS)))
    assert [text for text in texts if text.endswith("× floor")] == [
        f"{times(row.floor.times_floor)} × floor" for row in ROWS if row.floor
    ]


def test_stages_fill_the_whole_bar() -> None:
    plot = stages_plot(ROWS[:1])
    assert plot is not None
    bars = plot.draw(HALF).axes[0].patches
    assert sum(bar.get_width() for bar in bars) == pytest.approx(100)


def test_the_deadline_is_drawn_and_named() -> None:
    plot = paced_plot(ROWS)
    assert plot is not None
    assert plot.caption.endswith("Dashed: the deadline of 100 ms.")
    assert any(list(line.get_xdata()) == [100, 100] for line in plot.draw(HALF).axes[0].lines)


def test_drift_follows_the_frames() -> None:
    plot = drift_plot(ROWS)
    assert plot is not None
    lines = plot.draw(HALF).axes[0].lines
    assert [tuple(line.get_ydata()) for line in lines] == [
        row.agreement.error_mps for row in ROWS if row.agreement
    ]


def test_the_stand_in_stands_beside_what_was_published() -> None:
    memory, latency = standin_plots(full_report().standin)
    assert {"weights", "flattened copy of the RNN", "workspace"} == {name for _, name in memory.legend}
    texts = words(drawn(latency))
    assert "published: pure Kosmos-2, FP32" in texts
    assert "2.50 ms" in texts


def test_text_is_text_and_colours_are_the_page_s() -> None:
    svg = drawn(latency_plot(ROWS))
    assert "font-family" not in svg
    assert not re.search(r"#fe[0-9a-f]{2}fd", svg)
    colours = set(re.findall(r"(?:fill|stroke): ?(#[0-9a-f]{6})", svg))
    assert colours <= {"#000000", "#ffffff"}


def test_no_two_drawings_of_one_plot_share_an_id() -> None:
    drawings = [render(latency_plot(ROWS), prefix) for prefix in ("b3", "b4")]
    ids = [
        re.findall(r'\sid="([^"]+)"', svg) for drawing in drawings for svg in (drawing.wide, drawing.narrow)
    ]
    assert all(ids)
    assert len({name for one in ids for name in one}) == sum(map(len, ids))


def test_the_narrow_drawing_is_for_a_phone() -> None:
    assert 'viewBox="0 0 330 ' in render(latency_plot(ROWS), "b").narrow


def test_drawing_is_deterministic_and_undated() -> None:
    assert drawn(memory_plot(ROWS)) == drawn(memory_plot(ROWS))
    assert "metadata" not in drawn(memory_plot(ROWS))
    assert "date" not in drawn(memory_plot(ROWS)).lower()


def test_a_long_name_and_its_figure_take_two_lines_on_a_phone_only() -> None:
    headings = [
        Heading("TensorRT FP16", "3 ms"),
        Heading("PyTorch FP16 CUDA graph", "device 4,720, host 1,460"),
    ]
    heights = {
        canvas: Lanes(canvas, headings, 10, "ms").top(1) - Lanes(canvas, headings, 10, "ms").top(0)
        for canvas in (HALF, NARROW)
    }
    assert heights[NARROW] > heights[HALF]


@pytest.mark.parametrize("name", ["$x$ $\\frac$", "a\x00b\x1b", "한국어", "x" * 500, "<b>&amp;"])
def test_any_name_can_be_drawn(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = drawn(latency_plot((measured_row(name, (1.0, 2.0)), ROWS[0])))
    assert len(words(svg)[-4]) < 100
    assert "\x1b" not in svg


def x_axis(plot: Plot | None) -> tuple[float, str, str]:
    assert plot is not None
    axes = plot.draw(WIDE).axes[0]
    return axes.get_xlim()[0], axes.get_xscale(), axes.get_xlabel()


@pytest.mark.parametrize("make", [latency_plot, error_plot])
def test_an_axis_of_times_starts_at_zero_where_the_times_are_alike(make) -> None:
    rows = (full_row("tensorrt", "fp16", 9.0, 0.01, 1, 1), full_row("torch-fp32", "fp32", 10.0, 0.02, 1, 1))
    low, scale, label = x_axis(make(rows))
    assert (low, scale) == (0, "linear")
    assert "log" not in label


@pytest.mark.parametrize("make", [latency_plot, error_plot, floor_plot, paced_plot])
def test_an_axis_of_times_that_does_not_start_at_zero_says_so(make) -> None:
    low, scale, label = x_axis(make(ROWS))
    assert low > 0
    assert scale == "log"
    assert label.endswith("ms (log scale, not from 0)")


def test_a_short_run_is_no_doubt_of_a_lane() -> None:
    few = Doubt(kind="few-runs", text="...")
    row = msgspec.structs.replace(ROWS[-2], doubts=(few,))
    assert not any("in doubt" in text for text in words(drawn(latency_plot((row,)))))


def test_more_rows_than_anybody_reads_are_not_drawn() -> None:
    (bundle,) = full_report().bundles
    rows = tuple(measured_row(f"engine-{at}", (1.0, 2.0)) for at in range(200))
    plot = bundle_plots(msgspec.structs.replace(bundle, rows=rows))[0]
    assert sum(text.startswith("engine-") for text in words(drawn(plot, WIDE))) == 40
