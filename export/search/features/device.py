"""Where torch computes a search: which device, how exactly, and how much of its memory."""

from __future__ import annotations

from typing import Literal

from vla_edge.runtime.errors import InputError

Device = Literal["auto", "cpu", "cuda"]


def chosen_device(asked: Device, tf32: bool) -> str:
    """The device by torch's name; sets how it multiplies.

    Args:
        asked: "auto" takes a GPU where torch sees one.
        tf32: on a GPU, convolutions and LSTMs in TF32.

    Raises:
        InputError: CUDA was asked for, and is not there.
    """
    import torch

    # Both torch's own defaults, so that training had them, too. NVIDIA's containers change the second by a variable,
    # and every product of the backbones would be rounded to eleven bits.
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = False

    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise InputError("torch finds no CUDA device here.", "Leave out --device, or give --device cpu.")
    if asked == "auto":
        return "cuda" if there else "cpu"
    return asked


def peak_mib(device: str) -> float | None:
    """The most of a GPU's memory that torch held in this process; None of a CPU."""
    import torch

    return torch.cuda.max_memory_reserved() / 2**20 if device == "cuda" else None
