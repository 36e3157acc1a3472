"""Sample checkpoints: the training script's exact container, around generated weights.

They are for trying and testing everything that takes a checkpoint. Their actions mean nothing, and the
file says so itself: `args.vla_sample` marks it, and every tool repeats it beside each figure.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vla_edge.export.checkpoint.checkpoint import SAMPLE_MARK
from vla_edge.export.family_samples import Recipe, Sample, Shape
from vla_edge.runtime.errors import InputError

from .draw import draw
from .streamed_file import Hole, write_streamed

if TYPE_CHECKING:
    import torch

SAMPLE_VERSION = "0.1.0"

# Any plausible number of optimizer steps, and the size of gradients late in training.
_ADAM_STEPS = 4000
_GRADIENT_SIZE = 1e-4


def sample_size_bytes(sample: Sample) -> int:
    """Bytes of all tensors in the file, the optimizer's included."""
    trained = sum(math.prod(sample.shapes[name]) for name in sample.trained)
    values = sum(math.prod(shape) for shape in sample.shapes.values())
    return 4 * (values + 2 * trained + len(sample.trained))


def write_sample(
    path: Path,
    sample: Sample,
    advance: Callable[[int], None] = lambda size_bytes: None,
    replace: bool = True,
) -> None:
    """Write a sample checkpoint; the file appears when it is complete.

    Args:
        path: the file to write; its folder must exist.
        sample: what to generate. The same one gives the same values, whatever the threads do.
        advance: called, from other threads, with numbers of bytes written.
        replace: what has this name when the sample is complete.

    Raises:
        ResourceError: the disk is too small.
        InputError: the folder does not exist, or something has this name and is not to be replaced.
    """
    if not path.parent.is_dir():
        raise InputError(f"The folder {path.parent} does not exist.", "Create it first, or give another -o.")
    plan = _Plan(sample)
    container = {
        "epoch": sample.epoch,
        "model_state_dict": {name: plan.parameter(name, shape) for name, shape in sample.shapes.items()},
        "optimizer_state_dict": _adam({name: sample.shapes[name] for name in sample.trained}, plan),
        "val_mae": sample.val_mae,
        "args": _args(sample),
    }
    try:
        write_streamed(path, container, plan.holes, advance, replace)
    except FileExistsError as error:
        raise exists(path) from error


def exists(path: Path) -> InputError:
    """What to say of a file that is not to be replaced."""
    return InputError(f"{path} exists.", "Give another -o, or --force to replace it.")


@dataclass
class _Plan:
    """Collects tensors in the order in which they are put into the container."""

    sample: Sample
    holes: list[Hole] = field(default_factory=list)

    def parameter(self, name: str, shape: Shape) -> torch.Tensor:
        return self._tensor(
            shape, lambda: draw(self.sample.recipe(name, shape), name, shape, self.sample.seed_of(name))
        )

    def gradient_moment(self, name: str, shape: Shape, square: bool) -> torch.Tensor:
        """Adam's running mean of a gradient, or of its square, as small as they are late in training."""
        own_name = f"{name}.{'exp_avg_sq' if square else 'exp_avg'}"

        def chunks() -> Iterator[np.ndarray]:
            noise = draw(Recipe(std=_GRADIENT_SIZE), own_name, shape, self.sample.seed)
            return map(np.square, noise) if square else noise

        return self._tensor(shape, chunks)

    def constant(self, value: float) -> torch.Tensor:
        return self._tensor((), lambda: iter([np.array(value, np.float32)]))

    def _tensor(self, shape: Shape, chunks: Callable[[], Iterator[np.ndarray]]) -> torch.Tensor:
        import torch

        self.holes.append(Hole(4 * math.prod(shape), chunks))
        return torch.empty(shape, dtype=torch.float32)


def _adam(trained: dict[str, Shape], plan: _Plan) -> dict[str, Any]:
    """The state dict of torch.optim.Adam over the trained parameters."""
    state = {
        index: {
            "step": plan.constant(_ADAM_STEPS),
            "exp_avg": plan.gradient_moment(name, shape, square=False),
            "exp_avg_sq": plan.gradient_moment(name, shape, square=True),
        }
        for index, (name, shape) in enumerate(trained.items())
    }
    return {"state": state, "param_groups": [_param_group(range(len(trained)))]}


def _param_group(indices: Sequence[int]) -> dict[str, Any]:
    return {
        "lr": 1e-4,
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 0.01,
        "amsgrad": False,
        "maximize": False,
        "foreach": None,
        "capturable": False,
        "differentiable": False,
        "fused": None,
        "params": list(indices),
    }


def _args(sample: Sample) -> argparse.Namespace:
    return argparse.Namespace(
        batch_size=8,
        epochs=max(15, sample.epoch),
        lr=1e-4,
        weight_decay=0.01,
        **{SAMPLE_MARK: f"vla-sample {SAMPLE_VERSION} {sample.description}"},
    )
