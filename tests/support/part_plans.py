"""Plans in parts on a fake GPU: side files, files of noise, and the fake engines that TensorRT makes of them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
from fake_tensorrt import FakeDevice, FakeEngine, FakeTensorRt
from plan_bundles import make_plan

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import Manifest, TensorSpec
from vla_edge.runtime.engines.tensorrt.parts.chain import ChainPart
from vla_edge.runtime.engines.tensorrt.plan import hash_plan, read_record
from vla_edge.runtime.engines.tensorrt.plan_names import part_path, record_path
from vla_edge.runtime.engines.tensorrt.record import encode_record


def tensor(name: str, *shape: int, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape or (1, 4))  # type: ignore[arg-type]


def two_streams(manifest: Manifest) -> tuple[ChainPart, ...]:
    """Four parts of the tiny bundle: vision and text in line, a tower beside them, and a head that takes both."""
    pixels, ids, mask = manifest.inputs
    return (
        ChainPart("vision", (pixels,), (tensor("seen"),)),
        ChainPart("tower", (pixels,), (tensor("towered"),), stream=1),
        ChainPart("text", (tensor("seen"), ids, mask), (tensor("read"),)),
        ChainPart("head", (tensor("read"), tensor("towered")), manifest.outputs),
    )


def random_parts(
    seed: int, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> tuple[ChainPart, ...]:
    """A random graph of parts on random streams, which takes every input and makes every output."""
    rng = random.Random(seed)
    count = rng.randint(1, 9)
    streams = rng.randint(1, 4)
    there, parts = list(inputs), list[ChainPart]()
    for at in range(count):
        last = at == count - 1
        makes = (
            tuple(outputs) if last else tuple(tensor(f"t{at}.{k}", 1, 1) for k in range(rng.randint(1, 2)))
        )
        takes = tuple(rng.sample(there, rng.randint(1, min(3, len(there)))))
        if last:
            taken = {spec.name for part in parts for spec in part.inputs}
            takes = tuple(dict.fromkeys((*takes, *(spec for spec in inputs if spec.name not in taken))))
        parts.append(ChainPart(f"p{at}", takes, makes, rng.randrange(streams)))
        there += makes
    return tuple(parts)


def part_bytes(name: str, size: int = 2048) -> bytes:
    """Noise of its own for each name."""
    return np.random.default_rng(list(name.encode())).bytes(size)


def make_parts_plan(
    bundle: Bundle, parts: Sequence[ChainPart], contents: Mapping[str, bytes] | None = None, **options: Any
) -> Path:
    """Write a plan in parts with a true side file: what each holds by its name, else noise, its `part_bytes`."""
    plan = make_plan(bundle, **options)
    record = read_record(plan, bundle.folder)
    plan.unlink()
    records = []
    for part in parts:
        data = (contents or {}).get(part.name) or part_bytes(part.name)
        whole, chunks = hash_plan(memoryview(data))
        path = part_path(plan, part.name, whole)
        path.write_bytes(data)
        changes = {"name": part.name, "file": path.name, "size_bytes": len(data), "sha256": whole}
        tensors = {"chunk_sha256": chunks, "inputs": plain(part.inputs), "outputs": plain(part.outputs)}
        records.append(
            msgspec.structs.replace(
                record.parts[0], **changes, **tensors, stream=part.stream, weights_bytes=1000, key=whole
            )
        )
    record = msgspec.structs.replace(record, parts=tuple(records))
    record_path(plan).write_bytes(encode_record(record))
    return plan


def plain(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name=each.name, dtype=each.dtype, shape=each.shape) for each in specs)


def fake_engines(
    trt: FakeTensorRt, device: FakeDevice, parts: Sequence[ChainPart], rtx: bool = False
) -> list[FakeEngine]:
    """Let the fake TensorRT make an engine of each part's `part_bytes`, once; gives them."""
    engines = [
        FakeEngine(device, SimpleNamespace(inputs=part.inputs, outputs=part.outputs), rtx) for part in parts
    ]
    for part, engine in zip(parts, engines, strict=True):
        trt.engines[part_bytes(part.name)] = [engine]
    return engines
