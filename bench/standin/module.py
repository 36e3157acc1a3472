"""The stand-in in PyTorch, written as its authors did: `nn.Linear`, `nn.RNN`, a small head."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from .model import ACTIONS, Standin, weight


class StandinModule(nn.Module):
    """Linear, RNN and head, in this order, which is the order in which `.to()` moves them."""

    def __init__(self, standin: Standin) -> None:
        super().__init__()
        self.embed = nn.Linear(standin.pixels, standin.features)
        self.rnn = nn.RNN(standin.features, standin.hidden, standin.layers, batch_first=True)
        head = [part for widths in pairwise(standin.head) for part in (nn.Linear(*widths), nn.ReLU())]
        self.head = nn.Sequential(*head[:-1])

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """`pixels` [1, 1, pixels] gives "actions" [1, 1, 2]; the RNN starts from a zero state."""
        hidden, _ = self.rnn(self.embed(pixels))
        return {ACTIONS: self.head(hidden)}


def build_module(standin: Standin) -> StandinModule:
    """The module in eval mode, on the CPU, in FP32, with the seeded weights; nothing is initialised twice."""
    with torch.device("meta"):
        module = StandinModule(standin)
    weights = {name: torch.from_numpy(weight(standin, name)) for name in standin.shapes}
    module.load_state_dict(weights, assign=True)
    return module.eval()
