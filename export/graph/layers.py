"""Building blocks shared by the towers: linear, LayerNorm, attention, activations.

Shapes: x is [B, T, C]. Dtypes follow `Precision`: what enters a matrix product is cast to `matmul`, what
leaves it stays there until an island needs FP32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .parameters import Parameters, Rows
from .precision import Precision
from .writer import GraphWriter, Value


@dataclass(frozen=True)
class Builder:
    """What every layer needs at hand.

    Attributes:
        graph: is written to.
        params: the checkpoint's tensors.
        precision: dtypes by role.
        head_size: width of an attention head.
        norm_epsilon: of every LayerNorm.
    """

    graph: GraphWriter
    params: Parameters
    precision: Precision
    head_size: int = 64
    norm_epsilon: float = 1e-5

    def linear(self, x: Value, parts: Sequence[Rows], name: str) -> Value:
        """x @ W + b with the rows of several Linears side by side: [B, T, C] -> [B, T, sum of rows]."""
        graph, dtype = self.graph, self.precision.matmul
        shape = (x.shape[-1], sum(part.count for part in parts))
        weight = graph.weight(f"{name}.weight", dtype, shape, self.params.matrix(parts, dtype))
        bias = graph.weight(f"{name}.bias", dtype, shape[1:], self.params.bias(parts, dtype))
        with graph.scope(name):
            return graph.add(graph.matmul(graph.cast(x, dtype), weight), bias)

    def layer_norm(self, x: Value, name: str) -> Value:
        """LayerNorm in FP32: [.., C] of any dtype -> [.., C] float32."""
        graph, width = self.graph, x.shape[-1:]
        gain = graph.weight(
            f"{name}.weight", "float32", width, self.params.plain(f"{name}.weight", "float32")
        )
        bias = graph.weight(f"{name}.bias", "float32", width, self.params.plain(f"{name}.bias", "float32"))
        with graph.scope(name):
            return graph.layer_norm(graph.cast(x, "float32"), gain, bias, self.norm_epsilon)

    def residual(self, stream: Value, update: Value) -> Value:
        """stream + update in the residual's dtype."""
        dtype = self.precision.residual
        return self.graph.add(self.graph.cast(stream, dtype), self.graph.cast(update, dtype))

    def activation(self, x: Value, kind: str) -> Value:
        """ "gelu" (erf) or "quick_gelu": x * sigmoid(1.702 x)."""
        graph = self.graph
        x = graph.cast(x, self.precision.activation)
        if kind == "gelu":
            return graph.unary("Gelu", x)
        return graph.mul(x, graph.unary("Sigmoid", graph.mul(x, graph.scalar(1.702, x.dtype))))

    def heads(self, x: Value) -> Value:
        """[B, T, H*size] -> [B, H, T, size]."""
        batch, tokens, width = x.shape
        split = self.graph.reshape(x, (batch, tokens, width // self.head_size, self.head_size))
        return self.graph.transpose(split, (0, 2, 1, 3))

    def attend(self, q: Value, k: Value, v: Value, mask: Value | None) -> Value:
        """softmax(q k^T + mask) v for q [B, H, T, size], k and v [B, H, S, size]; q is scaled already: [B, T, H*size].

        `mask` is broadcast to [B, H, T, S], in the softmax's dtype: 0 or a large negative number.
        """
        graph, precision = self.graph, self.precision
        scores = graph.matmul(q, graph.transpose(k, (0, 1, 3, 2)))
        scores = graph.cast(scores, precision.softmax)
        if mask is not None:
            scores = graph.add(scores, mask)
        weights = graph.cast(graph.softmax(scores), precision.matmul)
        mixed = graph.transpose(graph.matmul(weights, v), (0, 2, 1, 3))
        batch, tokens, heads, size = mixed.shape
        return graph.reshape(mixed, (batch, tokens, heads * size))

    def self_attention(
        self, x: Value, qkv: Sequence[Rows], mask: Value | None, name: str, rows: int | None = None
    ) -> Value:
        """Self-attention before its output projection: [B, T, C] -> [B, T, C].

        The three projections are one matrix product. The scale, one over the root of a head's size, is folded
        into the query's weights: for 64 a power of two, exact in half. With `rows`, only the first rows ask (the
        others answer): [B, rows, C].
        """
        graph = self.graph
        scaled = qkv[0].scaled(self.head_size**-0.5)
        width = qkv[0].count
        with graph.scope(name):
            if rows is None:
                merged = self.linear(x, [scaled, *qkv[1:]], f"{name}.qkv")
                q, k, v = (graph.slice(merged, 2, at * width, (at + 1) * width) for at in range(3))
            else:
                q = self.linear(graph.slice(x, 1, 0, rows), [scaled], f"{name}.q")
                merged = self.linear(x, qkv[1:], f"{name}.kv")
                k, v = (graph.slice(merged, 2, at * width, (at + 1) * width) for at in range(2))
            return self.attend(self.heads(q), self.heads(k), self.heads(v), mask)

    def normalize(self, x: Value, epsilon: float = 1e-12) -> Value:
        """x / ||x|| along the last axis in FP32.

        Written as x * rsqrt(sum(x*x) + eps^2): torch's max(||x||, eps) with an eps that FP32 can hold.
        """
        graph = self.graph
        x = graph.cast(x, "float32")
        total = graph.reduce("ReduceSum", graph.mul(x, x), -1, keepdims=True)
        length = graph.unary("Sqrt", graph.add(total, graph.scalar(epsilon**2, "float32")))
        return graph.binary("Div", x, length)


def causal_mask(tokens: int, dtype: str) -> np.ndarray:
    """[1, 1, T, T]: 0 on and below the diagonal, above it a number that softmax turns to 0.

    Finite, since -inf minus -inf is NaN; far below any score, yet within what `dtype` holds.
    """
    floor = -1e9 if dtype == "float32" else -6e4
    return np.triu(np.full((tokens, tokens), floor, np.float32), 1)[None, None].astype(dtype)
