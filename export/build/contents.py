"""What an engine is made of: layers and dtypes, counted."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from vla_edge.runtime.engines.tensorrt.library import LIBRARIES, Backend
from vla_edge.runtime.engines.tensorrt.record import Contents

# The text of a TensorRT-RTX plan, as version 1.7 writes it: one line per tensor and per call.
_TEXT_TENSOR = re.compile(rb"\n\s+tensor=\{(?![^\n]*is_scratchspace=1)[^\n]*? type=(\w+) \}")
_TEXT_CALL = re.compile(rb"\n\s+(\w+)=\{ ?name=\"?([^\s\"]+)[^\n]*stream=")
_TEXT_DTYPES = {"float": "float32", "half": "float16"}
# The number of its part, at the end of a layer's name.
_PART = re.compile(r" \[part (\d{1,4})\]$")
# A dtype word in the inspector's formats, such as "Half (1,80,2048)" or "Row major linear FP16 format".
_FORMAT_DTYPES = {
    "fp32": "float32", "float": "float32", "float32": "float32", "fp16": "float16", "half": "float16",
    "float16": "float16", "int32": "int32", "int64": "int64", "int8": "int8", "bool": "bool", "uint8": "uint8",
    "bf16": "bfloat16", "bfloat16": "bfloat16", "fp8": "float8",
}  # fmt: skip


def engine_contents(information: str, parts: int = 1) -> tuple[Contents | None, ...]:
    """From the JSON of TensorRT's engine inspector: layers by type, their outputs by dtype, of each part.

    None of one that holds no layers, as from a plan built without detail.

    Args:
        information: of all parts together, whose layers' names then end with "[part 2]".
        parts: how many there are.
    """
    layers: list[list[dict[str, Any]]] = [[] for _ in range(parts)]
    for layer in json.loads(information).get("Layers", []):
        if isinstance(layer, dict):
            found = _PART.search(str(layer.get("Name", "")))
            at = int(found[1]) - 1 if found and parts > 1 else 0
            layers[min(max(at, 0), parts - 1)].append(layer)
    return tuple(map(_layers_contents, layers))


def _layers_contents(layers: list[dict[str, Any]]) -> Contents | None:
    if not layers:
        return None
    kinds = Counter(str(layer.get("LayerType", "unknown")) for layer in layers)
    dtypes = Counter(_format_dtype(output) for layer in layers for output in layer.get("Outputs", []))
    return _contents("engine", kinds, dtypes)


def plan_contents(backend: Backend, plan: Any) -> Contents | None:
    """From the text inside a TensorRT-RTX plan: calls by kind, intermediate tensors by dtype.

    That text is not documented: None where it does not look as known.
    """
    if not LIBRARIES[backend].compiles_at_load:
        return None
    with memoryview(plan).cast("B") as image:
        # Fused kernels are named after the operations in them: __myl_CastMulMean_0x... is a "kernel".
        kinds = Counter(
            "kernel" if kind == b"function" else kind.decode() for kind, _ in _TEXT_CALL.findall(image)
        )
        dtypes = Counter(
            _TEXT_DTYPES.get(name.decode(), name.decode()) for name in _TEXT_TENSOR.findall(image)
        )
    return _contents("plan", kinds, dtypes) if kinds and dtypes else None


def network_contents(network: Any) -> Contents:
    """From the parsed network, before optimisation; strongly typed, so the dtypes are those that will run."""
    layers = [network.get_layer(at) for at in range(network.num_layers)]
    kinds = Counter(layer.type.name.lower() for layer in layers)
    outputs = (layer.get_output(at) for layer in layers for at in range(layer.num_outputs))
    dtypes = Counter(
        _format_dtype({"Format/Datatype": tensor.dtype.name}) for tensor in outputs if tensor is not None
    )
    return _contents("network", kinds, dtypes)


def _format_dtype(tensor: Any) -> str:
    text = str(tensor.get("Format/Datatype", tensor.get("Datatype", ""))) if isinstance(tensor, dict) else ""
    words = re.findall(r"[a-z]+\d*", text.lower())
    return next((_FORMAT_DTYPES[word] for word in words if word in _FORMAT_DTYPES), "unknown")


def _contents(source: Any, kinds: Counter[str], dtypes: Counter[str]) -> Contents:
    return Contents(source=source, layers=_sorted(kinds.items()), dtypes=_sorted(dtypes.items()))


def _sorted(items: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Most frequent first, then by name."""
    return dict(sorted(items, key=lambda item: (-item[1], item[0])))
