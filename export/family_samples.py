"""What a family tells of generated checkpoints: `vla-sample` draws and writes them, and knows no family."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Recipe:
    """How the values of a generated tensor are drawn: normal noise, with exceptions.

    Attributes:
        std: of the noise.
        mean: added to all values.
        rows: factors by index along the first axis.
        columns: factors by index along the last axis of a matrix.
        fixed: values of single elements of a vector.
    """

    std: float
    mean: float = 0.0
    rows: Mapping[int, float] = field(default_factory=dict)
    columns: Mapping[int, float] = field(default_factory=dict)
    fixed: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """A generated checkpoint before its values are drawn.

    Attributes:
        description: marks the file, and every figure made from it.
        file_name: where only a folder is asked for.
        shapes: of every tensor by name, in the order of the file.
        trained: names of those that an optimizer keeps a state of.
        recipe: how one of them is drawn.
        seed: the same gives the same values.
        trained_seed: of the trained tensors, as if they were trained again on the same backbones; None: `seed`.
        epoch, val_mae: what the container says.
    """

    description: str
    file_name: str
    shapes: Mapping[str, Shape]
    trained: Collection[str]
    recipe: Callable[[str, Shape], Recipe]
    seed: int
    epoch: int
    val_mae: float
    trained_seed: int | None = None

    def seed_of(self, name: str) -> int:
        """The seed that a tensor is drawn with."""
        return self.seed if self.trained_seed is None or name not in self.trained else self.trained_seed


class Samples(Protocol):
    """The generated checkpoints of a family; `form` is a second way to name the same tensors.

    Attributes:
        layouts, sizes, forms: what may be asked for.
        form_option, form_help: how the command asks for a form.
        help: of the command, examples included.
    """

    layouts: tuple[str, ...]
    sizes: tuple[str, ...]
    forms: tuple[str, ...]
    form_option: str
    form_help: str
    help: str

    def sample(self, layout: str, form: str | None, size: str, seed: int) -> Sample:
        """Raises InputError where they do not go together."""

    def architectures(self, layout: str) -> Iterator[Any]:
        """Of every size."""

    def write_tokenizer(self, folder: Path, replace: bool) -> Path:
        """Write one that suits the samples. Raises InputError where another is there, and not to be replaced."""

    def refuse_another_tokenizer(self, folder: Path) -> None:
        """Raise InputError where `write_tokenizer` would replace another tokenizer."""
