"""Plans that no bundle holds yet, run as one engine: what a builder measures before it writes them."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from vla_edge.runtime.bundle.manifest import TensorSpec
from vla_edge.runtime.cuda.device import CudaDevice
from vla_edge.runtime.engines.tensorrt.engine import Engine, tensor_specs
from vla_edge.runtime.engines.tensorrt.library import Library
from vla_edge.runtime.errors import EngineError
from vla_edge.runtime.files.regular_file import open_regular

from .chain import MAIN_STREAM, Chain, ChainPart, make_chain
from .engine_chain import EngineChain
from .engines import PartEngines
from .runner import EngineRunner

_ORIGIN = "the engine just built"
_MEMORY_HINT = "Free device memory if it ran out."


@contextmanager
def open_chain(
    library: Library,
    device: CudaDevice,
    plans: Sequence[Any],
    *,
    streams: Sequence[int] | None = None,
    outputs: Sequence[str] | None = None,
    graph: bool = True,
) -> Iterator[EngineRunner]:
    """Run plans that this process trusts, one behind the other, each on what those before it made.

    Args:
        library: the TensorRT that built them.
        device: the GPU.
        plans: in the order of execution; each a path, or the plan itself with the buffer protocol.
        streams: of each plan, as `ChainPart.stream`; else all in line.
        outputs: names of the tensors to return, of whatever plan makes them; else what no other plan takes.
        graph: capture a CUDA graph.

    Yields:
        The runner, with the inputs that no plan makes.

    Raises:
        EngineError: TensorRT refuses one, they do not fit together, or no plan makes an output.
    """
    with ExitStack() as owned:  # frees in the opposite order
        device.activate()
        loaded = []
        for plan in plans:
            loaded.append(_load(library, plan))
            owned.callback(loaded[-1].close)
        chain = _chain(loaded, streams or [MAIN_STREAM] * len(loaded), outputs)
        engines = PartEngines(library, chain)
        owned.callback(engines.close)
        for engine in loaded:
            engines.adopt(engine)
        runner = EngineRunner(device, EngineChain(device, engines), graph=graph)
        owned.callback(runner.close)
        yield runner


def _load(library: Library, plan: Any) -> Engine:
    if not isinstance(plan, Path):
        return Engine(library, plan, _ORIGIN, _MEMORY_HINT)
    with open_regular(plan) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
        return Engine(library, image, str(plan), _MEMORY_HINT)


def _chain(engines: Sequence[Engine], streams: Sequence[int], outputs: Sequence[str] | None) -> Chain:
    parts = [
        ChainPart(
            f"{at + 1}",
            tensor_specs(engine.engine, "input"),
            tensor_specs(engine.engine, "output"),
            stream,
        )
        for at, (engine, stream) in enumerate(zip(engines, streams, strict=True))
    ]
    made = {spec.name: spec for part in parts for spec in part.outputs}
    taken = {spec.name: spec for part in parts for spec in part.inputs}
    inputs = [spec for name, spec in taken.items() if name not in made]
    wanted = [name for name in made if name not in taken] if outputs is None else outputs
    return make_chain(
        parts, inputs, [_made(made, name) for name in wanted], origin=_ORIGIN, hint=_MEMORY_HINT
    )


def _made(made: dict[str, TensorSpec], name: str) -> TensorSpec:
    if name not in made:
        raise EngineError(f"No plan makes {name}.", f"Name one of {', '.join(sorted(made)[:20])}.")
    return made[name]
