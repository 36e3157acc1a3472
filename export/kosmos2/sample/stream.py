"""The residual stream of a sample's tower, in numbers: how large it is at each depth, and where.

From this follow the LayerNorm gains and weight scales that keep a random transformer well-behaved
although its stream has outlier channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# One channel in so many is an outlier, but at least so many of a tower's.
OUTLIER_EACH, OUTLIERS_AT_LEAST = 128, 4
# What an outlier channel holds where a tower starts with a LayerNorm, and what each sub-layer adds. In a
# half-precision product 24 has steps of 1/64, fine enough for the signal beside it; 1152 has steps of 1.
FIRST_CONSTANT, CONSTANT_GROWTH = 256.0, 24.0
STREAM_START = 1.5
# What a sub-layer adds to a normal channel, in the first and in the last layer.
FIRST_UPDATE, LAST_UPDATE = 0.7, 1.4
# One hidden unit of an MLP in so many is loud.
LOUD_UNIT_EACH = 256


@dataclass(frozen=True)
class Stream:
    """One tower's residual stream. Its `step`s are sub-layers, two to a layer: attention, then MLP.

    Attributes:
        first_norm: whether the tower starts with a LayerNorm (vision towers).
        inner_norms: whether each sub-layer's output projection reads a LayerNorm (Kosmos-2's decoder).
    """

    width: int
    depth: int
    mlp: int
    first_norm: bool
    inner_norms: bool

    @property
    def steps(self) -> int:
        return 2 * self.depth

    @property
    def outliers(self) -> dict[int, float]:
        """Outlier channels and their signs, which alternate, so that the mean over channels stays near 0."""
        count = max(OUTLIERS_AT_LEAST, self.width // OUTLIER_EACH)
        places = ((2 * i + 1) * self.width // (2 * count) for i in range(count))
        return {place: (-1.0) ** i for i, place in enumerate(places)}

    @property
    def loud_units(self) -> tuple[int, ...]:
        """Hidden units of each MLP that are loud."""
        return tuple(range(LOUD_UNIT_EACH // 2, self.mlp, LOUD_UNIT_EACH)) or (0,)

    def update(self, step: int) -> float:
        """What a sub-layer adds to a normal channel (root mean square)."""
        return FIRST_UPDATE + (LAST_UPDATE - FIRST_UPDATE) * step / self.steps

    def normal(self, step: int) -> float:
        """Size of a normal channel before a sub-layer: independent updates add in squares."""
        return math.sqrt(STREAM_START**2 + sum(self.update(i) ** 2 for i in range(step)))

    def constant(self, step: int) -> float:
        """What an outlier channel holds at every token, before a sub-layer."""
        return FIRST_CONSTANT * self.first_norm + CONSTANT_GROWTH * step

    def deviation(self, step: int) -> float:
        """The standard deviation over channels that a LayerNorm before a sub-layer divides by."""
        return math.hypot(self.normal(step), self.constant(step) * math.sqrt(len(self.outliers) / self.width))

    def outlier_size(self, step: int) -> float:
        """At what size a LayerNorm hands on what outlier channels say beyond their constant.

        Where they dominate the deviation they carry half of what the next product reads, in squares.
        """
        dominance = 1 - (self.normal(step) / self.deviation(step)) ** 2
        return max(1.0, dominance * math.sqrt(self.width / len(self.outliers)))
