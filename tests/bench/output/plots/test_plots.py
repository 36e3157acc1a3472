"""The plots: what is drawn, and where."""

from __future__ import annotations

import re

import msgspec
import numpy as np
import pytest
from bench_examples import example_report, full_report, full_row, measured_row

from vla_edge.bench.output.format import significant, times
from vla_edge.bench.output.page import to_page
from vla_edge.bench.output.plots.charts import drift_plot, error_plot
from vla_edge.bench.output.plots.memory_plots import memory_plot, phases_plot
from vla_edge.bench.output.plots.plot import Plot, Shape
from vla_edge.bench.output.plots.plots import (
    bundle_plots,
    floor_plot,
    latency_plot,
    paced_plot,
    stages_plot,
    start_plot,
)
from vla_edge.bench.output.plots.standin_plots import standin_plots
from vla_edge.bench.report.types import Doubt, Parity

ROWS = full_report().bundles[0].rows


def drawn(plot: Plot | None) -> Plot:
    assert plot is not None
    return plot


def every_plot() -> tuple[Plot, ...]:
    report = full_report()
    assert report.standin is not None
    return (*bundle_plots(report.bundles[0]), *standin_plots(report.standin))


def shapes(plot: Plot | None) -> list[Shape]:
    lanes = [shape for lane in drawn(plot).lanes for row in lane.rows for shape in row]
    return [*lanes, *drawn(plot).shapes]


def titles(plot: Plot | None) -> list[str]:
    return [lane.heading.title for lane in drawn(plot).lanes] + [it.title for it in drawn(plot).names]


def figures(plot: Plot | None) -> list[str]:
    return [lane.heading.figure for lane in drawn(plot).lanes]


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
    assert figures(latency_plot(ROWS)) == [
        f"p50 {significant(row.step.p50_ms)} ms, p99 {significant(row.step.p99_ms)} ms"
        for row in ROWS
        if row.step
    ]


def test_the_p50_mark_is_at_the_median_and_the_silhouette_between_the_ends() -> None:
    samples = tuple(float(value) for value in np.linspace(1, 3, 101))
    plot = drawn(latency_plot((measured_row("onnxruntime", samples),)))
    at = {shape.kind: shape.left for shape in shapes(plot)}
    assert (at["p50"], at["p99"], at["end"]) == (2.0, pytest.approx(2.98), 3.0)
    places = [float(place) for place in re.findall(r"[MH]([\d.]+)", plot.x.silhouette(samples))]
    assert places[0] == pytest.approx(plot.x.at(1.0), abs=0.5)
    assert places[-1] == pytest.approx(plot.x.at(3.0), abs=0.5)


def test_a_common_time_stands_higher_than_a_rare_one() -> None:
    plot = drawn(latency_plot((measured_row("onnxruntime", (*[1.0] * 9, 2.0)),)))
    (samples,) = [shape.samples for shape in shapes(plot) if shape.samples]
    tops = [float(top) for top in re.findall(r"V([\d.]+)H", plot.x.silhouette(samples))]
    assert tops[0] == 10
    assert tops[-1] == 70
    assert set(tops[1:-1]) == {100}


def test_a_wrong_row_says_so_in_words_and_colour() -> None:
    for plot in (latency_plot(ROWS), error_plot(ROWS), floor_plot(ROWS), memory_plot(ROWS), paced_plot(ROWS)):
        assert "PyTorch FP16 CUDA graph · WRONG" in titles(plot)
        assert "wrong" in {shape.role for shape in shapes(plot)}


def test_a_doubted_row_says_so() -> None:
    assert "PyTorch FP32 · in doubt" in titles(latency_plot(ROWS))


def test_actions_that_are_not_finite_are_named_since_they_cannot_be_drawn() -> None:
    nan = Parity(calls=1, samples=1, finite=False, unit="m/s", max_abs=None, relative_l2=None)
    rows = (*ROWS[:2], full_row("tensorrt", "fp16", 1.0, 0.0, 1, 1, status="wrong", parity=nan))
    assert drawn(error_plot(rows)).caption.endswith("since its actions are NaN or infinite: TensorRT FP16.")


def test_of_many_actions_that_are_not_finite_the_others_are_counted() -> None:
    nan = Parity(calls=1, samples=1, finite=False, unit="m/s", max_abs=None, relative_l2=None)
    hidden = (measured_row(f"b{at}", (1.0, 2.0), status="wrong", parity=nan) for at in range(19))
    assert drawn(error_plot((*ROWS[:2], *hidden))).caption.endswith("b14, b15 and 3 more.")


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
        told = f" Only the first 16 of {said} {word} are drawn."
        caption = drawn(plot).caption
        assert caption.endswith(told) if said else "Only the first" not in caption


def test_numbers_of_the_error_plot_do_not_cover_each_other_or_another_point() -> None:
    plot = drawn(error_plot(ROWS))
    assert plot.y is not None
    numbers = [shape for shape in plot.shapes if shape.kind == "number"]
    points = [shape for shape in plot.shapes if shape.kind != "number"]
    assert [shape.text for shape in numbers] == [*"1234567"]
    places = [(plot.x.at(one.left), plot.y.at(one.bottom) + one.height) for one in (*numbers, *points)]
    for at, (left, bottom) in enumerate(places[: len(numbers)]):
        for x, y in (*places[:at], *(place for place in places[len(numbers) :] if place[0] != left)):
            assert abs(left - x) >= 5 or abs(bottom - y) >= 6


def test_numbers_of_points_in_one_place_stay_within_the_plot() -> None:
    plot = drawn(error_plot([ROWS[0]] * 40))
    assert plot.y is not None
    assert all(plot.y.at(one.bottom) + one.height <= 101 for one in plot.shapes)


def test_the_error_plot_names_its_numbers_the_fastest_first() -> None:
    plot = drawn(error_plot(ROWS))
    assert plot.names[0].title == "TensorRT FP16"
    assert plot.names[0].figure == "3.74 ms, 0.012 m/s"
    points = [shape for shape in plot.shapes if shape.kind in ("point", "cross")]
    assert [shape.left for shape in points] == sorted(shape.left for shape in points)
    assert [shape.text for shape in points] == titles(plot)
    assert [shape.kind == "cross" for shape in points] == [it.role == "wrong" for it in plot.names]


def test_an_error_of_nothing_and_a_large_one_both_have_a_place() -> None:
    y = drawn(error_plot(ROWS)).y
    assert y is not None
    assert 0 < y.at(0) < y.at(0.0019) < y.at(0.0119) < y.at(0.36) < 100
    assert {"0", "0.01", "0.1", "1"} <= {text for _, text in y.ticks}


def test_the_floor_plot_says_how_far_each_row_is() -> None:
    assert figures(floor_plot(ROWS)) == [
        f"{times(row.floor.times_floor)} × floor" for row in ROWS if row.floor
    ]


def test_stages_fill_the_whole_bar() -> None:
    parts = shapes(stages_plot(ROWS[:1]))
    assert [part.left for part in parts] == [0, *(part.right for part in parts[:-1])]
    assert parts[-1].right == pytest.approx(100)


def test_a_cold_start_is_as_long_as_its_parts() -> None:
    for lane, measured in zip(drawn(start_plot(ROWS)).lanes, ROWS, strict=False):
        assert measured.cold_start is not None
        assert lane.rows[0][-1].right == pytest.approx(measured.cold_start.total_s)


def test_the_deadline_is_drawn_and_named() -> None:
    plot = drawn(paced_plot(ROWS))
    assert plot.caption.endswith("Dashed: the deadline of 100 ms.")
    assert [(shape.kind, shape.left) for shape in plot.shapes] == [("mark", 100)]


def test_drift_follows_the_frames() -> None:
    plot = drawn(drift_plot(ROWS))
    assert plot.y is not None
    errors = [row.agreement.errors for row in ROWS if row.agreement]
    for line, series in zip(plot.shapes, errors, strict=True):
        path = plot.x.line(line.samples, plot.y)
        places = [tuple(map(float, pair.split(","))) for pair in path[1:].split(" L")]
        assert places == [
            (pytest.approx(plot.x.at(at), abs=0.01), pytest.approx(100 - plot.y.at(error), abs=0.01))
            for at, error in enumerate(series)
        ]


def test_memory_of_the_device_is_a_full_bar_above_a_hollow_one_of_the_host() -> None:
    for lane, measured in zip(drawn(memory_plot(ROWS)).lanes, ROWS, strict=False):
        assert measured.memory is not None
        ((device,), (host,)) = lane.rows
        assert (device.kind, device.right) == ("bar", measured.memory.device_peak_mib)
        assert (host.kind, host.right) == ("hollow", measured.memory.host_anonymous_peak_mib)


def test_the_stand_in_stands_beside_what_was_published() -> None:
    memory, latency = standin_plots(full_report().standin)
    assert {"weights", "flattened copy of the RNN", "workspace"} == {name for _, name in memory.legend}
    assert [shape.kind for shape in memory.shapes] == ["mark", "mark"]
    assert "published: pure Kosmos-2, FP32" in titles(latency)
    assert "2.50 ms" in figures(latency)
    (row,) = memory.lanes[0].rows
    assert row[-1].kind == "diamond"


def test_every_colour_and_every_look_is_in_the_style_sheet() -> None:
    style = to_page(full_report()).split("<style>")[1].split("</style>")[0]
    for plot in every_plot():
        for shape in shapes(plot):
            assert f":is(.plot, .legend) .{shape.role} {{ --ink: var(--{shape.role}); }}" in style
            for kind in shape.kind.split():
                assert re.search(rf"\.{kind}\b", style), kind
        for role, _ in plot.legend:
            assert f".legend) .{role} {{" in style


def test_everything_is_inside_its_plot_so_that_one_drawing_serves_every_width() -> None:
    for plot in every_plot():
        for shape in shapes(plot):
            assert all(plot.x.low <= end <= plot.x.high for end in shape.ends if not plot.y)
            assert 0 <= shape.height <= 100
        for axis in filter(None, (plot.x, plot.y)):
            assert all(0 <= at <= 100 for at, _ in axis.ticks)
            assert 2 <= len(axis.ticks or axis.names) <= 9


@pytest.mark.parametrize("name", ["$x$ $\\frac$", "a\x00b\x1b", "한국어", "x" * 500, "<b>&amp;"])
def test_any_name_can_be_drawn(name: str) -> None:
    title = titles(latency_plot((measured_row(name, (1.0, 2.0)), ROWS[0])))[0]
    assert len(title) < 100
    assert title.isprintable()


def x_axis(plot: Plot | None) -> tuple[float, bool, str]:
    axis = drawn(plot).x
    return axis.low, axis.scale is float, axis.label


@pytest.mark.parametrize("make", [latency_plot, error_plot])
def test_an_axis_of_times_starts_at_zero_where_the_times_are_alike(make) -> None:
    rows = (full_row("tensorrt", "fp16", 9.0, 0.01, 1, 1), full_row("torch-fp32", "fp32", 10.0, 0.02, 1, 1))
    low, linear, label = x_axis(make(rows))
    assert low == 0
    assert linear
    assert "log" not in label


@pytest.mark.parametrize("make", [latency_plot, error_plot, floor_plot, paced_plot])
def test_an_axis_of_times_that_does_not_start_at_zero_says_so(make) -> None:
    low, linear, label = x_axis(make(ROWS))
    assert low > 0
    assert not linear
    assert label.endswith("ms (log scale, not from 0)")


def test_a_short_run_is_no_doubt_of_a_lane() -> None:
    few = Doubt(kind="few-runs", text="...")
    row = msgspec.structs.replace(ROWS[-2], doubts=(few,))
    assert not any("in doubt" in title for title in titles(latency_plot((row,))))


def test_more_rows_than_anybody_reads_are_not_drawn() -> None:
    (bundle,) = full_report().bundles
    rows = tuple(measured_row(f"engine-{at}", (1.0, 2.0)) for at in range(200))
    plot = bundle_plots(msgspec.structs.replace(bundle, rows=rows))[0]
    assert sum(title.startswith("engine-") for title in titles(plot)) == 40
