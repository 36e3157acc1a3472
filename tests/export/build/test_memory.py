"""Room for a build, and the memory that it will take, as far as builds before it tell."""

from __future__ import annotations

from itertools import combinations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_builds import ADA, left_in
from plan_bundles import make_plan

from vla_edge.export.build.build import build_plan
from vla_edge.export.build.memory import (
    Corrected,
    Line,
    Need,
    Room,
    memory_needed,
    prediction,
    warn_of_memory,
)
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.tensorrt.plan import read_record
from vla_edge.runtime.engines.tensorrt.record import PartRecord
from vla_edge.runtime.errors import ResourceError

MIB, GIB = 1 << 20, 1 << 30
# weights; above the builder's own 4728 and 1816: host, GPU, largest sum (MiB; H100, TensorRT 10.6)
MEASURED = [
    (42, 170, 103, 266),
    (168, 466, 261, 595),
    (596, 1294, 675, 1969),
    (961, 1820, 1053, 2874),
    (981, 2105, 1077, 3184),
    (3113, 6629, 3211, 9841),
]


def part(bundle: Bundle, weights_mib: int, **build: object) -> PartRecord:
    plan = make_plan(bundle)
    only = read_record(plan, bundle.folder).parts[0]
    facts = msgspec.structs.replace(only.build, **build)
    return msgspec.structs.replace(only, weights_bytes=weights_mib * MIB, build=facts)


@pytest.mark.parametrize(("weights", "host", "gpu", "together"), MEASURED)
def test_nothing_that_was_measured_took_more_than_is_predicted(
    weights: int, host: int, gpu: int, together: int
) -> None:
    need = prediction("tensorrt", shared=False)(weights * MIB)
    assert need.host >= (host + 4728) * MIB
    assert need.gpu >= (gpu + 1816) * MIB
    board = prediction("tensorrt", shared=True)(weights * MIB)
    assert board.together >= (together + 964 + 1620) * MIB
    assert board.together == memory_needed(weights * MIB, shared=True)


def test_a_part_of_a_full_size_policy_fits_a_board_of_8_gb_and_the_whole_one_of_16() -> None:
    large, small = (Room(host=left * MIB, gpu=None, limit=None, shared=True) for left in (14_000, 5_900))
    predict = prediction("tensorrt", shared=True)
    assert large.excess(predict(3113 * MIB)) < 0 < small.excess(predict(3113 * MIB))
    assert small.excess(predict(961 * MIB)) < 0


SUBSETS = [rows for count in range(len(MEASURED) + 1) for rows in combinations(MEASURED, count)]


@pytest.mark.parametrize("less", [0, 300, 900])
def test_after_any_measured_builds_none_is_predicted_below_what_it_took(bundle: Bundle, less: int) -> None:
    """On a machine like that of the table, and on one whose library is smaller."""
    own, board_own = 4728 - less, 964 + 1620 - less
    rows = {
        row: part(
            bundle,
            row[0],
            peak_host_mib=own + row[1],
            peak_gpu_mib=1816 + row[2],
            peak_mib=board_own + row[3],
        )
        for row in MEASURED
    }
    for seen in SUBSETS:
        parts = [rows[row] for row in seen]
        apart, board = prediction("tensorrt", False, parts), prediction("tensorrt", True, parts)
        for weights, host, gpu, together in MEASURED:
            need = apart(weights * MIB)
            assert need.host >= (host + own) * MIB
            assert need.gpu >= (gpu + 1816) * MIB
            assert board(weights * MIB).together >= (together + board_own) * MIB


def test_a_smaller_library_is_told_by_a_small_part_for_all(bundle: Bundle) -> None:
    plain = prediction("tensorrt", shared=True)
    seen = [
        part(bundle, 42, peak_mib=964 + 1620 - 900 + 266),
        part(bundle, 603, peak_mib=1, timing_cache="reused"),  # known kernels are not measured again
        part(bundle, 603),  # nothing was measured
        part(bundle, 603, peak_mib=0),
    ]
    corrected = prediction("tensorrt", True, seen)
    for weights in (1, 42, 961, 3113):
        saved = plain(weights * MIB).together - corrected(weights * MIB).together
        assert 800 * MIB < saved < 900 * MIB


SEEN = st.lists(st.tuples(st.integers(0, 4000), st.integers(1, 20_000)), max_size=5)


@given(SEEN, SEEN.filter(bool), st.integers(0, 4000))
def test_what_was_seen_corrects_within_reason(
    before: list[tuple[int, int]], later: list[tuple[int, int]], weights: int
) -> None:
    line = Line(1000, 100, 2.0)

    def mib(seen: list[tuple[int, int]]) -> list[tuple[int, int]]:
        return [(at * MIB, peak * MIB) for at, peak in seen]

    plain = line.size_bytes(weights * MIB)
    first, then = Corrected(line, mib(before)), Corrected(line, mib([*before, *later]))
    predicted = then.size_bytes(weights * MIB)
    assert plain // 2 <= predicted <= 2 * plain
    assert predicted <= then.size_bytes((weights + 1) * MIB)
    for at, peak in mib([*before, *later]):
        assert then.size_bytes(at) >= min(peak, 2 * line.size_bytes(at))
    # builds that took no more than was predicted of them, before and without corrections, raise nothing
    if all(peak <= min(first.size_bytes(at), line.size_bytes(at)) for at, peak in mib(later)):
        assert predicted <= first.size_bytes(weights * MIB)


@pytest.mark.parametrize(("peak", "times"), [(1 << 40, 2), (1, 0.5)])
def test_one_side_file_moves_a_prediction_by_no_more_than_half_or_double(
    bundle: Bundle, peak: int, times: float
) -> None:
    plain = prediction("tensorrt-rtx", shared=False)
    seen = [part(bundle, 100, peak_host_mib=peak, peak_mib=peak, peak_gpu_mib=None)]
    need, before = prediction("tensorrt-rtx", False, seen)(100 * MIB), plain(100 * MIB)
    low, high = sorted((before.host, times * before.host))
    assert low <= need.host <= high
    assert need.gpu == 0


def test_a_gpu_that_was_not_measured_is_predicted_as_before(bundle: Bundle) -> None:
    seen = [part(bundle, 961, peak_host_mib=6000, peak_gpu_mib=None)]
    plain = prediction("tensorrt", False)(3113 * MIB)
    assert prediction("tensorrt", False, seen)(3113 * MIB).gpu == plain.gpu


def test_more_than_was_predicted_is_expected_of_larger_ones_too(bundle: Bundle) -> None:
    plain = prediction("tensorrt", shared=True)
    more = prediction("tensorrt", True, [part(bundle, 961, peak_mib=plain(961 * MIB).together // MIB + 500)])
    excess = [(more(w * MIB).together - plain(w * MIB).together) // MIB for w in (42, 961, 1500, 3113)]
    assert excess[0] == excess[1] == 499  # whole MiB
    assert 500 < excess[2] < excess[3] <= 1000


def test_what_a_large_part_took_too_much_is_not_added_to_small_ones_that_took_less(bundle: Bundle) -> None:
    """As on a CPU, where vision took more than the line has, and fusion and actions less."""
    taken = {54: 332, 5: 56, 13: 75}
    seen = [part(bundle, weights, peak_host_mib=host) for weights, host in taken.items()]
    plain = prediction("tensorrt-rtx", False)
    first, again = prediction("tensorrt-rtx", False, seen), prediction("tensorrt-rtx", False, seen * 3)
    for weights, host in taken.items():
        assert first(weights * MIB).host == again(weights * MIB).host >= host * MIB
    for weights in (2, 5, 13):
        assert first(weights * MIB).host == plain(weights * MIB).host
    assert first(54 * MIB).host == 332 * MIB
    assert plain.origin == "builds on x86 without a GPU"
    assert first.origin == "builds on this machine and on x86 without a GPU"


def test_a_small_head_does_not_make_towers_look_smaller(bundle: Bundle) -> None:
    """TensorRT-RTX 1.7 on x86, without a GPU: after these three, parts of 126 and 105 MiB took 475 and 432."""
    seen = [part(bundle, w, peak_host_mib=host) for w, host in ((198, 657), (23, 188), (10, 73))]
    predict = prediction("tensorrt-rtx", False, seen)
    assert predict(126 * MIB).host >= 475 * MIB
    assert predict(105 * MIB).host >= 432 * MIB


def test_host_and_gpu_are_corrected_apart_where_they_are_apart(bundle: Bundle) -> None:
    seen = [part(bundle, 1154, peak_host_mib=7434, peak_gpu_mib=3166, peak_mib=10_600)]
    need = prediction("tensorrt", False, seen)(1154 * MIB)
    assert (need.host // MIB, need.gpu // MIB) == (7434, 3166)


def test_a_library_that_times_nothing_takes_little() -> None:
    need = prediction("tensorrt-rtx", shared=False)(232 * MIB)
    assert 795 * MIB <= need.host < 1000 * MIB
    assert need.gpu == 0


def test_one_memory_is_one_number_and_two_are_two() -> None:
    need = Need(host=10 * GIB, gpu=3 * GIB)
    assert Room(12 * GIB, None, None, shared=True).excess(need) == 1 * GIB
    assert Room(12 * GIB, 8 * GIB, None, shared=False).excess(need) == -2 * GIB
    assert Room(99 * GIB, 2 * GIB, None, shared=False).excess(need) == 1 * GIB
    assert Room(99 * GIB, 99 * GIB, 12 * GIB, shared=False).excess(need) == 1 * GIB
    assert Room(None, None, None, shared=True).excess(need) <= 0


def test_too_little_disk_is_refused_with_figures(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1 << 20})
    monkeypatch.setattr("vla_edge.export.build.memory.shutil.disk_usage", lambda path: usage)
    with pytest.raises(ResourceError, match=r"Not enough disk .* GiB needed, .* GiB free"):
        build_plan(bundle, ADA)
    assert left_in(bundle) == []


def test_too_little_memory_is_a_warning_with_what_would_help(caplog: pytest.LogCaptureFixture) -> None:
    need = Need(host=10 * GIB, gpu=3 * GIB)
    warn_of_memory("the build", need, Room(12 * GIB, None, None, shared=True), "builds on an H100")
    words = "the build may run out of memory: about 13,312 MiB together with the GPU's predicted from builds on an"
    assert words in caplog.text
    assert "12,288 MiB available with swap" in caplog.text
    for words in ("add swap", "sudo init 3", "--workspace-mib 512", "--ignore-memory"):
        assert words in caplog.text
    assert "--parts" not in caplog.text
    warn_of_memory("part a", need, Room(9 * GIB, 2 * GIB, 5 * GIB, shared=False), "builds", 9)
    assert "about 10,240 MiB and 3,072 MiB of the GPU's" in caplog.text
    assert "9,216 MiB available with swap, 2,048 MiB free on the GPU, a limit of 5,120 MiB" in caplog.text
    assert "What helps: more parts (--parts 9), stop other programs" in caplog.text
    assert "a higher --memory-limit, a lower --level" in caplog.text


def test_under_a_limit_of_ones_own_no_other_program_needs_to_stop(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_memory("it", Need(10 * GIB, 0), Room(99 * GIB, None, 5 * GIB, shared=True), "builds")
    assert "What helps: a higher --memory-limit, a lower --level" in caplog.text
