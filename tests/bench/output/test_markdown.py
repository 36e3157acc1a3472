"""The report as Markdown."""

from __future__ import annotations

import golden_reports
import msgspec
import pytest
from bench_examples import example_report, full_report, measured_row

from vla_edge.bench.output.markdown import escape, to_markdown


def tables(text: str) -> list[list[str]]:
    """The lines of each table."""
    found: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


def test_the_example_gives_these_bytes() -> None:
    assert golden_reports.in_markdown().encode() == golden_reports.MARKDOWN.read_bytes()


def test_every_line_of_a_table_has_as_many_cells_as_its_head() -> None:
    for table in tables(to_markdown(full_report())):
        assert len({line.count("|") - line.count("\\|") for line in table}) == 1, table[0]


def test_a_full_report_has_every_part() -> None:
    text = to_markdown(full_report())
    for part in ("deadline", "J a step", "x floor", "vision", "16 tokens", "last frame", "The stand-in"):
        assert part in text
    assert "matmul, TFLOPS: FP32 52.1, TF32 410, FP16 745" in text


def test_predictions_are_called_so_and_their_sources_are_footnotes() -> None:
    text = to_markdown(full_report())
    table = next(table for table in tables(text) if "Orin NX" in "".join(table))
    assert table[0].split("|")[2].strip() == "predicted ms"
    assert "PREDICTION for hybrid-fp16" in text
    assert "data sheet" not in "".join(table)
    assert "\n\n\\[1\\] the vendor's data sheet\n" in text
    assert text.index("## Other devices: PREDICTION") < text.index("PREDICTION for hybrid-fp16")


def test_the_answer_is_the_first_line() -> None:
    assert to_markdown(full_report()).startswith(
        "<!-- written by vla-bench -->\n\n**TensorRT FP16 answers in 3.74 ms, 8.0x faster than PyTorch "
        "FP32 (PyTorch's figure is in doubt); right within 0.014 m/s**\n\nhybrid-fp16 on NVIDIA H200\n"
    )


def test_doubts_stand_below_the_first_table_and_what_is_wrong_in_bold() -> None:
    text = to_markdown(full_report()).split("<details>")[0]
    assert "\n- PyTorch FP32: doubt: host-bound: the GPU was idle for 41 % of each step" in text
    assert (
        "\n- **PyTorch FP16, PyTorch FP16 CUDA graph, PyTorch compiled: wrong: action off by 0.36 m/s" in text
    )


def test_all_but_the_summaries_is_folded() -> None:
    text = to_markdown(full_report())
    assert text.count("<details><summary>") == text.count("</details>") == 1
    assert text.index("One policy step: p50 usual") < text.index("<details>") < text.index("GPU p50")


def test_a_wrong_engine_is_marked_in_every_table_that_has_it() -> None:
    lines = [
        line
        for line in to_markdown(full_report()).splitlines()
        if line.startswith("| PyTorch FP16 CUDA graph")
    ]
    assert len(lines) > 8
    assert all("WRONG" in line for line in lines)


def test_generated_weights_are_said_and_trained_ones_are_not_denied() -> None:
    report = example_report()
    assert "Generated weights:" in to_markdown(report)
    row = measured_row("onnxruntime", (1.0, 1.0), weights_origin="checkpoint")
    bundle = msgspec.structs.replace(report.bundles[0], rows=(row,), weights_origin="checkpoint")
    assert "Generated weights" not in to_markdown(msgspec.structs.replace(report, bundles=(bundle,)))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a|b", "a\\|b"),
        ("a\nb", "a b"),
        ("[here](http://example.com)", "\\[here\\](http://example.com)"),
        ("`code` *bold*", "\\`code\\` \\*bold\\*"),
        ("torch_fp16 _x_", "torch_fp16 \\_x\\_"),
        ("a\x1b[31mred", "a\\\\x1b\\[31mred"),
    ],
)
def test_a_name_cannot_be_markup(name: str, shown: str) -> None:
    assert escape(name) == shown


def test_a_name_with_a_bar_and_a_line_break_stays_in_its_cell() -> None:
    report = example_report()
    row = measured_row("x|y\nz", (1.0, 1.0))
    bundle = msgspec.structs.replace(report.bundles[0], rows=(row,))
    text = to_markdown(msgspec.structs.replace(report, bundles=(bundle,)))
    assert "| x\\|y z" in text


def test_an_unfinished_report_says_so_before_any_figure() -> None:
    text = to_markdown(msgspec.structs.replace(example_report(), complete=False))
    assert text.index("**UNFINISHED: this report: the command was ended before") < text.index("## ")
    assert "UNFINISHED" not in to_markdown(example_report())


def test_endless_names_and_thousands_of_rows_stay_of_a_size_that_can_be_read() -> None:
    report = example_report()
    rows = tuple(measured_row("x" * 10_000, (1.0, 1.0), reason="r" * 100_000) for _ in range(1000))
    bundle = msgspec.structs.replace(report.bundles[0], rows=rows, name="n" * 100_000)
    text = to_markdown(msgspec.structs.replace(report, bundles=(bundle,)))
    assert len(text) < 4_000_000
    assert "x" * 121 not in text
    assert f"# {'n' * 119}…" in text
