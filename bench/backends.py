"""What is compared: the torch policy in FP32 and FP16, and each engine of the bundle."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

import numpy as np

from vla_edge.runtime.bundle import Bundle, load_golden
from vla_edge.runtime.errors import EngineError
from vla_edge.runtime.sessions import PLANS_FOLDER, open_session
from vla_edge.runtime.sessions.base import Session

from .jobs import Job

if TYPE_CHECKING:
    from vla_edge.runtime.policy import Policy

TorchName = Literal["torch-fp32", "torch-fp16", "torch-fp16-graph"]
GRAPH_SUFFIX = "-graph"  # one CUDA graph of the whole forward pass: on a GPU only
EngineName = Literal["onnxruntime", "tensorrt", "tensorrt-rtx"]
TORCH_NAMES: tuple[str, ...] = get_args(TorchName)
ENGINE_NAMES: tuple[str, ...] = get_args(EngineName)
BACKEND_NAMES = (*TORCH_NAMES, *ENGINE_NAMES)


@dataclass(frozen=True)
class Loaded:
    """A backend ready to be measured.

    Attributes:
        session: runs one step.
        golden: reads inputs and reference actions for this session.
        state: names of its inputs that carry state.
        action_scale: m/s per unit of action, per component.
        close: frees everything.
        act: one `Policy.act` from a camera frame; None where there is no such thing.
        device_ms: GPU milliseconds of that many steps without copies; of the latest ones, or run anew.
        torch_allocator_peak_mib: see `report.Memory`.
        notes: for the row.
    """

    session: Session
    golden: Callable[[], Mapping[str, np.ndarray]]
    state: Collection[str]
    action_scale: Sequence[float]
    close: Callable[[], None]
    act: Callable[[], object] | None = None
    device_ms: Callable[[int], list[float]] = lambda steps: []
    torch_allocator_peak_mib: Callable[[], float | None] = lambda: None
    notes: tuple[str, ...] = ()


def engines_of(bundle: Bundle) -> tuple[str, ...]:
    """ONNX Runtime for every bundle, and each TensorRT that the bundle has plans of."""
    plans = [path.name for path in (bundle.folder / PLANS_FOLDER).glob("*.plan")]
    # plans are named <backend>-<version>-sm<NN>.plan
    kinds = {plan.rsplit("-", 2)[0] for plan in plans}
    return tuple(name for name in ENGINE_NAMES if name == "onnxruntime" or name in kinds)


def import_libraries(backend: str) -> None:
    """Import what the backend needs, so that its share of the cold start is seen apart."""
    if backend in TORCH_NAMES:
        importlib.import_module("vla_edge.export.policies")
        transformers = importlib.import_module("transformers")
        # transformers imports its models when they are first asked for
        _ = transformers.Kosmos2Model, transformers.CLIPModel
        return
    importlib.import_module("vla_edge.runtime.policy")
    if backend == "onnxruntime":
        importlib.import_module("vla_edge.runtime.sessions.onnxruntime").import_onnxruntime()
    else:
        importlib.import_module("vla_edge.runtime.sessions.trt_library").load_library(backend)


def load(job: Job) -> Loaded:
    """Open the job's backend.

    Raises:
        VlaError: the bundle, the checkpoint or the engine cannot be used.
    """
    if job.backend in TORCH_NAMES:
        return _load_torch(job)
    return _load_engine(job)


def _load_engine(job: Job) -> Loaded:
    """Everything that a robot does at its start: every file is hashed, then the engine is loaded."""
    from vla_edge.runtime.policy import Policy

    bundle = Bundle.open(job.bundle)
    name = cast(EngineName, job.backend)
    options = {"threads": job.threads, "provider": job.device} if name == "onnxruntime" else {}
    session = open_session(bundle, name, **options)
    manifest = bundle.manifest
    batch = manifest.inputs[0].shape[0]
    policy = Policy(bundle, session) if batch == 1 else None
    return Loaded(
        session=session,
        golden=lambda: load_golden(bundle),
        state=_state_inputs(bundle),
        action_scale=manifest.action.scale,
        close=policy.close if policy else session.close,
        act=_acting(policy, job.frame) if policy else None,
        device_ms=_engine_times(session),
        notes=() if policy else (f"no act column: Policy.act takes one frame, this bundle {batch}",),
    )


def _acting(policy: Policy, frame: tuple[int, int]) -> Callable[[], object]:
    """One `act` on a frame of noise: no shortcut for even areas, and the same frame everywhere."""
    pixels = np.random.default_rng(0).integers(0, 256, (*frame, 3), dtype=np.uint8)

    def act() -> object:
        # a policy that holds its first action would otherwise answer from memory
        policy.reset()
        return policy.act(pixels)

    return act


def _engine_times(session: Session) -> Callable[[int], list[float]]:
    """TensorRT sessions time the engine alone; ONNX Runtime has nothing like it."""
    run_engine_ms: Callable[[], float] | None = getattr(session, "run_engine_ms", None)
    if run_engine_ms is None:
        return lambda steps: []
    return lambda steps: [run_engine_ms() for _ in range(steps)]


def _load_torch(job: Job) -> Loaded:
    """The bundle beside it gives settings and samples; its sizes are checked, its graph is not read."""
    import torch

    from vla_edge.export.checkpoint import read_checkpoint
    from vla_edge.export.policies import build_policy
    from vla_edge.export.settings import settings_from_manifest

    from .torch_session import Precision, TorchSession

    if job.checkpoint is None:
        raise EngineError(f"{job.backend} needs the checkpoint.", "Pass it with --checkpoint.")
    if job.device == "cuda" and not torch.cuda.is_available():
        raise EngineError("PyTorch sees no GPU.", "Install a CUDA build of torch, or use --device cpu.")
    torch.set_num_threads(job.threads)
    bundle = Bundle.open(job.bundle, verify="size")
    policy = build_policy(read_checkpoint(Path(job.checkpoint)), settings_from_manifest(bundle.manifest))
    precision: Precision = "fp32" if "fp32" in job.backend else "fp16"
    graph = job.backend.endswith(GRAPH_SUFFIX)
    session = TorchSession(policy, bundle, precision, job.device, graph=graph)
    return Loaded(
        session=session,
        golden=lambda: _golden_with_token_ids(bundle),
        state=_state_inputs(bundle),
        action_scale=bundle.manifest.action.scale,
        close=session.close,
        device_ms=lambda steps: session.device_ms[-steps:],
        torch_allocator_peak_mib=session.peak_allocated_mib,
    )


def _state_inputs(bundle: Bundle) -> frozenset[str]:
    return frozenset(source for source, _ in bundle.manifest.runtime.state)


def _golden_with_token_ids(bundle: Bundle) -> dict[str, np.ndarray]:
    """The samples as the torch policy takes them: the tokenizer's ids, not rows of a reduced embedding."""
    golden = load_golden(bundle)
    if bundle.manifest.prompt.vocabulary == "full" or "input_ids" not in golden:
        return golden
    return {**golden, "input_ids": golden["token_ids"]}
