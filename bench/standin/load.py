"""The stand-in as a backend of the bench's worker."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Literal

import msgspec

from vla_edge.bench.backends.load import Loaded
from vla_edge.bench.measure.jobs import Job
from vla_edge.bench.options.options import Options
from vla_edge.runtime.engines.registry import ENGINES
from vla_edge.runtime.engines.session import Session

from .model import ACTIONS, BACKENDS, BUNDLE, PIXELS, STATE, Standin, golden

Protocol = Literal["owner", "bench"]
# of the published table
OWNER_WARMUP, OWNER_RUNS = 3, 30
FRAME = (224, 224)
STANDIN = Standin()


def standin_job(backend: str, protocol: Protocol, options: Options, scratch: Path) -> Job:
    """A job for the worker.

    Args:
        backend: of `model.BACKENDS`.
        protocol: "owner" for 3 warm-ups and 30 runs, "bench" for as many as the policies get.
        options: of the run; the stand-in has no paced loop and sees no frames.
        scratch: see `plan.find_or_build`.
    """
    own = {"runs": OWNER_RUNS, "warmup": OWNER_WARMUP} if protocol == "owner" else {}
    options = msgspec.structs.replace(options, images=(), rate_hz=None, **own)
    return Job(
        backend=backend,
        bundle=BUNDLE,
        options=options,
        frame=FRAME,
        scratch=str(scratch),
    )


def import_libraries(job: Job) -> None:
    """Import what the backend needs, so that its share of the cold start is seen apart.

    Raises:
        EngineError: the library is missing.
    """
    engine = BACKENDS[job.backend].engine
    if engine == "torch":
        importlib.import_module("vla_edge.bench.standin.module")
    else:
        ENGINES[engine].load_library()


def load(job: Job, standin: Standin = STANDIN) -> Loaded:
    """Make the weights and open the backend; a TensorRT plan is built on the spot. Tests take a smaller stand-in.

    Raises:
        EngineError: its library or GPU is missing, or refuses.
    """
    session, told = _open(standin, job)
    return Loaded(
        session=session,
        golden=lambda: {
            name: values for name, values in golden(standin).items() if name in (*session.inputs, ACTIONS)
        },
        state=session.inputs.keys() & {STATE},
        output=ACTIONS,
        action_scale=(1.0, 1.0),
        action_unit="m/s",  # as those who published its figures drive by them
        close=session.close,
        **told,
    )


def _open(standin: Standin, job: Job) -> tuple[Session, dict[str, Any]]:
    """The session, and what else is known of it, by the names of `Loaded`."""
    engine, precision = BACKENDS[job.backend]
    if engine == "torch":
        return _open_torch(standin, job)
    from .plan import open_onnxruntime, open_tensorrt

    if engine == "onnxruntime":
        return open_onnxruntime(standin, precision, job.options.threads), {}
    session, engine_ms, build_s = open_tensorrt(standin, precision, Path(job.scratch))
    built = (
        "plan built for an earlier row of this run"
        if build_s is None
        else f"plan built in {build_s:.0f} s while loading, in this process: the builder's share is in "
        "its device memory"
    )
    return session, {
        "device_ms": lambda steps: [engine_ms() for _ in range(steps)],
        "notes": (built, f"{PIXELS} and the zero state are copied in at every step"),
    }


def _open_torch(standin: Standin, job: Job) -> tuple[Session, dict[str, Any]]:
    from vla_edge.bench.backends.torch_session import TORCH_MODES, Signature, TorchSession, prepare_torch

    from .module import build_module

    prepare_torch(job.options.device, job.options.threads)
    module = build_module(standin)
    signature = Signature(standin.inputs[:1], standin.outputs, standin.identity)
    mode = TORCH_MODES[job.backend.partition(":")[2]]
    session = TorchSession(module, signature, mode, job.options.device)
    blocks = {parameter.untyped_storage().data_ptr() for parameter in module.rnn.parameters()}
    return session, {
        "device_ms": lambda steps: session.device_ms[-steps:],
        "queue_ms": lambda steps: session.queue_ms[-steps:],
        # of the steps: what was held while loading is told in the note
        "torch_allocator_peak_mib": session.step_peak_mib,
        "notes": _memory_notes(session.held_mib, session.load_peak_mib, flattened=len(blocks) == 1),
    }


def _memory_notes(held_mib: float | None, load_peak_mib: float | None, flattened: bool) -> tuple[str, ...]:
    """Where the RNN's weights do not lie in one block, PyTorch copies them into one at every call, and warns once."""
    if held_mib is None or load_peak_mib is None:
        return ()
    where = (
        "lie in one block, so PyTorch passes them to cuDNN without a copy"
        if flattened
        else "do not lie in one block, so PyTorch copies them at every call"
    )
    return (
        f"torch allocator: {held_mib:.1f} MiB of weights held after loading, {load_peak_mib:.1f} MiB at most "
        "while loading; the peak of this row is that of the steps",
        f"the RNN's weights {where}",
    )
