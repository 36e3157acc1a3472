"""Comparing two tensors in their own dtypes: nothing is rounded before it is known what differs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_UNSIGNED = ("uint8", "uint16", "uint32", "uint64")


def differences(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor | None:
    """second - first, zero only where the two are equal; None where they are equal throughout.

    NaN is equal to NaN of the same bits, and infinity to infinity; zero is equal to negative zero.

    Args:
        first, second: of one axis and one length; of any dtype with plain values, not always the same.
    """
    import torch

    if first.dtype != second.dtype:
        wide = torch.complex128 if first.dtype.is_complex or second.dtype.is_complex else torch.float64
        return differences(first.to(wide), second.to(wide))
    # frozen backbones are equal to the bit, and then this is all that it takes
    bits, others = _bits(first), _bits(second)
    if torch.equal(bits, others):
        return None
    if not (first.dtype.is_floating_point or first.dtype.is_complex):
        return _of_integers(first, second)
    if _is_short(first):
        # never zero where the values differ, since what is too small for normal numbers is kept as subnormal
        difference = second.float() - first.float()
        if bool(torch.isfinite(difference.sum())):
            return difference
    wide = torch.complex128 if first.dtype.is_complex else torch.float64
    equal = bits == others
    return (second.to(wide) - first.to(wide)).masked_fill(equal.all(1) if equal.dim() > 1 else equal, 0)


def squared_norm(values: torch.Tensor) -> float:
    """The sum of squares, in float32 where the values have no more digits and that holds it, else in float64."""
    import torch

    if values.dtype.is_complex:
        values = torch.view_as_real(values).reshape(-1)
    if _is_short(values):
        short = values.float()
        total = float(torch.dot(short, short))
        if math.isfinite(total):
            return total
    wide = values.double()
    return float(torch.dot(wide, wide))


def _is_short(values: torch.Tensor) -> bool:
    return values.dtype.is_floating_point and values.element_size() <= 4


def _bits(values: torch.Tensor) -> torch.Tensor:
    """Integers that are equal where the values are, to the bit."""
    import torch

    if values.element_size() == 16:
        return torch.view_as_real(values).view(torch.int64)
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return values.view(kinds[values.element_size()])


def _of_integers(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """In two halves of 32 bits, whose differences float64 holds exactly."""
    import torch

    unsigned = str(a.dtype).removeprefix("torch.") in _UNSIGNED
    a, b = a.to(torch.int64), b.to(torch.int64)
    low = (b & 0xFFFFFFFF) - (a & 0xFFFFFFFF)
    mask = 0xFFFFFFFF if unsigned else -1
    high = ((b >> 32) & mask) - ((a >> 32) & mask)
    return high.double() * 2.0**32 + low.double()
