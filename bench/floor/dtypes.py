"""How many bytes numbers of each ONNX dtype take, packed as the format packs them, and which a step reads.

NumPy's item sizes would not do: it holds the numbers of fewer than eight bits in a byte each. ONNX's own names tell
the bits (INT4, BFLOAT16, FLOAT8E5M2; onnx.proto, TensorProto), but for three of them.
"""

from __future__ import annotations

import re

_BITS_WITHOUT_NUMBER = {"FLOAT": 32, "DOUBLE": 64, "BOOL": 8}
_BITS_IN_NAME = re.compile(r"[A-Z]+(\d+)")
# what a policy in another precision would hold in that precision; the others keep their size
_ANY_PRECISION = frozenset({"FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE"})

# Operators and the inputs of theirs that say what to do (shapes, axes, bounds): an engine folds constants there when
# it is built, and no step reads them.
_SECOND = "CumSum Expand OneHot Reshape Split Squeeze Tile TopK Trilu Unsqueeze"
_SETTLING: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(_SECOND.split(), (1,)),
    "ConstantOfShape": (0,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
}


def dtype_name(dtype: int) -> str:
    """ONNX's name of a dtype, such as "INT8"; of an unknown one its number."""
    from onnx import TensorProto

    try:
        return str(TensorProto.DataType.Name(dtype))
    except ValueError:
        return f"number {dtype}"


def size_bytes(elements: int, dtype: int) -> int | None:
    """Bytes of so many numbers, packed; None of a dtype without a fixed size, or an unknown one."""
    name = dtype_name(dtype)
    told = _BITS_IN_NAME.match(name)
    bits = int(told[1]) if told else _BITS_WITHOUT_NUMBER.get(name)
    return None if bits is None else -(-elements * bits // 8)


def follows_precision(dtype: int) -> bool:
    """Whether numbers of this dtype are floating-point ones that have 4 bytes in FP32 and 2 in FP16."""
    return dtype_name(dtype) in _ANY_PRECISION


def is_settled(operator: str, place: int) -> bool:
    """Whether a constant at this input of an operator is folded when an engine is built."""
    reduces = str(operator).startswith("Reduce")  # bytes, where a file has no text
    return place in ((1,) if reduces else _SETTLING.get(operator, ()))
