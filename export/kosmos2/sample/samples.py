"""Generated checkpoints of this family: shapes and names of trained ones, weights that only try things out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from vla_edge.export.family_samples import Recipe, Sample, Shape
from vla_edge.export.kosmos2.architecture import Architecture, ClipForm, LayoutName
from vla_edge.export.kosmos2.tensors import FUSION, HEAD, LSTM, expected_tensors
from vla_edge.runtime.errors import InputError

from .sizes import LAYOUTS, SIZES, SizeName, sample_architecture

if TYPE_CHECKING:
    from vla_edge.export.family_samples import Samples

# What the training script wrote: file names, best epochs and validation errors.
_PURE = ("best_simple_lstm_model.pth", 4, 0.2220)
_HYBRID = ("best_simple_clip_lstm_model.pth", 10, 0.2121)

_HELP = """Write a sample checkpoint in the container of the policies' training script.

The weights are generated, with the features of trained models that break half precision; the actions
mean nothing, and the file is marked so that no figure from it passes as a real one. A Kosmos-2-like
tokenizer is written beside it.

\b
Sizes: tiny  about 2 M parameters, runs in seconds
       small about 130 M, for honest timing on a CPU
       full  7 GB, as trained: 1,703,973,122 (pure)
             or 1,859,579,651 (hybrids)

\b
Examples:
  vla-sample --layout hybrid-a -o demo/
  vla-sample --layout pure --size full -o /data/best_simple_lstm_model.pth
  vla-sample --layout hybrid-b --clip-form open_clip --seed 7 -o demo/b.pth
  vla-sample --episodes recordings/ --count 72
"""


class Kosmos2Samples:
    """What `vla-sample` may be asked for; a form is how a hybrid names its CLIP tensors."""

    layouts: tuple[str, ...] = LAYOUTS
    sizes: tuple[str, ...] = SIZES
    forms: tuple[str, ...] = ("transformers", "open_clip")
    form_option = "--clip-form"
    form_help = "How a hybrid names its CLIP tensors.  [default: transformers]"
    help = _HELP

    def sample(self, layout: str, form: str | None, size: str, seed: int) -> Sample:
        if form and layout == "pure":
            raise InputError(
                f"--clip-form {form} cannot be asked of a pure policy: it has no CLIP model.",
                "Leave it out, or take a hybrid: --layout hybrid-a.",
            )
        known = cast("tuple[LayoutName, ClipForm, SizeName]", (layout, form or "transformers", size))
        return sample_of(*known, seed)

    def architectures(self, layout: str) -> Iterator[Architecture]:
        if layout in LAYOUTS:
            yield from (sample_architecture(layout, "transformers", size) for size in SIZES)

    def write_tokenizer(self, folder: Path, replace: bool) -> Path:
        from .tokenizer import write_tokenizer

        return write_tokenizer(folder, replace)

    def refuse_another_tokenizer(self, folder: Path) -> None:
        from .tokenizer import refuse_another_tokenizer

        refuse_another_tokenizer(folder)


def sample_of(
    layout: LayoutName, clip_form: ClipForm = "transformers", size: SizeName = "tiny", seed: int = 0
) -> Sample:
    """One sample; `clip_form` is not used for a pure policy."""
    arch = sample_architecture(layout, clip_form, size)
    shapes = expected_tensors(arch)
    form = "" if layout == "pure" else f" clip_form={clip_form}"
    file_name, epoch, val_mae = _PURE if layout == "pure" else _HYBRID
    return Sample(
        description=f"layout={layout}{form} size={size} seed={seed}",
        file_name=file_name,
        shapes=shapes,
        trained=tuple(filter(is_trained, shapes)),
        recipe=partial(_recipe, arch),
        seed=seed,
        epoch=epoch,
        val_mae=val_mae,
    )


def is_trained(name: str) -> bool:
    """Whether a tensor was trained with the policy; both backbones were frozen."""
    return name.startswith((LSTM, HEAD, FUSION))


def _recipe(arch: Architecture, name: str, shape: Shape) -> Recipe:
    from .features import recipe

    return recipe(name, shape, arch)


if TYPE_CHECKING:
    _: Samples = Kosmos2Samples()
