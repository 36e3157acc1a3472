"""Plans are really built here, by TensorRT-RTX, which needs no GPU for it; what they hold is read back."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import onnx
import pytest
from click.testing import CliRunner
from known_layouts import LAYOUTS
from onnx import TensorProto, helper
from rich.console import Console
from trt_fakes import FakeDevice
from trt_support import tiny_graph, write_bundle

from vla_edge.export.build import build as build_module
from vla_edge.export.build.build import build_plan, verify_existing
from vla_edge.export.build.cli import build as build_command
from vla_edge.export.build.memory import check_room
from vla_edge.export.build.options import BuildOptions
from vla_edge.export.build.progress import ShownProgress, Silent, make_monitor, run_interruptibly
from vla_edge.export.build.stages import measure_stages
from vla_edge.export.build.target import Target, open_target
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.tensorrt.library import load_library
from vla_edge.runtime.engines.tensorrt.plan import PlanFile, find_plan, open_plan, read_record
from vla_edge.runtime.engines.tensorrt.plan_header import read_header
from vla_edge.runtime.engines.tensorrt.plan_names import record_path
from vla_edge.runtime.engines.tensorrt.record import Check, Machine, PlanVerification
from vla_edge.runtime.errors import BundleError, EngineError, InputError, ParityError, ResourceError
from vla_edge.runtime.process.interrupts import Interrupted

ADA = BuildOptions(backend="tensorrt-rtx", sm=89)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Path]:
    """A bundle and its plan for SM 8.9. Do not write to it."""
    bundle = write_bundle(tmp_path_factory.mktemp("built") / "bundle")
    return bundle, build_plan(bundle, ADA).path


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "bundle")


def left_in(bundle: Bundle) -> list[str]:
    folder = bundle.folder / "plans"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_a_plan_and_its_side_file_tell_what_was_built(built: tuple[Bundle, Path]) -> None:
    bundle, path = built
    version = load_library("tensorrt-rtx").version
    assert path == bundle.folder / "plans" / f"tensorrt-rtx-{version}-sm89.plan"
    record = read_record(path, bundle.folder)
    assert record.machine == Machine(backend="tensorrt-rtx", version=version, sm=89, gpu=None, driver=None)
    assert record.size_bytes == path.stat().st_size
    assert [entry.path for entry in record.model] == ["model.onnx", "model.onnx.data"]
    assert record.build.seconds > 0
    assert record.build.peak_host_mib > 50
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
    with open_plan(plan) as image:
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
    assert again.record.sha256 == first.sha256


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


@pytest.mark.parametrize("sm", [50, 90])
def test_a_gpu_here_that_rtx_does_not_know_is_refused_as_by_its_number(
    monkeypatch: pytest.MonkeyPatch, sm: int
) -> None:
    closed: list[bool] = []
    gpu = SimpleNamespace(info=SimpleNamespace(sm=sm), close=lambda: closed.append(True))
    monkeypatch.setattr("vla_edge.export.build.target.open_device", lambda *_: gpu)
    with (
        pytest.raises(EngineError, match=f"does not build for SM {sm}") as caught,
        open_target("tensorrt-rtx", 0, "cuda-bindings", None),
    ):
        pass
    assert "use --backend tensorrt" in caught.value.hint
    assert closed


@pytest.mark.parametrize(
    ("work", "hinted"),
    [(build_plan, True), (verify_existing, False), (measure_stages, False)],
    ids=["build", "verify", "stages"],
)
def test_without_a_gpu_one_may_be_named_only_where_the_plan_is_kept(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, work: Callable[..., object], hinted: bool
) -> None:
    def none(*_: object) -> None:
        raise EngineError("There is no NVIDIA driver on this machine.", "Install the driver.")

    monkeypatch.setattr("vla_edge.export.build.target.open_device", none)
    with pytest.raises(EngineError, match="no NVIDIA driver") as caught:
        work(bundle, BuildOptions(backend="tensorrt-rtx"), Silent())
    assert ("such as --sm 89" in caught.value.hint) == hinted


@pytest.mark.parametrize("count", [1, 2])
def test_a_kill_between_plan_and_record_costs_no_plan(bundle: Bundle, count: int) -> None:
    """At the first rename the earlier pair is still there; at the second the next build finishes the new one."""
    before = record_path(build_plan(bundle, ADA).path).read_bytes()
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


def test_a_capability_that_rtx_does_not_know_is_refused(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match="does not build for SM 90") as caught:
        build_plan(bundle, replace(ADA, sm=90))
    assert "--backend tensorrt on them" in caught.value.hint


def test_tensorrt_proper_does_not_build_for_an_absent_gpu(bundle: Bundle) -> None:
    with pytest.raises(InputError, match="builds for the GPU that it runs on"):
        build_plan(bundle, BuildOptions(backend="tensorrt", sm=87))


def test_a_graph_that_the_parser_refuses_is_named_with_its_node(bundle: Bundle) -> None:
    model = tiny_graph()
    model.graph.node.append(
        helper.make_node("NoSuchOperator", ["actions"], ["strange"], name="/strange/NoSuch")
    )
    model.graph.output.append(helper.make_tensor_value_info("strange", TensorProto.FLOAT, [1, 1, 2]))
    onnx.save(model, bundle.model_path)
    with pytest.raises(EngineError) as caught:
        build_plan(bundle, ADA)
    assert f"cannot read {bundle.model_path}" in caught.value.problem
    assert "/strange/NoSuch" in caught.value.problem
    assert "NoSuchOperator" in caught.value.problem
    assert left_in(bundle) == []


def test_a_file_that_is_not_onnx_is_refused(bundle: Bundle) -> None:
    bundle.model_path.write_bytes(b"not a graph")
    with pytest.raises(BundleError, match=r"model\.onnx is not a graph that can be trusted"):
        build_plan(bundle, ADA)


@pytest.mark.parametrize("location", ["link.bin", "../secret.bin", "/dev/zero"])
def test_the_builder_does_not_see_a_graph_that_reads_elsewhere(bundle: Bundle, location: str) -> None:
    (bundle.folder.parent / "secret.bin").write_bytes(bytes(1 << 20))
    (bundle.folder / "link.bin").symlink_to("../secret.bin")
    model = onnx.load(bundle.model_path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = location if entry.key == "location" else entry.value
    bundle.model_path.write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=f"takes its data from '{location}'"):
        build_plan(bundle, ADA)
    assert left_in(bundle) == []


def test_too_little_disk_is_refused_with_figures(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1 << 20})
    monkeypatch.setattr("vla_edge.export.build.memory.shutil.disk_usage", lambda path: usage)
    with pytest.raises(ResourceError, match=r"Not enough disk .* GiB needed, .* GiB free"):
        build_plan(bundle, ADA)
    assert left_in(bundle) == []


@pytest.mark.parametrize(
    ("available", "ignore", "warns"),
    [(1 << 29, False, True), (1 << 29, True, False), (1 << 40, False, False), (None, False, False)],
)
def test_too_little_memory_is_a_warning_with_what_would_help(
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    available: int | None,
    ignore: bool,
    warns: bool,
) -> None:
    monkeypatch.setattr("vla_edge.export.build.memory.available_memory_bytes", lambda: available)
    check_room(bundle, ignore_memory=ignore)
    assert bool(caplog.messages) == warns
    if warns:
        assert "1.0 GiB needed by a measurement on an H100, 0.5 GiB available" in caplog.text
        assert "add swap" in caplog.text
        assert "--ignore-memory" in caplog.text


def test_phases_are_reported(bundle: Bundle) -> None:
    class Counting(Silent):
        def __init__(self) -> None:
            self.open: list[str] = []
            self.phases: set[str] = set()
            self.steps = 0

        def start(self, phase: str, parent: str | None, steps: int) -> None:
            self.open.append(phase)
            self.phases.add(phase)

        def step(self, phase: str, done: int) -> None:
            self.steps += 1

        def finish(self, phase: str) -> None:
            self.open.remove(phase)

    seen = Counting()
    build_plan(bundle, ADA, seen)
    assert seen.steps > 10
    assert len(seen.phases) > 3
    assert not seen.open


def test_off_a_terminal_progress_is_one_line_per_phase() -> None:
    with Path(os.devnull).open("w") as nowhere:
        console = Console(file=nowhere, record=True)
        with ShownProgress(console) as shown:
            shown.start("Building engine", None, 3)
            shown.start("Timing", "Building engine", 2)
            shown.start("Deep", "Timing", 2)
            shown.step("Building engine", 1)
            shown.finish("Building engine")
        assert console.export_text() == "Building engine\n  Timing\n"


def test_on_a_terminal_progress_is_bars() -> None:
    with (
        Path(os.devnull).open("w") as nowhere,
        ShownProgress(Console(file=nowhere, force_terminal=True)) as shown,
    ):
        shown.start("Building engine", None, 3)
        shown.step("Building engine", 1)
        shown.step("never started", 1)
        shown.finish("Building engine")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_builder_and_leaves_nothing(bundle: Bundle, number: signal.Signals) -> None:
    class Interrupting(Silent):
        sent = False

        def step(self, phase: str, done: int) -> None:
            if not self.sent:
                self.sent = True
                os.kill(os.getpid(), number)
                threading.Event().wait(0.5)  # longer than the main thread takes to notice

    with pytest.raises(Interrupted) as ended:
        build_plan(bundle, ADA, Interrupting())
    assert ended.value.exit_code == 128 + number
    assert left_in(bundle) == []
    assert build_plan(bundle, ADA).fresh


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_leaves_quietly_on_a_signal(bundle: Bundle, number: signal.Signals) -> None:
    lines = f"""
import os, signal, vla_edge.export.build.progress as progress
inner = progress.ShownProgress.start
def start(self, *arguments):
    inner(self, *arguments)
    if arguments[1] is None:
        os.kill(os.getpid(), {int(number)})
        os.kill(os.getpid(), {int(number)})
progress.ShownProgress.start = start
import sys
sys.argv = ["vla-build", {str(bundle.folder)!r}, "--backend", "tensorrt-rtx", "--sm", "89"]
from vla_edge.export.build.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, timeout=60)
    assert done.returncode == 128 + number, done.stderr
    assert "interrupted" in done.stderr
    assert left_in(bundle) == []


def test_an_error_in_the_build_thread_reaches_the_caller() -> None:
    def fail() -> None:
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        run_interruptibly(fail, make_monitor(load_library("tensorrt-rtx").trt, Silent()))


# --- verification: the GPU's part is faked, the files are real


def verification(passed: bool) -> PlanVerification:
    check = Check(
        stage="action",
        metric="max_abs",
        unit="m/s",
        limit=0.02,
        measured=0.01 if passed else 0.5,
        passed=passed,
    )
    return PlanVerification(
        passed=passed,
        note="action 0.5 m/s, gate 0.02.",
        engine="a GPU",
        samples=(),
        checks=(check,),
        checked_utc="now",
    )


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Makes the builder believe that the target's GPU is here, and that verification passes or not."""
    inner = build_module.open_target

    def make(passed: bool) -> None:
        from contextlib import contextmanager

        @contextmanager
        def target_with_gpu(*arguments: Any, **named: Any) -> Any:
            with inner(*arguments, **named) as target:
                yield Target(target.library, target.machine, FakeDevice([], sm=89), "")

        monkeypatch.setattr(build_module, "open_target", target_with_gpu)
        monkeypatch.setattr(build_module, "verify_plan", lambda *arguments: (verification(passed), None))

    return make


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
    def verify(plan: PlanFile, *_: object) -> tuple[PlanVerification, None]:
        plan.path.with_name(plan.path.name + ".runtime-cache").write_bytes(b"kernels")
        plan.path.with_name("core.1234").write_bytes(b"of a crash")
        return verification(True), None

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
    with pytest.raises(ParityError):
        verify_existing(bundle, ADA)
    assert not path.exists()
    assert path.with_name(path.name + ".rejected").exists()


# --- the command


def run(*arguments: object) -> Any:
    return CliRunner().invoke(build_command, [str(argument) for argument in arguments], standalone_mode=False)


def test_the_command_prints_what_was_built(bundle: Bundle) -> None:
    result = run(bundle.folder, "--backend", "tensorrt-rtx", "--sm", 89, "--sm", 120)
    assert result.exception is None
    for words in (
        "-sm89.plan",
        "-sm120.plan",
        "SM 12.0, GPU not here",
        "float16",
        "next, on the target: vla-build --verify",
    ):
        assert words in result.stdout
    assert result.stdout.startswith("NOT checked: built for SM 8.9 on a machine without that GPU.")
    assert "(was there already)" in run(bundle.folder, "--backend", "tensorrt-rtx", "--sm", 89).stdout


def test_the_command_shows_all_gates_of_a_plan_that_missed_one(
    bundle: Bundle, with_gpu: Callable[[bool], None]
) -> None:
    with_gpu(False)
    result = run(bundle.folder, "--backend", "tensorrt-rtx", "--sm", 89)
    assert isinstance(result.exception, build_module.RejectedPlanError)
    verdict, heads, action = result.stdout.splitlines()
    assert verdict.startswith("REJECTED: action 0.5 m/s, gate ")
    assert heads.split() == ["stage", "error", "allowed", "room"]
    assert action.split()[:3] == ["action", "0.5", "m/s"]
    assert "MISSED" in action
    assert run(bundle.folder, "--backend", "tensorrt-rtx", "--sm", 89, "--json").stdout == ""


def test_the_command_begins_with_the_error_of_a_plan_that_was_checked(
    bundle: Bundle, with_gpu: Callable[[bool], None]
) -> None:
    with_gpu(True)
    result = run(bundle.folder, "--backend", "tensorrt-rtx", "--sm", 89)
    assert result.stdout.startswith("checked: action within ")
    assert result.stdout.splitlines()[-1] == f"next: vla-run {bundle.folder} IMAGE"


def test_the_command_prints_the_side_file_as_json(built: tuple[Bundle, Path]) -> None:
    result = run(built[0].folder, "--backend", "tensorrt-rtx", "--sm", 89, "--json")
    assert msgspec.json.encode(json.loads(result.stdout))
    assert json.loads(result.stdout)["machine"]["sm"] == 89


def test_a_machine_without_tensorrt_is_told_what_to_install(built: tuple[Bundle, Path]) -> None:
    result = run(built[0].folder, "--backend", "tensorrt")
    assert isinstance(result.exception, EngineError)
    assert result.exception.problem.startswith(("TensorRT is not installed", "There is no NVIDIA driver"))


@pytest.mark.parametrize("options", [("--verify", "--stages"), ("--timing-cache", "x", "--no-timing-cache")])
def test_options_that_exclude_each_other_are_refused(
    built: tuple[Bundle, Path], options: tuple[str, ...]
) -> None:
    result = run(built[0].folder, *options)
    assert "exclude each other" in str(result.exception)


def test_stages_are_measured_in_one_engine_only(built: tuple[Bundle, Path]) -> None:
    result = run(built[0].folder, "--backend", "tensorrt-rtx", "--stages", "--sm", 89, "--sm", 120)
    assert "--stages measures one engine: give --sm once" in str(result.exception)


def test_help_needs_no_engine_and_shows_examples() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import vla_edge.export.build.cli"],
        capture_output=True,
        text=True,
    )
    for heavy in ("torch", "onnx", "tensorrt_rtx", "transformers"):
        assert f"| {heavy}\n" not in done.stderr
    assert "Examples:" in CliRunner().invoke(build_command, ["--help"]).output


# --- every layout


@pytest.mark.parametrize(("layout", "clip"), LAYOUTS)
def test_every_layout_builds_and_keeps_its_precision(
    bundle_of: Callable[..., Path], tmp_path: Path, layout: str, clip: str
) -> None:
    source = bundle_of(layout, clip, "fp16")
    folder = tmp_path / "bundle"
    folder.symlink_to(source)
    bundle = Bundle.open(folder)
    with open_target("tensorrt-rtx", 0, "cuda-bindings", 89) as target:
        built = build_module._build_into(tmp_path / "layout.plan", bundle, target, ADA, Silent())
    assert isinstance(built, PlanFile)
    contents = built.record.contents
    assert contents.source == "plan"
    assert contents.dtypes["float16"] > contents.dtypes.get("float32", 0) / 4
    assert contents.layers["fully_connected"] > 4
