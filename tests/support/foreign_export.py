"""A policy of a foreign family that carries state, exported as its user would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vla_edge.export.pipeline import ExportOptions, export_bundle
from vla_edge.runtime.bundle.bundle import Bundle, load_golden

FOREIGN = """
from remembering_family import *
class Mine(RememberingFamily):
    name = "mine"
{body}
FAMILY = Mine()
"""


def export_foreign(
    install: Callable[..., None], folder: Path, body: str = "", **options: Any
) -> dict[str, np.ndarray]:
    """Its golden samples.

    Args:
        install: the fixture of that name.
        folder: for checkpoint and bundle.
        body: of its class, beyond `RememberingFamily`.
        options: fields of `ExportOptions`.
    """
    install("mine", "mine:FAMILY", FOREIGN.format(body=body))
    torch.manual_seed(0)
    weights = {"joints.weight": torch.randn(6, 48) / 7, "joints.bias": torch.zeros(6)}
    torch.save({"model_state_dict": weights}, folder / "a.pth")
    asked = ExportOptions(folder / "a.pth", folder / "out", family="mine", **options)
    return load_golden(Bundle.open(export_bundle(asked)[0].folder))
