"""The page: what it says, and that nothing in a report can make it do something."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import msgspec
import pytest
from bench_examples import example_report, full_report, full_row, full_rows, measured_row, stretched_report

from vla_edge.bench.measure.timing import summarise
from vla_edge.bench.output.answer import alarms, bundle_headline, fastest, headline
from vla_edge.bench.output.page import to_page
from vla_edge.bench.output.plots.drawable import standin_not_drawn
from vla_edge.bench.output.plots.plots import bundle_plots
from vla_edge.bench.report.types import Doubt, Report, Row
from vla_edge.export.page.templates import STYLE

VOID = {"meta", "br", "link", "img", "input", "hr"}
HOSTILE = "<script>alert(1)</script>$x$\x1b[31m\u202e"


class Page(HTMLParser):
    """Elements, attributes and text of a page; fails on an element that is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def full() -> str:
    return to_page(full_report())


def with_rows(*rows: Row, report: Report | None = None) -> Report:
    report = report or example_report()
    return msgspec.structs.replace(report, bundles=(msgspec.structs.replace(report.bundles[0], rows=rows),))


def test_the_page_is_well_formed_and_light(full: str) -> None:
    page = Page(full)
    assert len(full.encode()) < 400_000
    assert [tag for tag, _ in page.elements].count("h1") == 1


def test_the_page_asks_for_nothing_and_runs_nothing(full: str) -> None:
    page = Page(full)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "img", "object", "embed", "base", "form"}
    policy = next(
        a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith("#")
    assert "@import" not in full
    assert not re.search(r"url\((?!#)", full)


def test_drawings_have_no_ids_that_could_meet_and_refer_to_nothing(full: str) -> None:
    assert not re.search(r"\sid=|url\(|href=", full)


def test_the_same_report_gives_the_same_page() -> None:
    assert to_page(example_report()) == to_page(example_report())


def test_hostile_names_come_out_as_text() -> None:
    row = measured_row(HOSTILE, (1.0, 2.0), reason=HOSTILE, notes=(HOSTILE,), weights_origin=HOSTILE)
    doubted = msgspec.structs.replace(row, doubts=(Doubt(kind="spread", text=HOSTILE),), status="wrong")
    report = with_rows(doubted, report=full_report())
    bundle = msgspec.structs.replace(report.bundles[0], name=HOSTILE, path=HOSTILE, layout=HOSTILE)
    machine = msgspec.structs.replace(report.machine, cpu=HOSTILE, versions={HOSTILE: HOSTILE})
    text = to_page(msgspec.structs.replace(report, bundles=(bundle,), machine=machine))
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.elements}
    assert "<script>alert(1)</script>$x$\\x1b[31m\\u202e" in page.text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_the_headline_states_the_result() -> None:
    assert headline(full_report()) == (
        "TensorRT FP16 answers in 3.74 ms, 8.0x faster than PyTorch FP32 (PyTorch's figure is in doubt); "
        "right within 0.014 m/s"
    )


def test_a_wrong_engine_is_never_the_result() -> None:
    wrong = full_row("tensorrt", "fp16", 0.5, 0.4, 3000, 400, status="wrong", reason="off by 0.4")
    right = full_row("onnxruntime", "fp16", 9.0, 0.01, 3000, 400)
    assert fastest((wrong, right)) is right
    assert "0.500" not in bundle_headline(with_rows(wrong, right).bundles[0])
    assert bundle_headline(with_rows(wrong).bundles[0]) == "No backend is right: TensorRT FP16 wrong"


def doubted(*kinds: str) -> str:
    row = full_row("tensorrt", "fp16", 3.0, 0.01, 3000, 400)
    doubts = tuple(Doubt(kind=kind, text="...") for kind in kinds)
    return bundle_headline(with_rows(msgspec.structs.replace(row, doubts=doubts)).bundles[0])


def test_a_doubt_is_part_of_the_headline_in_words() -> None:
    assert doubted("throttled").endswith("; in doubt: the GPU lowered its clocks")
    assert doubted("spread", "drift").endswith("; in doubt: its times spread widely, its pace changed")


def test_a_short_run_is_no_doubt_of_a_headline() -> None:
    assert doubted("few-runs") == doubted()
    assert doubted("few-runs", "leak").endswith("; in doubt: its memory grew")


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (7.84, ", 7.8x faster than PyTorch FP32;"),
        (0.5, ", 2.0x slower than PyTorch FP32;"),
        (1.02, ", as fast as PyTorch FP32;"),
        (None, " ms; right"),
        (1e300, " ms; right"),
    ],
)
def test_the_headline_says_faster_or_slower(ratio: float | None, words: str) -> None:
    row = full_row("tensorrt", "fp16", 3.0, 0.01, 3000, 400, speedup_over_torch_fp32=ratio)
    assert words in bundle_headline(with_rows(row).bundles[0])


@pytest.mark.parametrize("kind", ["spread", "busy-host", "drift"])
def test_a_doubt_of_pytorch_s_figure_stands_at_the_ratio_to_it(kind: str) -> None:
    slow = full_row("torch-fp32", "fp32", 30.0, 0.0, 8000, 1400, doubts=(Doubt(kind=kind, text="..."),))
    fast = full_row("tensorrt", "fp16", 3.0, 0.01, 3000, 400)
    report = with_rows(slow, fast)
    assert "10x faster than PyTorch FP32 (PyTorch's figure is in doubt);" in headline(report)
    assert "faster than PyTorch FP32, which is in doubt" in Page(to_page(report)).text
    sure = with_rows(msgspec.structs.replace(slow, doubts=()), fast)
    assert "in doubt" not in headline(sure) + Page(to_page(sure)).text
    half = full_row("torch-fp16", "fp16", 21.5, 0.36, 4504, 1460, doubts=slow.doubts)
    assert "in doubt" not in headline(with_rows(half, fast))  # the ratio is not to this one


@pytest.mark.parametrize(
    ("ratio", "tile"),
    [(2.5, "faster than PyTorch FP32 2.5 ×"), (0.5, "slower than PyTorch FP32 2.0 ×"), (1.0, "as fast as")],
)
def test_the_tile_and_the_headline_say_a_ratio_in_the_same_words(ratio: float, tile: str) -> None:
    row = full_row("tensorrt", "fp16", 3.0, 0.01, 3000, 400, speedup_over_torch_fp32=ratio)
    text = " ".join(Page(to_page(with_rows(row))).text.split())
    assert tile in text
    assert ("as fast as" in text) == (ratio == 1.0)


def failed_row(name: str) -> Row:
    return Row(backend=name, status="failed", reason="killed", weights_origin="checkpoint")


@pytest.mark.parametrize(("count", "said"), [(12, 0), (13, 1), (15, 3)])
def test_a_bundle_that_is_not_drawn_says_so(count: int, said: int) -> None:
    report = with_rows(failed_row("tensorrt"))
    text = Page(to_page(msgspec.structs.replace(report, bundles=report.bundles * count))).text
    assert text.count("Not drawn: a page has the drawings of its first 12 bundles.") == said


@pytest.mark.parametrize(("count", "said"), [(40, ""), (41, "The first 40 of 41 backends are drawn.")])
def test_backends_that_a_drawing_has_no_room_for_are_counted(count: int, said: str) -> None:
    report = with_rows(*(failed_row(f"b{at}") for at in range(count)))
    text = Page(to_page(report)).text
    assert said in text
    assert ("The tables have all." in text) == bool(said)


@pytest.mark.parametrize("value", [1e90, 1e-90, 0.0])
def test_a_figure_of_any_size_is_drawn_inside_its_plot(value: float) -> None:
    report = stretched_report(value)
    text = to_page(report)
    assert all(0 <= float(place) <= 100.01 for place in re.findall(r"(?:left|width): ([-\d.e+]+)%", text))
    assert all(len(plot.x.ticks) < 12 for plot in bundle_plots(report.bundles[0]))


def test_rows_of_the_stand_in_that_are_not_drawn_are_counted() -> None:
    standin = full_report().standin
    assert standin is not None
    many = msgspec.structs.replace(standin, claims=(), rows=standin.rows[:1] * 41)
    assert standin_not_drawn(many) == "The first 40 of 41 rows are drawn. The tables have all."
    assert standin_not_drawn(standin) == ""


def test_memory_has_the_same_word_in_its_tile_as_in_the_table() -> None:
    row = measured_row("onnxruntime", (1.0, 2.0))
    text = Page(to_page(with_rows(row))).text
    assert "host anonymous, peak 418 MiB" in text
    assert "host anonymous host resident" in text
    assert "host peak" not in text
    assert "host memory, peak" not in text


def test_a_wrong_engine_stands_below_a_good_headline() -> None:
    wrong = full_row("tensorrt", "fp16", 0.5, 0.4, 3000, 400, status="wrong", reason="off by 0.4")
    half = full_row("torch-fp16", "fp16", 0.5, 0.4, 3000, 400, status="wrong", reason="off by 0.4")
    report = with_rows(wrong, half, full_row("onnxruntime", "fp16", 9.0, 0.01, 3000, 400))
    found = alarms(report)
    assert [(item.kind, item.backend) for item in found] == [
        ("wrong", "TensorRT FP16 of policy-fp16"),
        ("refused", "/robot/engines/torn"),
    ]
    header = Page(to_page(report)).text.split("policy-fp16 generated weights")[0]
    assert "wrong TensorRT FP16 of policy-fp16: off by 0.4" in header


def test_several_bundles_have_one_headline() -> None:
    report = full_report()
    both = msgspec.structs.replace(report, bundles=(report.bundles[0], report.bundles[0]))
    assert headline(both) == (
        "TensorRT FP16 answers in 3.74 and 3.74 ms, 8.0x and 8.0x faster than PyTorch FP32 "
        "(PyTorch's figure is in doubt)"
    )
    assert headline(msgspec.structs.replace(report, bundles=())) == "No bundle was measured"


def test_a_graph_that_is_widened_is_not_called_half_precision_alone() -> None:
    (bundle,) = example_report().bundles
    assert bundle_headline(bundle).startswith("ONNX Runtime FP16 (in FP32) answers in 1.05 ms")


def test_generated_weights_are_said_once_at_the_top(full: str) -> None:
    assert len(re.findall(r"<figure.*?</figure>", full, re.DOTALL)) == 12
    assert full.count("generated weights") == 1
    assert full.index("generated weights") < full.index("<main>")
    assert '<th scope="col" role="columnheader">weights</th>' not in full


def test_rows_and_cards_of_other_weights_say_so() -> None:
    random = full_row("torch-fp32", "fp32", 30.0, 0.0, 8000, 1400, weights_origin="random: seed 0")
    text = to_page(with_rows(random, full_rows()[-2], report=full_report()))
    figures = re.findall(r"<figure.*?</figure>", text, re.DOTALL)
    bundle_figures = [figure for figure in figures if "<h3>The stand-in" not in figure]
    assert all("random weights: PyTorch FP32</span>" in figure for figure in bundle_figures)
    row = text[text.index(">PyTorch FP32<", text.index("<tbody")) :].split("</tr>")[0]
    assert '<span class="badge generated">random</span>' in row


def test_bundles_of_different_weights_each_say_which() -> None:
    report = full_report()
    trained = msgspec.structs.replace(report.bundles[0], weights_origin="checkpoint")
    text = to_page(msgspec.structs.replace(report, bundles=(report.bundles[0], trained)))
    assert re.findall(r'<h2>[^<]*</h2><span class="badge[^>]*>([^<]*)', text) == [
        "generated weights",
        "trained weights",
        "generated weights",  # of the stand-in
        "prediction",
    ]


def test_every_cell_names_its_column_for_a_phone(full: str) -> None:
    for table in re.findall(r"<table.*?</table>", full, re.DOTALL):
        headings = re.findall(r"<th scope=\"col\"[^>]*>([^<]*)</th>", table)
        for row in re.findall(r'<tr class="(?!remarks).*?</tr>', table, re.DOTALL):
            assert re.findall(r'data-label="([^"]*)"', row) == headings[1:]


def test_sources_of_predictions_are_footnotes(full: str) -> None:
    section = full[full.index("<h2>Other devices") :]
    assert section.count("the vendor&#39;s data sheet") == 1
    assert section.index("</table>") < section.index('<ol class="footnotes">')
    assert "RTX 4090 [1]" in section


def test_thousands_of_rows_and_endless_names_make_a_page_in_seconds() -> None:
    rows = tuple(measured_row(f"{'n' * 1000}{at}", (1.0, 2.0), reason="r" * 10_000) for at in range(600))
    report = with_rows(*rows)
    bundle = msgspec.structs.replace(report.bundles[0], name="b" * 100_000)
    text = to_page(msgspec.structs.replace(report, bundles=(bundle,)))
    assert len(text) < 40_000_000
    assert "n" * 200 not in text
    assert "b" * 200 not in text


@pytest.mark.parametrize("value", [9e99, 1e15, 5e-324, 0.0])
def test_figures_of_any_size_make_a_page_without_nan(value: float) -> None:
    text = to_page(stretched_report(value))
    assert not re.search(r"\bnan\b|\binf\b|\d{60}", text)


def test_trained_weights_are_not_called_generated() -> None:
    row = measured_row("onnxruntime", (1.0, 1.0), weights_origin="checkpoint")
    report = with_rows(row)
    bundle = msgspec.structs.replace(report.bundles[0], weights_origin="checkpoint")
    text = Page(to_page(msgspec.structs.replace(report, bundles=(bundle,)))).text
    assert "trained weights" in text
    assert "generated weights" not in text


def test_doubts_and_reasons_stand_at_their_row(full: str) -> None:
    summary = full[full.index("One policy step") :]
    row = summary[summary.index(">ONNX Runtime CUDA FP16<") : summary.index(">TensorRT FP16<")]
    assert "doubt: throttled" in row
    assert "1410 of 1980 MHz" in row


def test_predictions_are_labelled(full: str) -> None:
    text = Page(full).text
    assert "PREDICTION for hybrid-fp16" in text
    assert "Nothing here was measured on these devices." in text


def test_sections_without_data_are_left_out(full: str) -> None:
    text, all_text = Page(to_page(example_report())).text, Page(full).text
    for title in ("The stand-in", "Other devices", "Distance to the floor", "At a robot's pace", "Jitter"):
        assert title not in text
        assert title in all_text


def test_the_page_says_how_to_measure_again(full: str) -> None:
    assert "vla-bench /robot/engines/hybrid-fp16 --device cuda --threads 16 --rate 0" in full


def test_rows_without_any_figure_still_make_a_page() -> None:
    failed = Row(backend="tensorrt", status="failed", reason="gone", weights_origin="checkpoint")
    page = Page(to_page(with_rows(failed)))
    assert "No backend gave a result" in page.text
    assert "svg" not in {tag for tag, _ in page.elements}


def test_equal_samples_of_zero_still_make_a_page() -> None:
    row = measured_row("onnxruntime", (0.0, 0.0), step=summarise((0.0, 0.1)))
    assert "<svg" in to_page(with_rows(row, full_rows()[0]))


def test_an_unfinished_report_is_an_alarm() -> None:
    (first, *_) = alarms(msgspec.structs.replace(example_report(), complete=False))
    assert (first.kind, first.text[:31]) == ("unfinished", "the command was ended before ev")


@pytest.mark.parametrize("place", [".tiles small", ".points span"])
def test_a_unit_of_many_words_breaks_where_a_narrow_page_has_no_room_for_it(place: str) -> None:
    css = STYLE.read_text(encoding="utf-8")
    (rule,) = re.findall(rf"^{re.escape(place)} {{(.*)}}$", css, re.MULTILINE)
    assert "overflow-wrap: anywhere" in rule
    assert "white-space: nowrap" not in rule


def test_places_of_statistics_that_contradict_their_samples_stay_within_the_plot() -> None:
    report = full_report()
    bundle = report.bundles[0]
    row = next(row for row in bundle.rows if row.step and row.samples)
    below = msgspec.structs.replace(row, step=msgspec.structs.replace(row.step, max_ms=0.0))
    rows = tuple(below if each is row else each for each in bundle.rows)
    page = to_page(msgspec.structs.replace(report, bundles=(msgspec.structs.replace(bundle, rows=rows),)))
    places = [
        float(place) for place in re.findall(r": (-?[^;%\"]+)%", "".join(re.findall(r'style="[^"]*"', page)))
    ]
    assert places
    assert all(0 <= place <= 103 for place in places)
