"""Memory and disk against a build of the full-size hybrid as one plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from plan_bundles import make_plan, small_bundle
from planted_machines import by_id, laptop, orin

from vla_edge.export.build.memory import disk_needed, memory_needed
from vla_edge.export.doctor.checks.bundle import pending_build
from vla_edge.export.doctor.checks.room import Build, check_disk, check_memory
from vla_edge.export.doctor.checks.running import (
    CUDA_BYTES,
    PROGRAM_BYTES,
    SCRATCH_BYTES,
    Running,
    running_memory,
)
from vla_edge.export.doctor.finding import Finding
from vla_edge.export.doctor.machine import Gpu, Machine
from vla_edge.export.resources import RESIZE_FACTOR

MIB = 1 << 20
HYBRID = 3113 * MIB  # the plan that was measured
H100 = Gpu(name="NVIDIA H100", sm=90, total_mib=81559, integrated=False, cuda=13000)


def memory(machine: Machine, folder: Path, weights: int = HYBRID, largest: int | None = None) -> Finding:
    findings = check_memory(machine, Build(folder, weights, largest), running_memory(None, machine))
    return by_id([*findings], "build-memory")


def meminfo(available_mib: int, swap_mib: int) -> dict[str, str | None]:
    return {
        "proc/meminfo": f"MemTotal: 15908864 kB\nMemAvailable: {available_mib * 1024} kB\n"
        f"SwapTotal: 0 kB\nSwapFree: {swap_mib * 1024} kB\n"
    }


def test_a_board_needs_what_was_measured_above_its_own_builder() -> None:
    measured = 9_841 + 2_584
    assert measured <= memory_needed(HYBRID, shared=True) // MIB < 1.02 * measured
    assert 11_357 <= memory_needed(HYBRID, shared=False) // MIB < 1.02 * 11_357


def test_parts_fit_where_the_whole_does_not(tmp_path: Path) -> None:
    finding = memory(orin(tmp_path, meminfo(11_000, 0)), tmp_path, largest=600 * MIB)
    assert finding.verdict == "ok"
    assert finding.found == (
        "a build as one plan takes about 12.2 GiB, in parts 4.6 GiB, 10.7 GiB free with swap: vla-build makes parts"
    )
    finding = memory(orin(tmp_path, meminfo(4_000, 0)), tmp_path, largest=600 * MIB)
    assert finding.verdict == "warning"
    assert finding.found.endswith("about 12.2 GiB, in parts 4.6 GiB, 3.9 GiB free with swap")


def test_a_board_of_16_gb_without_swap_is_warned(tmp_path: Path) -> None:
    finding = memory(orin(tmp_path, meminfo(11_000, 0)), tmp_path)
    assert finding.verdict == "warning"
    assert finding.found == "a build as one plan takes about 12.2 GiB, 10.7 GiB free with swap"
    assert "add swap" in finding.todo
    assert "sudo init 3" in finding.todo


def test_a_build_is_predicted_of_the_library_that_makes_it(tmp_path: Path) -> None:
    build = Build(tmp_path, HYBRID, backend="tensorrt-rtx")
    findings = check_memory(orin(tmp_path, meminfo(14_000, 0)), build, None)
    assert "a build takes about 9.2 GiB" in by_id([*findings], "build-memory").found


def test_builds_on_this_machine_correct_the_prediction(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "small")
    make_plan(bundle, version="10.3.0", passed=False)
    gpu = Gpu(name="Fake GPU", sm=87, total_mib=15_536, integrated=True, cuda=12_060)  # that built it
    machine = orin(tmp_path, gpu=gpu)
    build = pending_build(bundle.folder, machine)
    assert build is not None
    assert (build.backend, [part.name for part in build.measured]) == ("tensorrt", ["whole"])
    make_plan(bundle, version="10.3.0", passed=None)
    assert pending_build(bundle.folder, machine) is None  # vla-build --verify is enough


def test_swap_counts(tmp_path: Path) -> None:
    finding = memory(orin(tmp_path, meminfo(11_000, 8_192)), tmp_path)
    assert finding.verdict == "ok"
    assert finding.found == "a build takes about 12.2 GiB, 18.7 GiB free with swap"


def test_little_memory_never_stops_a_build(tmp_path: Path) -> None:
    assert memory(orin(tmp_path, meminfo(1_000, 0)), tmp_path).verdict == "warning"


def test_beside_a_card_only_the_host_s_part_counts(tmp_path: Path) -> None:
    finding = memory(orin(tmp_path, meminfo(15_000, 0), gpu=H100), tmp_path)
    assert finding.found == "a build takes about 11.1 GiB, 14.6 GiB free with swap"


def test_a_container_s_limit_counts(tmp_path: Path) -> None:
    files = meminfo(11_000, 8_192)
    files["proc/self/cgroup"] = "0::/\n"
    files["sys/fs/cgroup/memory.max"] = str(4 << 30)
    files["sys/fs/cgroup/memory.current"] = "0"
    assert free(orin(tmp_path, files)).found == "4.0 GiB of 15.2 GiB free, no swap"


def free(machine: Machine, running: Running | None = None) -> Finding:
    (finding,) = check_memory(machine, None, running or running_memory(None, machine))
    return finding


def test_a_board_without_room_for_any_policy_stops(tmp_path: Path) -> None:
    """What a service asks before each start, when it names no bundle."""
    finding = free(orin(tmp_path, meminfo(100, 0)))
    assert (finding.id, finding.verdict) == ("memory", "stops")
    assert finding.found == (
        "0.1 GiB of 15.2 GiB free, no swap; any policy takes 0.7 GiB before its weights: CUDA 0.5 GiB, "
        "the program 0.2 GiB"
    )
    assert free(orin(tmp_path, meminfo(710, 0))).verdict == "ok"
    assert free(orin(tmp_path, meminfo(100, 8_192))).verdict == "warning"


def test_of_a_policy_that_runs_nothing_is_asked(tmp_path: Path) -> None:
    (finding,) = check_memory(orin(tmp_path, meminfo(100, 0)), None, None)
    assert (finding.verdict, finding.found) == ("ok", "0.1 GiB of 15.2 GiB free, no swap")


def test_what_is_hardly_there_is_told_in_mib(tmp_path: Path) -> None:
    assert free(orin(tmp_path, meminfo(4_000, 12))).found == "3.9 GiB of 15.2 GiB free, and 12 MiB of swap"
    assert free(laptop(tmp_path)).found.endswith("no swap")


@pytest.mark.parametrize(
    ("available_mib", "swap_mib", "verdict"),
    [(4_000, 0, "ok"), (3_900, 0, "stops"), (3_900, 1_000, "warning"), (100, 1_000, "stops")],
)
def test_a_plan_is_held_against_what_is_free(
    tmp_path: Path, available_mib: int, swap_mib: int, verdict: str
) -> None:
    hybrid = Running("its plan", 3124 * MIB, PROGRAM_BYTES, CUDA_BYTES + SCRATCH_BYTES + 3124 * MIB)
    assert 3_766 <= hybrid.gpu // MIB < 1.01 * 3_766  # as measured
    finding = free(orin(tmp_path, meminfo(available_mib, swap_mib)), hybrid)
    assert finding.verdict == verdict
    assert (
        "; running its plan takes about 3.9 GiB: weights 3.1 GiB, CUDA and the program 0.8 GiB"
        in finding.found
    )


def test_a_card_s_own_memory_is_the_one_that_counts(tmp_path: Path) -> None:
    plan = Running("its plan", HYBRID, PROGRAM_BYTES, CUDA_BYTES + HYBRID)
    finding = free(orin(tmp_path, meminfo(1_000, 0), gpu=H100), plan)
    assert (finding.verdict, finding.found) == (
        "ok",
        "1.0 GiB of 15.2 GiB free, no swap; running its plan takes about 0.2 GiB, and 3.5 GiB of the GPU's "
        "79.6 GiB",
    )
    small = Gpu(name="Small", sm=89, total_mib=2_048, integrated=False, cuda=13000)
    assert free(orin(tmp_path, meminfo(9_000, 0), gpu=small), plan).verdict == "stops"


def test_the_sizes_are_the_side_file_s(tmp_path: Path) -> None:
    bundle, machine = small_bundle(tmp_path / "small"), orin(tmp_path)
    before = running_memory(bundle.folder, machine)
    assert (before.what, before.weights) == ("its plan, once it is built,", len("model.onnx.data"))
    make_plan(bundle, version="10.3.0")
    running = running_memory(bundle.folder, machine)
    assert (running.what, running.weights, running.host) == ("its plan", 4096, PROGRAM_BYTES)
    on_cpu = running_memory(bundle.folder, laptop(tmp_path))
    assert (on_cpu.what, on_cpu.gpu) == ("it on the CPU", 0)
    (bundle.folder / "manifest.json").write_text("{")
    assert running_memory(bundle.folder, machine).weights is None


def test_resizing_a_camera_s_frames_on_the_cpu_is_counted(
    tmp_path: Path, make_bundle: Callable[..., Path]
) -> None:
    machine = laptop(tmp_path)
    plain = running_memory(make_bundle(name="plain"), machine)
    seeing = running_memory(make_bundle(name="seeing", camera=(480, 640, "rgb")), machine)
    around = [running.host - (running.weights or 0) for running in (plain, seeing)]
    assert around == [PROGRAM_BYTES, PROGRAM_BYTES + RESIZE_FACTOR * 480 * 640 * 3]


def test_a_full_disk_stops_a_build_where_nothing_else_runs(tmp_path: Path) -> None:
    (finding,) = check_disk(orin(tmp_path), tmp_path, Build(tmp_path, 1 << 50))
    assert finding.verdict == "stops"
    assert f"free at {tmp_path}; a plan needs 1101004.9 GiB" in finding.found
    (finding,) = check_disk(laptop(tmp_path), tmp_path, Build(tmp_path, 1 << 50))
    assert finding.verdict == "warning"


def test_a_full_disk_is_told_without_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 5 * MIB})
    monkeypatch.setattr("vla_edge.export.doctor.checks.room.shutil.disk_usage", lambda folder: usage)
    (finding,) = check_disk(orin(tmp_path), tmp_path, None)
    assert (finding.verdict, finding.found) == ("warning", f"5 MiB free at {tmp_path}")


def test_room_for_a_plan_is_fine(tmp_path: Path) -> None:
    (finding,) = check_disk(orin(tmp_path), tmp_path, Build(tmp_path, MIB))
    assert finding.verdict == "ok"
    assert disk_needed(MIB) < 66 * MIB


def test_a_folder_that_cannot_be_written_holds_no_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vla_edge.export.doctor.checks.room.os.access", lambda *asked: False)
    (finding,) = check_disk(orin(tmp_path), tmp_path, Build(tmp_path, MIB))
    assert finding.verdict == "stops"
    assert "is not writable" in finding.found
