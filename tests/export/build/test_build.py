"""Plans are really built here, by TensorRT-RTX, which needs no GPU for it; what they hold is read back."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_tensorrt import FakeDevice
from known_layouts import LAYOUTS
from plan_builds import ADA, left_in, verified, verifies

from vla_edge.export.build import build as build_module
from vla_edge.export.build.build import build_plan, verify_existing
from vla_edge.export.build.parts import making
from vla_edge.export.build.target import Target
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.choice import open_session
from vla_edge.runtime.engines.tensorrt.library import load_library
from vla_edge.runtime.engines.tensorrt.plan import PlanFile, find_plan, hash_plan, open_part, read_record
from vla_edge.runtime.engines.tensorrt.plan_header import read_header
from vla_edge.runtime.engines.tensorrt.plan_names import record_path
from vla_edge.runtime.engines.tensorrt.record import Machine, encode_record
from vla_edge.runtime.errors import EngineError, ParityError


def test_a_plan_and_its_side_file_tell_what_was_built(built: tuple[Bundle, Path]) -> None:
    bundle, path = built
    version = load_library("tensorrt-rtx").version
    assert path == bundle.folder / "plans" / f"tensorrt-rtx-{version}-sm89.plan"
    record = read_record(path, bundle.folder)
    assert record.machine == Machine(backend="tensorrt-rtx", version=version, sm=89, gpu=None, driver=None)
    assert record.size_bytes == path.stat().st_size
    assert [entry.path for entry in record.model] == ["model.onnx", "model.onnx.data"]
    assert record.build_seconds > 0
    assert record.peak_host_mib > 50
    assert record.verification.passed is None
    assert "SM 8.9 on a machine without that GPU" in record.verification.note
    assert left_in(bundle) == [path.name, path.name + ".json"]


def test_the_plan_holds_half_precision_matmuls_and_float32_islands(built: tuple[Bundle, Path]) -> None:
    contents = read_record(built[1], built[0].folder).contents
    assert contents.source == "plan"
    assert contents.layers["fully_connected"] == 5  # the five matrix products of the graph
    assert contents.layers["kernel"] >= 3
    assert contents.dtypes["float16"] > 5
    assert contents.dtypes["float32"] > 3


def test_the_header_of_a_real_plan_names_its_tensorrt(built: tuple[Bundle, Path]) -> None:
    header = read_header(built[1].read_bytes()[:64])
    assert header is not None
    assert str(header) == load_library("tensorrt-rtx").version


def test_the_plan_passes_every_check_but_the_golden_samples(built: tuple[Bundle, Path]) -> None:
    bundle, path = built
    machine = Machine(
        backend="tensorrt-rtx", version=load_library("tensorrt-rtx").version, sm=89, gpu="a GPU", driver=""
    )
    plan = find_plan(bundle, machine)
    with open_part(plan, plan.record.parts[0]) as image:
        assert len(image) == path.stat().st_size


def test_a_plan_that_is_there_is_kept(built: tuple[Bundle, Path]) -> None:
    before = built[1].stat().st_mtime_ns
    result = build_plan(built[0], ADA)
    assert not result.fresh
    assert built[1].stat().st_mtime_ns == before


def test_force_builds_again_and_the_same_graph_gives_the_same_plan(bundle: Bundle) -> None:
    first = build_plan(bundle, ADA).record
    again = build_plan(bundle, replace(ADA, force=True))
    assert again.fresh
    assert again.record.parts[0].sha256 == first.parts[0].sha256


def test_a_stale_plan_is_replaced(bundle: Bundle) -> None:
    path = build_plan(bundle, ADA).path
    record = json.loads(record_path(path).read_text())
    record_path(path).write_text(json.dumps({**record, "manifest_sha256": "0" * 64}))
    assert build_plan(bundle, ADA).fresh
    path.write_bytes(path.read_bytes()[:-1])
    assert build_plan(bundle, ADA).fresh


def test_a_plan_with_a_flipped_bit_is_replaced(bundle: Bundle) -> None:
    result = build_plan(bundle, ADA)
    good = result.path.read_bytes()
    result.path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert build_plan(bundle, ADA).fresh
    assert result.path.read_bytes() == good


@pytest.mark.parametrize("held", [False, True])
def test_what_a_killed_build_left_is_removed_and_a_living_ones_folder_stays(
    bundle: Bundle, held: bool
) -> None:
    left = bundle.folder / "plans" / ".a.plan.vla-0123456789abcdef.partial"
    left.mkdir(parents=True)
    (left / "foreign.plan").write_bytes(b"of another build")
    lock = os.open(left, os.O_RDONLY)
    if held:
        fcntl.flock(lock, fcntl.LOCK_EX)
    path = build_plan(bundle, ADA).path
    os.close(lock)
    assert left_in(bundle) == [*([left.name] if held else []), path.name, path.name + ".json"]


@pytest.mark.parametrize("count", [1, 2])
def test_a_kill_between_plan_and_record_costs_no_plan(bundle: Bundle, count: int) -> None:
    """At the first rename the earlier pair is still there; at the second the next build finishes the new one."""
    path = build_plan(bundle, ADA).path
    path.write_bytes(path.read_bytes()[:-1] + b"!")  # an earlier build with other choices of kernels
    record = read_record(path, bundle.folder)
    sha256, chunks = hash_plan(memoryview(path.read_bytes()))
    part = msgspec.structs.replace(record.parts[0], sha256=sha256, chunk_sha256=chunks)
    before = encode_record(msgspec.structs.replace(record, parts=(part,)))
    record_path(path).write_bytes(before)
    lines = f"""
import os, pathlib, sys
real, renamed = pathlib.Path.replace, []
def replace(self, target):
    if str(target).endswith((".plan", ".plan.json")) and ".vla-" not in str(pathlib.Path(target).parent):
        renamed.append(target)
    if len(renamed) == {count}:
        os.kill(os.getpid(), 9)
    return real(self, target)
pathlib.Path.replace = replace
sys.argv = ["vla-build", {str(bundle.folder)!r}, "--backend", "tensorrt-rtx", "--sm", "89", "--force"]
from vla_edge.export.build.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, timeout=60)
    assert done.returncode == -9
    again = build_plan(bundle, ADA)
    assert not again.fresh
    assert (record_path(again.path).read_bytes() == before) == (count == 1)
    assert left_in(bundle) == [again.path.name, again.path.name + ".json"]


def test_a_plan_within_its_gates_is_recorded_as_checked(
    bundle: Bundle, with_gpu: Callable[[bool], None]
) -> None:
    with_gpu(True)
    record = build_plan(bundle, ADA).record
    assert record.verification.passed is True
    assert not build_plan(bundle, ADA).fresh


def test_only_the_plan_its_record_and_its_runtime_cache_are_published(
    bundle: Bundle, with_gpu: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def verify(plan: PlanFile, *_: object) -> Any:
        plan.path.with_name(plan.path.name + ".runtime-cache").write_bytes(b"kernels")
        plan.path.with_name("core.1234").write_bytes(b"of a crash")
        return verified(True, plan)

    with_gpu(True)
    monkeypatch.setattr(build_module, "verify_plan", verify)
    name = build_plan(bundle, ADA).path.name
    assert left_in(bundle) == [name, f"{name}.json", f"{name}.runtime-cache"]


def test_a_plan_that_misses_a_gate_is_set_aside(bundle: Bundle, with_gpu: Callable[[bool], None]) -> None:
    with_gpu(False)
    with pytest.raises(ParityError, match=r"more than its gates allow: action 0\.5 m/s") as caught:
        build_plan(bundle, ADA)
    names = left_in(bundle)
    assert [name.rsplit("plan", 1)[1] for name in names] == [".rejected", ".rejected.json"]
    assert names[0] in caught.value.hint
    assert caught.value.hint.endswith(f"vla-bisect {bundle.folder} --backend tensorrt-rtx")
    record = json.loads((bundle.folder / "plans" / names[1]).read_text())
    assert record["verification"]["passed"] is False


def test_a_good_plan_stays_when_its_successor_misses_a_gate(
    bundle: Bundle, with_gpu: Callable[[bool], None]
) -> None:
    with_gpu(True)
    path = build_plan(bundle, ADA).path
    good = path.read_bytes(), record_path(path).read_bytes()
    with_gpu(False)
    with pytest.raises(ParityError):
        build_plan(bundle, replace(ADA, force=True))
    assert (path.read_bytes(), record_path(path).read_bytes()) == good


@pytest.mark.parametrize(
    ("shared", "order"),
    [
        (True, ["open", "close", "build", "open", "verify", "close"]),
        (False, ["open", "build", "verify", "close"]),
    ],
)
def test_a_board_builds_while_this_process_holds_no_gpu(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, shared: bool, order: list[str]
) -> None:
    inner, build, seen = build_module.open_target, making.build_apart, list[str]()

    @contextmanager
    def opened(*arguments: Any, **named: Any) -> Iterator[Target]:
        with inner(*arguments, **named) as target:
            device = FakeDevice([], sm=89)
            device.info = replace(device.info, integrated=shared)
            seen.append("open")
            yield Target(target.library, target.machine, device, "")
            seen.append("close")

    def noted(name: str, result: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments: (seen.append(name), result(*arguments))[1]

    monkeypatch.setattr(build_module, "open_target", opened)
    monkeypatch.setattr(making, "build_apart", noted("build", build))
    monkeypatch.setattr(build_module, "verify_plan", noted("verify", verifies(True)))
    assert build_plan(bundle, ADA).fresh
    assert seen == order


def test_an_unchecked_plan_is_checked_where_its_gpu_is(
    bundle: Bundle, with_gpu: Callable[[bool], None]
) -> None:
    path = build_plan(bundle, ADA).path
    with pytest.raises(EngineError, match="cannot run here"):
        verify_existing(bundle, ADA)
    with_gpu(True)
    assert verify_existing(bundle, ADA).record.verification.passed is True
    assert read_record(path, bundle.folder).verification.passed is True
    with_gpu(False)
    before = left_in(bundle)
    with pytest.raises(ParityError) as caught:
        verify_existing(bundle, ADA)
    # A robot may be running it. It is refused from now on, and is no reason to take the CPU.
    assert left_in(bundle) == before
    assert read_record(path, bundle.folder).verification.passed is False
    assert f"vla-build --verify {bundle.folder} --backend tensorrt-rtx" in caught.value.hint
    for backend in ("auto", "tensorrt-rtx"):
        with pytest.raises(EngineError):
            open_session(bundle, backend)
    with_gpu(True)
    assert verify_existing(bundle, ADA).record.verification.passed is True


@pytest.mark.parametrize(("layout", "clip"), LAYOUTS)
def test_every_layout_builds_and_keeps_its_precision(
    bundle_of: Callable[..., Path], tmp_path: Path, layout: str, clip: str
) -> None:
    shutil.copytree(bundle_of(layout, clip, "fp16"), tmp_path / "bundle")
    contents = build_plan(Bundle.open(tmp_path / "bundle"), ADA).record.contents
    assert contents.source == "plan"
    assert contents.dtypes["float16"] > contents.dtypes.get("float32", 0) / 4
    assert contents.layers["fully_connected"] > 4
