"""What is compared: the torch policy in FP32 and FP16, and each engine of the bundle."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from vla_edge.bench.measure.agreement import FrameRunner, run_frames
from vla_edge.bench.measure.jobs import Job
from vla_edge.bench.profiles.stages import Stages
from vla_edge.bench.report.types import Profile
from vla_edge.runtime.bundle.bundle import Bundle, load_golden
from vla_edge.runtime.bundle.manifest import CAMERA_STAGE, PIXELS, Manifest, TensorSpec
from vla_edge.runtime.engines.choice import open_session, unread_files
from vla_edge.runtime.engines.registry import ENGINES
from vla_edge.runtime.engines.session import Session
from vla_edge.runtime.engines.tensorrt.plan_names import backend_of, plans_in

from .torch_session import TORCH_MODES, Signature, TorchSession, prepare_torch

if TYPE_CHECKING:
    from torch import nn

    from vla_edge.export.family import Family
    from vla_edge.runtime.engines.tensorrt.session import TensorRtSession
    from vla_edge.runtime.policy import Policy

TORCH_NAMES: tuple[str, ...] = tuple(TORCH_MODES)
BACKEND_NAMES = (*TORCH_NAMES, *ENGINES)
PREPARED = (
    "it is given pixels that Pillow has made of the frames: that is not in its time, and in the engines'"
)
FROM_CACHE = "compiled out of Inductor's cache of an earlier run"


@dataclass(frozen=True)
class Loaded:
    """A backend ready to be measured.

    Attributes:
        session: runs one step.
        golden: reads inputs and reference actions for this session.
        state: names of its inputs that carry state.
        output: the name of its actions.
        state_stages: the output of each stage that is carried state.
        action_scale: from graph output to a component's unit, per component.
        action_unit: of errors of actions, such as "m/s".
        close: frees everything.
        act: one `Policy.act` from a camera frame; None where there is no such thing.
        device_ms: GPU milliseconds of that many steps without copies; of the latest ones, or run anew.
        queue_ms: the host's milliseconds to queue the kernels of the latest steps, that many of them.
        preprocess: `Policy.act`'s own preprocessing of the same frame.
        frames: the actions for image files in order; None where one step takes several frames.
        profile: stages and layers of that many more steps, or None; called last, it may close the session.
        torch_allocator_peak_mib: see `report.Memory`.
        compile_s: see `report.Row`.
        compile_notes: for the row, once it has compiled.
        load_split_s: see `report.ColdStart`.
        notes: for the row.
    """

    session: Session
    golden: Callable[[], Mapping[str, np.ndarray]]
    state: Collection[str]
    output: str
    action_scale: Sequence[float]
    action_unit: str
    close: Callable[[], None]
    state_stages: Mapping[str, str] = field(default_factory=dict)
    act: Callable[[], object] | None = None
    device_ms: Callable[[int], list[float]] = lambda steps: []
    queue_ms: Callable[[int], list[float]] = lambda steps: []
    preprocess: Callable[[], object] | None = None
    frames: FrameRunner | None = None
    profile: Callable[[int], Profile] | None = None
    torch_allocator_peak_mib: Callable[[], float | None] = lambda: None
    compile_s: Callable[[], float | None] = lambda: None
    compile_notes: Callable[[], tuple[str, ...]] = tuple
    load_split_s: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def engines_of(bundle: Bundle) -> tuple[str, ...]:
    """Those that read its graph, and those that it has plans of."""
    kinds = {backend_of(name) for name in plans_in(bundle.folder)}
    return tuple(name for name, engine in ENGINES.items() if engine.reads == "graph" or name in kinds)


def import_libraries(job: Job) -> None:
    """Import what the job's backend needs, so that its share of the cold start is seen apart."""
    backend = job.backend
    if backend in TORCH_NAMES:
        from vla_edge.export.libraries import import_reference

        import_reference(_family(Bundle.unchecked(job.bundle)))
        return
    importlib.import_module("vla_edge.runtime.policy")
    ENGINES[backend].load_library()


def load(job: Job) -> Loaded:
    """Open the job's backend.

    Raises:
        VlaError: the bundle, the checkpoint or the engine cannot be used.
    """
    if job.backend in TORCH_NAMES:
        return _load_torch(job)
    return _load_engine(job)


def _load_engine(job: Job) -> Loaded:
    """Everything that a robot does at its start: what the engine reads is hashed, then it is loaded."""
    from vla_edge.runtime.policy import Policy

    start = time.perf_counter()
    bundle = Bundle.open(job.bundle, verify="size")
    bundle.check_hashes(unread=unread_files(bundle, job.backend))
    checked_s = time.perf_counter() - start
    on_cpu = "cpu" in ENGINES[job.backend].devices
    options = {"threads": job.options.threads, "provider": job.options.device} if on_cpu else {}
    session = open_session(bundle, job.backend, **options)
    split_ms: Mapping[str, float] = getattr(session, "load_ms", {})
    profiler = _PROFILES.get(job.backend)
    run_engine_ms: Callable[[], float] | None = getattr(session, "run_engine_ms", None)
    loaded = replace(
        _on_bundle(session, bundle, partial(load_golden, bundle)),
        # TensorRT sessions time the engine alone; ONNX Runtime has nothing like it
        device_ms=lambda steps: [run_engine_ms() for _ in range(steps)] if run_engine_ms else [],
        profile=profiler(job, bundle, session) if profiler else None,
        load_split_s={"check": checked_s, **{step: spent / 1e3 for step, spent in split_ms.items()}},
    )
    batch = bundle.manifest.batch
    if batch != 1:
        note = f"no act column: Policy.act takes one frame, this bundle {batch}"
        return replace(loaded, notes=(note,))
    policy = Policy(bundle, session)
    # no shortcut for even areas, and the same frame everywhere
    frame = np.random.default_rng(0).integers(0, 256, (*job.frame, 3), dtype=np.uint8)
    return replace(
        loaded, close=policy.close, act=_acting(policy, frame), preprocess=_preparing(bundle, frame)
    )


def _on_bundle(session: Session, bundle: Bundle, golden: Callable[[], dict[str, np.ndarray]]) -> Loaded:
    """What every backend of a bundle has."""
    manifest = bundle.manifest
    state = frozenset(source for source, _ in manifest.runtime.state)
    return Loaded(
        session=session,
        golden=golden,
        state=state,
        output=manifest.actions.name,
        action_scale=manifest.action.scale,
        action_unit=manifest.action.unit,
        close=session.close,
        state_stages={
            stage.name: stage.tensor for stage in manifest.stages if stage.tensor in manifest.state_outputs
        },
        frames=(lambda frames: run_frames(session, bundle, golden(), state, frames))
        if manifest.batch == 1
        else None,
    )


_Profile = Callable[[int], Profile]


def _profile_of_plan(job: Job, bundle: Bundle, session: Session) -> _Profile:
    from vla_edge.bench.profiles.tensorrt import profile_plan

    return lambda runs: profile_plan(cast("TensorRtSession", session), _stages(bundle), runs)


def _profile_of_onnxruntime(job: Job, bundle: Bundle, session: Session) -> _Profile | None:
    if job.options.device != "cpu":
        return None  # ONNX Runtime times launches on CUDA, not kernels
    from vla_edge.bench.profiles.onnxruntime import profile_onnxruntime

    def profile(runs: int) -> Profile:
        session.close()  # the profiled session holds the weights once more
        return profile_onnxruntime(bundle, _stages(bundle), runs, job.options.threads)

    return profile


# Where the time of an engine's step goes, by its name in the registry.
_PROFILES: dict[str, Callable[[Job, Bundle, Session], _Profile | None]] = {
    "onnxruntime": _profile_of_onnxruntime,
    "tensorrt": _profile_of_plan,
    "tensorrt-rtx": _profile_of_plan,
}


def _torch_profile(job: Job, bundle: Bundle, policy: nn.Module, session: TorchSession) -> _Profile:
    from vla_edge.bench.profiles.torch import profile_torch

    family, device = _family(bundle), job.options.device
    stages = Stages(family.stage_patterns)
    return lambda runs: profile_torch(policy, session.run, device, runs, stages, family.called_alone)


def _family(bundle: Bundle) -> Family:
    # imported here: an engine's row is a robot's start, which knows of no family
    from vla_edge.export.families import family_of_bundle

    return family_of_bundle(bundle.manifest)


def _stages(bundle: Bundle) -> Stages:
    """Asked for when all else is measured."""
    of_family = _family(bundle).stage_patterns
    return Stages({CAMERA_STAGE: f"{CAMERA_STAGE}/", **of_family} if bundle.manifest.camera else of_family)


def _preparing(bundle: Bundle, frame: np.ndarray) -> Callable[[], object]:
    """What is left of it to the host: of a bundle with a camera the copy."""
    from vla_edge.runtime.camera_frame import FrameWriter
    from vla_edge.runtime.preprocess import Preprocessor

    manifest, settings = bundle.manifest, bundle.manifest.preprocessing
    if manifest.camera is not None:
        return partial(FrameWriter(manifest.camera), frame, np.empty_like(frame))
    target = np.empty((1, 3, settings.height, settings.width), np.float32)
    return partial(Preprocessor(settings), frame, target)


def _acting(policy: Policy, frame: np.ndarray) -> Callable[[], object]:
    def act() -> object:
        # a policy that holds its first action would otherwise answer from memory
        policy.reset()
        return policy.act(frame)

    return act


def _load_torch(job: Job) -> Loaded:
    """The bundle beside it gives settings and samples; its sizes are checked, its graph is not read."""
    prepare_torch(job.options.device, job.options.threads)
    bundle = Bundle.open(job.bundle, verify="size")
    policy = _torch_policy(job, bundle)
    mode = TORCH_MODES[job.backend]
    signature = Signature(_torch_inputs(bundle.manifest), bundle.manifest.outputs, bundle.identity)
    session = TorchSession(policy, signature, mode, job.options.device)
    eager = not mode.graph and mode.compile_mode is None
    return replace(
        _on_bundle(session, bundle, partial(_golden_with_token_ids, bundle)),
        device_ms=lambda steps: session.device_ms[-steps:],
        queue_ms=lambda steps: session.queue_ms[-steps:],
        profile=_torch_profile(job, bundle, policy, session) if eager else None,
        torch_allocator_peak_mib=session.peak_allocated_mib,
        compile_s=lambda: session.compile_s,
        compile_notes=lambda: (FROM_CACHE,) if session.compiled_from_cache else (),
        notes=(PREPARED,) if bundle.manifest.camera else (),
    )


def _torch_inputs(manifest: Manifest) -> tuple[TensorSpec, ...]:
    """Those of the graph, but pixels for a camera's frame: PyTorch knows of no camera."""
    spec = manifest.preprocessing
    pixels = TensorSpec(name=PIXELS, dtype="float32", shape=(manifest.batch, 3, spec.height, spec.width))
    return tuple(pixels if tensor.role == "frame" else tensor for tensor in manifest.inputs)


def _torch_policy(job: Job, bundle: Bundle) -> nn.Module:
    if job.checkpoint is None:
        from .random_policy import random_policy

        return random_policy(bundle.manifest)
    from vla_edge.export.checkpoint.checkpoint import read_checkpoint

    manifest, family = bundle.manifest, _family(bundle)
    settings = family.settings.from_manifest(manifest)
    checkpoint = read_checkpoint(Path(job.checkpoint), manifest.source.weights_key or None, family.name)
    return family.reference(checkpoint.architecture, settings, checkpoint.tensors, fused=True)


def _golden_with_token_ids(bundle: Bundle) -> dict[str, np.ndarray]:
    """The samples as the torch policy takes them: the tokenizer's ids, not rows of a reduced embedding."""
    golden = load_golden(bundle)
    rows, prompt = bundle.manifest.input_of("token_ids"), bundle.manifest.prompt
    if rows is None or prompt is None or prompt.vocabulary == "full":
        return golden
    return {**golden, rows.name: golden["token_ids"]}
