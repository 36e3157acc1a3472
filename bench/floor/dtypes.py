"""How many bits a number of each ONNX dtype takes in memory, packed as the format packs it (onnx.proto, TensorProto).

NumPy's item sizes would not do: it holds the numbers of fewer than eight bits in a byte each.
"""

from __future__ import annotations

BITS: dict[str, int] = {
    "FLOAT": 32,
    "UINT8": 8,
    "INT8": 8,
    "UINT16": 16,
    "INT16": 16,
    "INT32": 32,
    "INT64": 64,
    "BOOL": 8,
    "FLOAT16": 16,
    "DOUBLE": 64,
    "UINT32": 32,
    "UINT64": 64,
    "COMPLEX64": 64,
    "COMPLEX128": 128,
    "BFLOAT16": 16,
    "FLOAT8E4M3FN": 8,
    "FLOAT8E4M3FNUZ": 8,
    "FLOAT8E5M2": 8,
    "FLOAT8E5M2FNUZ": 8,
    "UINT4": 4,
    "INT4": 4,
    "FLOAT4E2M1": 4,
    "FLOAT8E8M0": 8,
    "UINT2": 2,
    "INT2": 2,
    "FLOAT6E2M3": 6,
    "FLOAT6E3M2": 6,
}
# what a policy in another precision would hold in that precision; the others keep their size
_ANY_PRECISION = frozenset({"FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE"})

# Operators and the inputs of theirs that say what to do (shapes, axes, bounds): an engine folds constants there when
# it is built, and no step reads them.
_SETTLING: dict[str, frozenset[int]] = {
    "ConstantOfShape": frozenset({0}),
    "CumSum": frozenset({1}),
    "Expand": frozenset({1}),
    "OneHot": frozenset({1}),
    "Pad": frozenset({1, 3}),
    "Range": frozenset({0, 1, 2}),
    "Reshape": frozenset({1}),
    "Resize": frozenset({1, 2, 3}),
    "Slice": frozenset({1, 2, 3, 4}),
    "Split": frozenset({1}),
    "Squeeze": frozenset({1}),
    "Tile": frozenset({1}),
    "TopK": frozenset({1}),
    "Trilu": frozenset({1}),
    "Unsqueeze": frozenset({1}),
}
_REDUCING = frozenset({1})


def dtype_name(dtype: int) -> str:
    """ONNX's name of a dtype, such as "INT8"; of an unknown one its number."""
    from onnx import TensorProto

    try:
        return str(TensorProto.DataType.Name(dtype))
    except ValueError:
        return f"number {dtype}"


def size_bytes(elements: int, dtype: int) -> int | None:
    """Bytes of so many numbers, packed; None of a dtype without a fixed size, or an unknown one."""
    bits = BITS.get(dtype_name(dtype))
    return None if bits is None else -(-elements * bits // 8)


def follows_precision(dtype: int) -> bool:
    """Whether numbers of this dtype are floating-point ones that have 4 bytes in FP32 and 2 in FP16."""
    return dtype_name(dtype) in _ANY_PRECISION


def is_settled(operator: str, place: int) -> bool:
    """Whether a constant at this input of an operator is folded when an engine is built."""
    reduces = str(operator).startswith("Reduce")  # bytes, where a file has no text
    return place in (_REDUCING if reduces else _SETTLING.get(operator, frozenset()))
