"""Sample checkpoints: the owner's exact container, around generated weights.

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
from vla_edge.export.kosmos2.architecture import Architecture, ClipForm, LayoutName
from vla_edge.export.kosmos2.sample.features import recipe
from vla_edge.export.kosmos2.sample.sizes import SizeName, sample_architecture
from vla_edge.export.kosmos2.tensors import FUSION, HEAD, LSTM, Shape, expected_tensors
from vla_edge.runtime.errors import InputError

from .draw import Recipe, draw
from .streamed_file import Hole, write_streamed

if TYPE_CHECKING:
    import torch

SAMPLE_VERSION = "0.1.0"

# The owner's file names, best epochs and validation errors.
_PURE = ("best_simple_lstm_model.pth", 4, 0.2220)
_HYBRID = ("best_simple_clip_lstm_model.pth", 10, 0.2121)
# Any plausible number of optimizer steps, and the size of gradients late in training.
_ADAM_STEPS = 4000
_GRADIENT_SIZE = 1e-4


@dataclass(frozen=True)
class SampleOptions:
    """What to generate. `clip_form` is not used for a pure policy."""

    layout: LayoutName
    clip_form: ClipForm = "transformers"
    size: SizeName = "tiny"
    seed: int = 0

    def __str__(self) -> str:
        form = "" if self.layout == "pure" else f" clip_form={self.clip_form}"
        return f"layout={self.layout}{form} size={self.size} seed={self.seed}"


def default_name(layout: LayoutName) -> str:
    """The file name that the owner's training script gives to this layout."""
    return (_PURE if layout == "pure" else _HYBRID)[0]


def sample_size_bytes(options: SampleOptions) -> int:
    """Bytes of all tensors in the file, the optimizer's included."""
    shapes = expected_tensors(sample_architecture(options.layout, options.clip_form, options.size))
    trained = sum(math.prod(shape) for name, shape in shapes.items() if is_trained(name))
    steps = sum(map(is_trained, shapes))
    return 4 * (sum(math.prod(shape) for shape in shapes.values()) + 2 * trained + steps)


def is_trained(name: str) -> bool:
    """Whether a tensor was trained by the owner; both backbones were frozen."""
    return name.startswith((LSTM, HEAD, FUSION))


def write_sample(
    path: Path,
    options: SampleOptions,
    advance: Callable[[int], None] = lambda size_bytes: None,
    replace: bool = True,
) -> None:
    """Write a sample checkpoint; the file appears when it is complete.

    Args:
        path: the file to write; its folder must exist.
        options: what to generate. The same options give the same values, whatever the threads do.
        advance: called, from other threads, with numbers of bytes written.
        replace: what has this name when the sample is complete.

    Raises:
        ResourceError: the disk is too small.
        InputError: the folder does not exist, or something has this name and is not to be replaced.
    """
    if not path.parent.is_dir():
        raise InputError(f"The folder {path.parent} does not exist.", "Create it first, or give another -o.")
    plan = _Plan(sample_architecture(options.layout, options.clip_form, options.size), options.seed)
    _, epoch, val_mae = _PURE if options.layout == "pure" else _HYBRID
    shapes = expected_tensors(plan.arch)
    container = {
        "epoch": epoch,
        "model_state_dict": {name: plan.parameter(name, shape) for name, shape in shapes.items()},
        "optimizer_state_dict": _adam(
            {name: shape for name, shape in shapes.items() if is_trained(name)}, plan
        ),
        "val_mae": val_mae,
        "args": _args(options, epoch),
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

    arch: Architecture
    seed: int
    holes: list[Hole] = field(default_factory=list)

    def parameter(self, name: str, shape: Shape) -> torch.Tensor:
        return self._tensor(shape, lambda: draw(recipe(name, shape, self.arch), name, shape, self.seed))

    def gradient_moment(self, name: str, shape: Shape, square: bool) -> torch.Tensor:
        """Adam's running mean of a gradient, or of its square, as small as they are late in training."""
        own_name = f"{name}.{'exp_avg_sq' if square else 'exp_avg'}"

        def chunks() -> Iterator[np.ndarray]:
            noise = draw(Recipe(std=_GRADIENT_SIZE), own_name, shape, self.seed)
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


def _args(options: SampleOptions, epoch: int) -> argparse.Namespace:
    return argparse.Namespace(
        batch_size=8,
        epochs=max(15, epoch),
        lr=1e-4,
        weight_decay=0.01,
        **{SAMPLE_MARK: f"vla-sample {SAMPLE_VERSION} {options}"},
    )
