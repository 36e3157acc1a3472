"""Which numbers of the graph are half precision.

The rule: weights and matrix products in FP16 (tensor cores accumulate in FP32), and everything whose
range or cancellation half cannot hold in FP32: LayerNorm statistics (squares of outlier channels overflow
65504), softmax, normalisation, pooling, activations between two matmuls, gates of the LSTM, and the
residual stream (it grows with depth, and small updates vanish beside large values).
FP16 is stated in the graph, not asked of a builder, so one file serves TensorRT 10, 11 (which has no FP16
flag) and RTX, and what was measured is what runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dtype = Literal["float16", "float32"]


@dataclass(frozen=True)
class Precision:
    """Dtypes by role.

    Attributes:
        name: as asked, "fp16" or "fp32".
        matmul: of weights and of the operands and results of matrix products.
        residual: of the stream that transformer blocks add to.
        softmax: of attention scores while they are normalised.
        activation: of GELU and quick GELU.
    """

    name: Literal["fp16", "fp32"]
    matmul: Dtype
    residual: Dtype
    softmax: Dtype
    activation: Dtype

    @property
    def float32_roles(self) -> tuple[str, ...]:
        """The roles that are float32, those of `matmul` left out."""
        roles = {"residual": self.residual, "softmax": self.softmax, "activation": self.activation}
        return tuple(role for role, dtype in roles.items() if dtype == "float32")


FP32 = Precision("fp32", "float32", "float32", "float32", "float32")
FP16 = Precision("fp16", "float16", "float32", "float32", "float32")
