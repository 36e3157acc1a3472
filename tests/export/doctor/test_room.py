"""Memory and disk against a build of the full-size hybrid as one plan."""

from __future__ import annotations

from pathlib import Path

import pytest
from planted_machines import laptop, orin

from vla_edge.export.build.memory import disk_needed, memory_needed
from vla_edge.export.doctor.checks.room import Build, check_disk, check_memory
from vla_edge.export.doctor.finding import Finding
from vla_edge.export.doctor.machine import Gpu, Machine

MIB = 1 << 20
HYBRID = 3113 * MIB  # the plan that was measured
H100 = Gpu(name="NVIDIA H100", sm=90, total_mib=81559, integrated=False, cuda=13000)


def memory(machine: Machine, folder: Path, weights: int = HYBRID, largest: int | None = None) -> Finding:
    (finding,) = check_memory(machine, Build(folder, weights, largest))
    return finding


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
        "10.7 GiB of 15.2 GiB free, no swap; a build as one plan takes about 12.2 GiB, in parts 4.6 GiB: "
        "vla-build makes parts"
    )
    finding = memory(orin(tmp_path, meminfo(4_000, 0)), tmp_path, largest=600 * MIB)
    assert finding.verdict == "warning"
    assert finding.found.endswith("as one plan takes about 12.2 GiB, in parts 4.6 GiB")


def test_a_board_of_16_gb_without_swap_is_warned(tmp_path: Path) -> None:
    finding = memory(orin(tmp_path, meminfo(11_000, 0)), tmp_path)
    assert finding.verdict == "warning"
    assert finding.found == "10.7 GiB of 15.2 GiB free, no swap; a build as one plan takes about 12.2 GiB"
    assert "add swap" in finding.todo
    assert "sudo init 3" in finding.todo


def test_swap_counts(tmp_path: Path) -> None:
    finding = memory(orin(tmp_path, meminfo(11_000, 8_192)), tmp_path)
    assert finding.verdict == "ok"
    assert finding.found == "10.7 GiB of 15.2 GiB free, and 8.0 GiB of swap; a build takes about 12.2 GiB"


def test_little_memory_never_stops(tmp_path: Path) -> None:
    assert memory(orin(tmp_path, meminfo(1_000, 0)), tmp_path).verdict == "warning"


def test_beside_a_card_only_the_host_s_part_counts(tmp_path: Path) -> None:
    finding = memory(orin(tmp_path, meminfo(15_000, 0), gpu=H100), tmp_path)
    assert finding.found.endswith("takes about 11.1 GiB")


def test_a_container_s_limit_counts(tmp_path: Path) -> None:
    files = meminfo(11_000, 8_192)
    files["proc/self/cgroup"] = "0::/\n"
    files["sys/fs/cgroup/memory.max"] = str(4 << 30)
    files["sys/fs/cgroup/memory.current"] = "0"
    assert memory(orin(tmp_path, files), tmp_path).found.startswith("4.0 GiB of 15.2 GiB free, no swap")


def test_without_a_build_nothing_is_asked_of_the_memory(tmp_path: Path) -> None:
    (finding,) = check_memory(orin(tmp_path, meminfo(100, 0)), None)
    assert (finding.verdict, finding.found) == ("ok", "0.1 GiB of 15.2 GiB free, no swap")


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
    assert (finding.verdict, finding.found) == ("warning", f"0.0 GiB free at {tmp_path}")


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
