"""Drawing the values of a sample's tensors: a recipe for each, and a random stream for each."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator

import numpy as np

from vla_edge.export.family_samples import Recipe, Shape

CHUNK_VALUES = 1 << 20


def draw(recipe: Recipe, name: str, shape: Shape, seed: int) -> Iterator[np.ndarray]:
    """The values of a tensor, float32, in chunks along the first axis.

    Each tensor has its own random stream, from the seed and its name, so values depend neither on the
    order nor on the threads in which tensors are drawn.
    """
    numbers = np.random.Generator(np.random.SFC64([seed, zlib.crc32(name.encode())]))
    if not shape:
        yield np.array(recipe.mean, np.float32)
        return
    step = max(1, CHUNK_VALUES // math.prod(shape[1:]))
    for start in range(0, shape[0], step):
        chunk = numbers.standard_normal((min(step, shape[0] - start), *shape[1:]), dtype=np.float32)
        yield _apply(recipe, chunk, start)


def _apply(recipe: Recipe, chunk: np.ndarray, start: int) -> np.ndarray:
    """Turn noise into the rows from `start` on, in place."""
    chunk *= np.float32(recipe.std)
    chunk += np.float32(recipe.mean)
    for index in recipe.rows.keys() & range(start, start + len(chunk)):
        chunk[index - start] *= np.float32(recipe.rows[index])
    for index, factor in recipe.columns.items():
        chunk[:, index] *= np.float32(factor)
    for index in recipe.fixed.keys() & range(start, start + len(chunk)):
        chunk[index - start] = recipe.fixed[index]
    return chunk
