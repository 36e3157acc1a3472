"""Comparing reports: the statistics against numpy and scipy, and what counts as worse."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from bench_examples import example_report, full_report, full_standin, measured_row
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from vla_edge.bench.compare.cli import command
from vla_edge.bench.compare.rows import Comparison, RowComparison, compare
from vla_edge.bench.compare.stats import (
    RESAMPLES,
    block_length,
    bootstrap_quantiles,
    quantile_ratio,
    rank_test,
)
from vla_edge.bench.report.file import read_report, write
from vla_edge.bench.report.types import Doubt, Gpu, Memory, Parity, Report, Row
from vla_edge.runtime.errors import InputError


def independent(mean: float = 10.0, seed: int = 0, count: int = 400) -> tuple[float, ...]:
    return tuple(float(value) for value in np.random.default_rng(seed).normal(mean, 0.5, count))


def hanging_together(seed: int = 0, count: int = 1000) -> tuple[float, ...]:
    """A series whose neighbours are alike, as slow moments make them."""
    generator = np.random.default_rng(seed)
    value, values = 0.0, []
    for noise in generator.normal(0, 1, count):
        value = 0.9 * value + noise
        values.append(20 + value)
    return tuple(values)


def report_of(*rows: Row) -> Report:
    report = example_report()
    return msgspec.structs.replace(
        report, bundles=(msgspec.structs.replace(report.bundles[0], rows=rows),), refused=()
    )


def only(before: Row, after: Row, **limits: float) -> RowComparison:
    (row,) = compare(report_of(before), report_of(after), **limits).rows
    return row


def row(samples: tuple[float, ...], **changes) -> Row:
    return measured_row("onnxruntime", samples, **changes)


def memory(host: float | None, device: float | None = None) -> Memory:
    return Memory(
        host_peak_mib=None,
        host_anonymous_peak_mib=host,
        device_peak_mib=device,
        device_method=None,
        torch_allocator_peak_mib=None,
        phases=(),
    )


def parity(error: float | None) -> Parity:
    return Parity(calls=1, samples=1, finite=error is not None, unit="m/s", max_abs=error, relative_l2=error)


def test_errors_in_different_units_are_not_held_against_each_other() -> None:
    turning = msgspec.structs.replace(parity(0.5), unit="rad")
    found = only(row((1.0,) * 20, parity=parity(0.01)), row((1.0,) * 20, parity=turning))
    assert (found.error, found.error_unit, found.regressions) == (None, None, ())


def test_an_error_is_told_in_its_unit() -> None:
    before, after = (msgspec.structs.replace(parity(error), unit="rad {}") for error in (0.01, 0.02))
    found = only(row((1.0,) * 20, parity=before), row((1.0,) * 20, parity=after))
    assert (found.error, found.error_unit) == (pytest.approx(0.01), "rad {}")
    assert found.regressions == ("action error from 0.0100 rad {} to 0.0200 rad {}",)


# the statistics


@pytest.mark.parametrize("quantile", [0.5, 0.99])
def test_the_ratio_is_that_of_numpy_s_quantiles(quantile: float) -> None:
    one, other = independent(10, 1), independent(12, 2)
    ratio = quantile_ratio(one, other, quantile)
    assert ratio.ratio == pytest.approx(np.quantile(other, quantile) / np.quantile(one, quantile))
    assert ratio.low <= ratio.ratio <= ratio.high


def test_the_interval_agrees_with_scipy_where_samples_are_independent() -> None:
    one, other = independent(10, 1, 1000), independent(11, 2, 1000)
    ours = quantile_ratio(one, other, 0.5)
    theirs = stats.bootstrap(
        (np.array(one), np.array(other)),
        lambda a, b, axis=-1: np.median(b, axis=axis) / np.median(a, axis=axis),
        method="percentile",
        n_resamples=2000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.002)


def test_the_bootstrap_spreads_as_the_median_of_a_normal_distribution_does() -> None:
    spread = bootstrap_quantiles(independent(10, 3, 2000), 0.5).std()
    assert spread == pytest.approx(1.2533 * 0.5 / np.sqrt(2000), rel=0.35)
    assert len(bootstrap_quantiles(independent(), 0.5)) == RESAMPLES


def test_samples_that_hang_together_get_longer_blocks_and_wider_intervals() -> None:
    series = hanging_together()
    shuffled = tuple(np.random.default_rng(1).permutation(series))
    assert block_length(series) > 15
    assert block_length(shuffled) == 10
    assert bootstrap_quantiles(series, 0.5).std() > 1.5 * bootstrap_quantiles(shuffled, 0.5).std()


def test_two_runs_of_the_same_kind_rarely_differ_past_their_interval() -> None:
    outside = 0
    for seed in range(40):
        ratio = quantile_ratio(hanging_together(2 * seed), hanging_together(2 * seed + 1), 0.5)
        outside += not ratio.low <= 1 <= ratio.high
    assert outside <= 6


def test_the_rank_test_is_scipy_s_on_thinned_samples() -> None:
    one, other = independent(10, 1, 1000), independent(10.2, 2, 1000)
    step, other_step = block_length(one), block_length(other)
    expected = stats.mannwhitneyu(one[::step], other[::other_step], alternative="two-sided").pvalue
    assert rank_test(one, other) == expected


def test_a_known_rank_test() -> None:
    # by hand: U = 0 of 3 * 3, exact two-sided p = 2 / binomial(6, 3)
    assert rank_test((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)) == pytest.approx(0.1)


# what counts as worse


def test_a_slower_median_is_a_regression() -> None:
    found = only(row(independent(10)), row(independent(11, 1)))
    assert found.verdict == "regression"
    assert re.fullmatch(r"p50 \+\d+\.\d% \(\+\d+\.\d% to \+\d+\.\d%\)", found.regressions[0])
    assert found.p_value < 0.001


def test_a_faster_median_is_an_improvement() -> None:
    found = only(row(independent(11)), row(independent(10, 1)))
    assert found.verdict == "improvement"
    assert found.improvements[0].startswith("p50 -")


def test_a_difference_within_the_threshold_is_none() -> None:
    found = only(row(independent(10)), row(independent(10.2, 1)))
    assert found.verdict == "unchanged"


def test_a_difference_that_the_samples_cannot_show_is_unclear() -> None:
    noisy = tuple(float(value) for value in np.random.default_rng(0).uniform(5, 20, 30))
    noisier = tuple(value * 1.06 for value in np.random.default_rng(1).permutation(noisy))
    assert only(row(noisy), row(noisier)).verdict == "unclear"


def test_the_threshold_decides() -> None:
    pair = row(independent(10)), row(independent(11, 1))
    assert only(*pair, threshold=0.05).regressions
    assert not only(*pair, threshold=0.15).regressions


def test_a_longer_tail_is_a_regression_of_p99() -> None:
    steady = independent(10, count=1000)
    stuttering = tuple(
        value + (15 if at % 25 == 0 else 0) for at, value in enumerate(independent(10, 1, 1000))
    )
    found = only(row(steady), row(stuttering))
    assert found.regressions[0].startswith("p99 +")
    assert len(found.regressions) == 1


def test_the_tail_of_few_runs_is_not_judged() -> None:
    assert only(row(independent(count=99)), row(independent(count=99, seed=1))).p99 is None


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (memory(400), memory(430), ("host memory from 400 MiB to 430 MiB",)),
        (memory(400, 3000), memory(400, 3300), ("device memory from 3,000 MiB to 3,300 MiB",)),
        (memory(400), memory(415), ()),
        (memory(40), memory(50), ()),
        (memory(None), memory(5000), ()),
    ],
)
def test_memory_that_grew_is_a_regression(before: Memory, after: Memory, found: tuple[str, ...]) -> None:
    samples = independent()
    assert only(row(samples, memory=before), row(samples, memory=after)).regressions == found


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (0.01, 0.02, ("action error from 0.0100 m/s to 0.0200 m/s",)),
        (0.0, 0.02, ("action error from 0.0000 m/s to 0.0200 m/s",)),
        (0.0001, 0.0002, ()),
        (0.01, None, ("actions are no longer finite",)),
        (None, 0.01, ()),
    ],
)
def test_an_error_that_grew_is_a_regression(before, after, found: tuple[str, ...]) -> None:
    samples = independent()
    one, other = row(samples, parity=parity(before)), row(samples, parity=parity(after))
    assert only(one, other).regressions == found


def test_a_worse_result_is_a_regression_however_fast_it_is() -> None:
    found = only(row(independent(10)), row(independent(1, 1), status="wrong", reason="off by 0.3"))
    assert found.regressions == ("was ok, is wrong: off by 0.3",)
    assert found.p50 is None
    assert found.improvements == ()


def test_a_wrong_row_that_is_right_again_is_an_improvement() -> None:
    found = only(row(independent(), status="wrong"), row(independent(seed=1)))
    assert found.improvements == ("was wrong, is ok",)


def test_the_speed_of_wrong_rows_is_not_judged() -> None:
    one, other = (row(independent(mean), status="wrong") for mean in (10, 20))
    assert only(one, other).verdict == "not judged"


def test_a_row_that_is_gone_is_a_regression_and_a_new_one_is_not() -> None:
    rows = row(independent()), measured_row("tensorrt", independent())
    gone = compare(report_of(*rows), report_of(rows[0]))
    assert gone.regressed
    assert gone.rows[1].regressions == ("the row is gone",)
    new = compare(report_of(rows[0]), report_of(*rows))
    assert not new.regressed
    assert new.rows[1].verdict == "new"


def test_a_row_that_was_skipped_may_go() -> None:
    skipped = Row(backend="tensorrt", status="skipped", reason="no GPU", weights_origin="checkpoint")
    assert not compare(report_of(row(independent()), skipped), report_of(row(independent()))).regressed


def test_batches_and_stand_ins_are_matched_to_their_like() -> None:
    report = full_report()
    (bundle,) = report.bundles
    batches = msgspec.structs.replace(
        report, bundles=(bundle, msgspec.structs.replace(bundle, batch=4)), standin=full_standin()
    )
    found = compare(batches, batches)
    assert len({(item.workload, item.backend) for item in found.rows}) == len(found.rows)
    assert {item.workload for item in found.rows} == {
        "hybrid-fp16",
        "hybrid-fp16, batch 4",
        "stand-in, published protocol",
        "stand-in, bench protocol",
    }


def test_another_machine_is_warned_of() -> None:
    report = full_report()
    gpu: Gpu = msgspec.structs.replace(report.machine.gpus[0], name="NVIDIA L4")
    machine = msgspec.structs.replace(report.machine, gpus=(gpu,), versions={"vla-edge": "2", "torch": "3"})
    found = compare(report, msgspec.structs.replace(report, machine=machine))
    assert found.warnings[:2] == (
        "different GPU: NVIDIA H200 (driver 580.159) before, NVIDIA L4 (driver 580.159) after",
        "different libraries: torch 2.11.0 to 3",
    )


BUSY = Doubt(kind="busy-host", text="other work took 98% of the cores when this backend was started")
SPREAD = Doubt(kind="spread", text="samples spread by 201% of their mean; was the machine busy?")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ((), (BUSY,), (f"after: busy-host: {BUSY.text}",)),
        ((SPREAD,), (), (f"before: spread: {SPREAD.text}",)),
        (
            (BUSY,),
            (SPREAD, BUSY),
            (f"before and after: busy-host: {BUSY.text}", f"after: spread: {SPREAD.text}"),
        ),
        ((Doubt(kind="few-runs", text="p99 of 20 runs"),), (), ()),
    ],
)
def test_what_either_report_doubts_of_a_row_is_repeated_beside_its_verdict(old, new, said) -> None:
    found = compare(
        report_of(row(independent(10), doubts=old)), report_of(row(independent(20, 1), doubts=new))
    )
    assert found.rows[0].doubts == said
    warning = f"figures in doubt: policy-fp16, onnxruntime: {'; '.join(said)}"
    assert found.warnings == ((warning,) if said else ())


def test_a_row_that_is_in_one_report_only_is_compared_with_nothing_and_doubted_by_nobody() -> None:
    found = compare(report_of(row(independent(), doubts=(BUSY,))), report_of())
    assert found.warnings == ()


SERIES = st.lists(st.floats(0.01, 1e4), min_size=5, max_size=150).map(tuple)


@settings(max_examples=25, deadline=None)
@given(SERIES)
def test_a_report_never_regresses_against_itself(samples: tuple[float, ...]) -> None:
    found = compare(report_of(row(samples)), report_of(row(samples)), threshold=0.0, tail_threshold=0.0)
    assert not found.regressed
    assert found.rows[0].improvements == ()


def test_series_of_one_and_the_same_number_do_not_differ() -> None:
    assert rank_test((1.0,) * 5, (1.0,) * 7) == 1.0


@settings(max_examples=25, deadline=None)
@given(SERIES, SERIES)
def test_what_is_worse_one_way_is_better_the_other_way(
    one: tuple[float, ...], other: tuple[float, ...]
) -> None:
    there, back = only(row(one), row(other)), only(row(other), row(one))
    assert len(there.regressions) == len(back.improvements)
    assert len(there.improvements) == len(back.regressions)
    assert there.p50.low == pytest.approx(1 / back.p50.high)
    assert there.p_value == pytest.approx(back.p_value)


# the command


def run(*arguments: object):
    return CliRunner().invoke(command, [str(argument) for argument in arguments], standalone_mode=False)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    write(report_of(row(independent(10))), before)
    write(report_of(row(independent(11, 1))), after)
    return before, after


def test_a_regression_is_exit_code_1(pair: tuple[Path, Path]) -> None:
    done = run(*pair)
    assert done.return_value == 1
    assert done.stdout.startswith("1 of 1 rows regressed")
    assert re.search(r"^policy-fp16 +onnxruntime +ok +ok +REGRESSION ", done.stdout, re.MULTILINE)
    assert "- REGRESSION: policy-fp16, onnxruntime: p50 +" in done.stdout
    assert "1 of 1 rows regressed" in done.stdout


def test_nothing_worse_is_exit_code_0(pair: tuple[Path, Path]) -> None:
    before, after = pair
    assert run(before, before).return_value == 0
    assert run(after, before).return_value == 0
    assert run(*pair, "--threshold", "15%").return_value == 0
    assert run(*pair, "--threshold", "0.15").return_value == 0


def test_json_is_the_comparison(pair: tuple[Path, Path]) -> None:
    done = run(*pair, "--json")
    assert done.return_value == 1
    found = msgspec.convert(json.loads(done.stdout), Comparison)
    assert found.rows[0].verdict == "regression"


def test_warnings_go_to_standard_error(pair: tuple[Path, Path], tmp_path: Path) -> None:
    report = report_of(row(independent(10)))
    other = tmp_path / "other.json"
    write(msgspec.structs.replace(report, machine=msgspec.structs.replace(report.machine, cpu="ARM")), other)
    done = run(pair[0], other)
    assert done.stderr == "warning: different CPU: AMD EPYC before, ARM after\n"


def test_a_warning_is_wrapped_between_words_on_a_terminal(pair: tuple[Path, Path], tmp_path: Path) -> None:
    busy = tmp_path / "busy.json"
    write(report_of(row(independent(20, 1), doubts=(BUSY, SPREAD))), busy)
    ours, theirs = os.openpty()
    subprocess.run(
        [sys.executable, "-m", "vla_edge.bench.cli", "compare", str(pair[0]), str(busy)],
        env={**os.environ, "COLUMNS": "60"},
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        timeout=60,
    )
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    os.close(theirs)
    assert max(map(len, shown.splitlines())) <= 60
    assert f"busy-host: {BUSY.text}; after: spread" in " ".join(shown.split())


def test_a_busy_machine_is_told_in_the_text_and_in_the_json(pair: tuple[Path, Path], tmp_path: Path) -> None:
    busy = tmp_path / "busy.json"
    write(report_of(row(independent(20, 1), doubts=(BUSY,))), busy)
    told = run(pair[0], busy)
    assert (
        told.stderr == f"warning: figures in doubt: policy-fp16, onnxruntime: after: busy-host: {BUSY.text}\n"
    )
    assert told.stdout.startswith(
        "1 of 1 rows regressed (allowed: 5%, for p99 25%); the figures of 1 row are in doubt\n"
    )
    assert "- REGRESSION (in doubt): policy-fp16, onnxruntime: p50 +" in told.stdout
    assert json.loads(run(pair[0], busy, "--json").stdout)["warnings"] == [
        f"figures in doubt: policy-fp16, onnxruntime: after: busy-host: {BUSY.text}"
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read the report .*: No such file"),
        (b"backend,p50", "is not a bench report: JSON is malformed"),
        (b'{"schema_version": 1}', "is not a bench report: it has none of a report's figures"),
        (b"\xff\xfe", "is not a bench report"),
    ],
)
def test_what_is_no_report_is_bad_input(pair: tuple[Path, Path], tmp_path: Path, content, words: str) -> None:
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    done = run(pair[0], path)
    assert isinstance(done.exception, InputError)
    assert done.exception.exit_code == 2
    assert re.search(words, done.exception.problem)
    assert "x.json" in done.exception.problem


@pytest.mark.parametrize("threshold", ["five", "-5%", "nan", "2000%", "%", "inf", "1e999", "-0.1", "5%%"])
@pytest.mark.parametrize("option", ["--threshold", "--tail-threshold"])
def test_a_threshold_that_is_none_is_refused(pair: tuple[Path, Path], option: str, threshold: str) -> None:
    done = run(*pair, f"{option}={threshold}")
    assert "write 5% or 0.05" in str(done.exception)


@pytest.mark.parametrize(("bare", "other"), [("5", "500%"), ("1", "100%"), ("25", "2500%"), ("1.5", "150%")])
@pytest.mark.parametrize("option", ["--threshold", "--tail-threshold"])
def test_a_bare_number_that_may_be_percent_is_refused_with_both_readings(
    pair: tuple[Path, Path], option: str, bare: str, other: str
) -> None:
    done = run(*pair, f"{option}={bare}")
    assert f"'{bare}' could mean {bare}% or {other}: write {bare}%, or a part of 1" in str(done.exception)


@pytest.mark.parametrize("written", ["15%", "15 %", "0.15", "1.5e-1"])
def test_limits_are_printed_in_percent_however_they_were_written(
    pair: tuple[Path, Path], written: str
) -> None:
    done = run(*pair, "--threshold", written, "--tail-threshold", "900%")
    assert "no regression (allowed: 15%, for p99 900%)" in done.stdout


def test_folders_of_reports_are_compared(tmp_path: Path) -> None:
    for name, mean in (("before", 10), ("after", 11)):
        (tmp_path / name).mkdir()
        write(report_of(row(independent(mean))), tmp_path / name / "report.json")
    assert run(tmp_path / "before", tmp_path / "after").return_value == 1
    assert run(tmp_path / "after", tmp_path / "before" / "report.json").return_value == 0


def test_a_folder_of_a_bench_that_did_not_end_is_told_from_one_without_a_report(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no report\.json\."):
        read_report(tmp_path)
    write(report_of(row(independent(10))), tmp_path / "report.partial.json")
    with pytest.raises(InputError, match=r"has no report\.json, only the report\.partial\.json of a bench"):
        read_report(tmp_path)


@pytest.mark.parametrize("correlation", [0.0, 0.9, 0.999])
def test_blocks_are_as_long_as_the_plain_sum_of_products_makes_them(correlation: float) -> None:
    generator, value, series = np.random.default_rng(3), 0.0, []
    for noise in generator.normal(0, 1, 1500):
        value = correlation * value + noise
        series.append(value)
    ranks = stats.rankdata(series) - (len(series) + 1) / 2
    plain = [float(ranks[:-lag] @ ranks[lag:] / (ranks @ ranks)) for lag in range(1, 75)]
    quiet = next((lag for lag, each in enumerate(plain, 1) if each < 2 / np.sqrt(len(ranks))), 75)
    assert block_length(series) == min(max(11, quiet), 75)


def test_a_bounded_number_of_resampled_numbers_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    series = independent(count=2000)
    whole = bootstrap_quantiles(series, 0.5)
    monkeypatch.setattr("vla_edge.bench.compare.stats.LARGEST_BATCH", 10_000)
    np.testing.assert_array_equal(bootstrap_quantiles(series, 0.5), whole)


@pytest.mark.parametrize("limit", [float("nan"), float("inf"), -0.01])
@pytest.mark.parametrize("name", ["threshold", "tail_threshold"])
def test_a_limit_that_nothing_can_exceed_is_refused_in_code_too(name: str, limit: float) -> None:
    report = report_of(row(independent()))
    with pytest.raises(InputError, match=f"{name}=.* is no part of 1"):
        compare(report, report, **{name: limit})
