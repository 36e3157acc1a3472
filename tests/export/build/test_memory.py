"""Room for a build, and the memory that it will take, as far as builds before it tell."""

from __future__ import annotations

import pytest
from plan_builds import ADA, left_in
from plan_bundles import make_plan

from vla_edge.export.build.build import build_plan
from vla_edge.export.build.memory import Need, Prediction, Room, memory_needed, prediction, warn_of_memory
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
    import msgspec

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


def test_a_prediction_goes_by_the_worst_that_this_machine_has_seen(bundle: Bundle) -> None:
    plain = prediction("tensorrt", shared=True)
    need = plain(1154 * MIB).together // MIB
    seen = [
        part(bundle, 1154, peak_mib=need - 900),
        part(bundle, 42, peak_mib=plain(42 * MIB).together // MIB - 300),
        part(bundle, 603, peak_mib=1, timing_cache="reused"),  # known kernels are not measured again
        part(bundle, 603),  # nothing was measured
    ]
    corrected = prediction("tensorrt", True, seen)
    assert corrected(1154 * MIB).together // MIB == need - 300
    more = prediction("tensorrt", True, [*seen, part(bundle, 170, peak_mib=20_000)])
    assert more(170 * MIB).together // MIB == 20_000


def test_host_and_gpu_are_corrected_apart_where_they_are_apart(bundle: Bundle) -> None:
    seen = [part(bundle, 1154, peak_host_mib=7434, peak_gpu_mib=3066, peak_mib=10_500)]
    need = prediction("tensorrt", False, seen)(1154 * MIB)
    assert (need.host // MIB, need.gpu // MIB) == (7434, 3066)


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


def test_a_prediction_is_never_less_than_nothing() -> None:
    low = Prediction(
        prediction("tensorrt", True).host, prediction("tensorrt", True).gpu, True, host_shift=-99 * GIB
    )
    assert low(MIB).host == 0


def test_too_little_disk_is_refused_with_figures(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1 << 20})
    monkeypatch.setattr("vla_edge.export.build.memory.shutil.disk_usage", lambda path: usage)
    with pytest.raises(ResourceError, match=r"Not enough disk .* GiB needed, .* GiB free"):
        build_plan(bundle, ADA)
    assert left_in(bundle) == []


def test_too_little_memory_is_a_warning_with_what_would_help(caplog: pytest.LogCaptureFixture) -> None:
    need = Need(host=10 * GIB, gpu=3 * GIB)
    warn_of_memory("the build", need, Room(12 * GIB, None, None, shared=True))
    assert "the build may run out of memory: about 13.0 GiB together with the GPU's" in caplog.text
    assert "12.0 GiB available with swap" in caplog.text
    for words in ("add swap", "sudo init 3", "--workspace-mib 512", "--ignore-memory"):
        assert words in caplog.text
    warn_of_memory("part a", need, Room(9 * GIB, 2 * GIB, 5 * GIB, shared=False), "more parts (--parts 9)")
    assert "about 10.0 GiB and 3.0 GiB of the GPU's" in caplog.text
    assert "9.0 GiB available with swap, 2.0 GiB free on the GPU, a limit of 5.0 GiB" in caplog.text
    assert "fast storage, more parts (--parts 9), a lower --level" in caplog.text
