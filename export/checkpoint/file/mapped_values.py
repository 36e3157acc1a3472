"""Values of a mapped file as a tensor."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Processors read numbers of up to 8 bytes at any address. For those of 16 torch is compiled with instructions that
# end the process where the address is no multiple of it.
_ANY_ADDRESS_BYTES = 8


def mapped_values(file: mmap.mmap, dtype: torch.dtype, count: int, offset: int) -> torch.Tensor:
    """The values that begin at a byte of the file, as one axis [count] over its memory.

    torch puts all values at multiples of 64, other writers at any byte: complex128 there is copied.
    """
    import torch

    if not count:
        return torch.empty(0, dtype=dtype)
    if dtype.itemsize > _ANY_ADDRESS_BYTES and offset % dtype.itemsize:
        raw = torch.frombuffer(file, dtype=torch.uint8, count=count * dtype.itemsize, offset=offset)
        return raw.clone().view(dtype)
    return torch.frombuffer(file, dtype=dtype, count=count, offset=offset)
