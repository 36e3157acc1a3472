"""What a family tells of the settings that its policies may have been trained with: `vla-settings` tries them all.

A forward pass is split in two: backbones, which are expensive and depend on few settings, and the rest, which is
cheap and depends on all. A `Need` is one output of the backbones under the settings that it depends on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch

Alternative = Mapping[str, Any]  # settings that go together, by name
Axis = tuple[Alternative, ...]
# What a checkpoint's validation error was taken on: every episode, or a fifth that was drawn at random.
Validated = Literal["all", "fifth"]


@dataclass(frozen=True, order=True)
class Need:
    """One output of the backbones for each frame.

    Attributes:
        run: names the run of the backbones that gives it; needs of the same run are computed together.
        name: of the output within that run.
    """

    run: str
    name: str


@dataclass(frozen=True)
class TextRequest:
    """What is known of a policy's text; as for `vla-export`. `instructions` are those of the episodes."""

    checkpoint: Path
    instructions: tuple[str, ...]
    tokenizer: str | None = None


class Backbones(Protocol):
    """A checkpoint's modules under every setting that is tried, on one device.

    Attributes:
        frames_at_once: how many frames `run` is best given; episodes are not cut for it.
        device_bytes: what all this takes of a GPU's memory at most, about; None on a CPU.
    """

    frames_at_once: int
    device_bytes: int | None

    def prepare(self, settings: Any) -> None:
        """Be told settings that will be asked for, before any run. Raises InputError where a text is unusable."""

    def text_key(self, instruction: str) -> str:
        """What is read of an instruction: features of another tokenizer are not taken for its own."""

    def run(
        self, frames: Sequence[np.ndarray], instruction: str, asked: Mapping[str, Collection[str]]
    ) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        """Some runs over the same frames, each given when it is done; what they have in common is computed once.

        Args:
            frames: of episodes with one instruction, uint8 RGB [H, W, 3] each.
            instruction: of them.
            asked: names of outputs by run.

        Yields:
            A run, and its outputs by name: float32 [frames, width] each.
        """

    def decide(
        self, settings: Sequence[Any], features: Mapping[Need, torch.Tensor], steps: int
    ) -> Iterator[torch.Tensor]:
        """What each of the settings, all of the same needs, answers: [E, steps, size] before scale and offset.

        It is what a robot would do: a policy that predicts several steps at once is asked for the first of them.

        Args:
            settings: to try.
            features: of each need, [E, steps, width], or [E, 1, width] where all settings look at the first frame.
            steps: of an episode.
        """


class Search(Protocol):
    """How the settings of a family's policies are found.

    Attributes:
        steps: of an episode in training; longer ones are cut, shorter ones repeat their last frame with zero actions.
        target_limit: targets were clipped to it, in normalised units.
        batch_size: of the validation, where the checkpoint's arguments do not tell.
    """

    steps: int
    target_limit: float
    batch_size: int

    def axes(self, architecture: Any) -> tuple[Axis, ...]:
        """What may vary: settings of different axes are combined each with each."""

    def canonical(self, settings: Any) -> Any:
        """The same forward pass, with settings that have no effect at their defaults."""

    def looks_at_first(self, settings: Any) -> bool:
        """Whether the first frame of an episode is all that is used."""

    def needs(self, settings: Any) -> tuple[Need, ...]:
        """Which outputs of the backbones a forward pass is made of."""

    def validated_on(self, architecture: Any) -> Validated:
        """What the training script took for its validation."""

    def open(
        self, architecture: Any, tensors: Mapping[str, torch.Tensor], text: TextRequest, device: str
    ) -> Backbones:
        """The checkpoint's modules. Raises ResourceError where they do not fit the device."""
