"""The door to a family of policies: all that the exporter, the inspector and the bench ask of one.

A family is what shares an architecture and a training code, such as policies on one backbone. Whatever is known of
it stands in a folder of its own; the rest of the tree sees one object of the class `Family`, found by `families`,
and names neither its tensors nor its layouts. Only what has to be is abstract: a policy without text, without
generated samples or without settings that need explaining leaves those methods as they are.

Architectures and settings are opaque here: the family that made them gets them back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec

from vla_edge.runtime.bundle.manifest import (
    ActionSpec,
    Instruction,
    Manifest,
    Preprocessing,
    Prompt,
    Runtime,
)
from vla_edge.runtime.errors import CheckpointError, InputError

from .family_samples import Samples, Shape
from .family_search import Search

if TYPE_CHECKING:
    import numpy as np
    import torch

    from vla_edge.export.graph.precision import Precision
    from vla_edge.export.graph.writer import GraphWriter
    from vla_edge.export.settings.rules import SettingRules

LISTED = 10  # of what is wrong with tensors


@dataclass(frozen=True)
class Parts:
    """How the names of a family's tensors begin, each with the dot behind it.

    Attributes:
        own: what is trained with the policy.
        backbone: published models inside it, the largest first.
    """

    own: tuple[str, ...]
    backbone: tuple[str, ...] = ()

    @property
    def prefixes(self) -> tuple[str, ...]:
        return (*self.backbone, *self.own)

    def kind_of(self, name: str) -> Literal["backbone", "own", ""]:
        """What a tensor or module belongs to; modules above a part of its own belong to it too."""
        if f"{name}.".startswith(self.backbone):
            return "backbone"
        is_own = any(f"{name}.".startswith(part) or part.startswith(f"{name}.") for part in self.own)
        return "own" if is_own else ""


@dataclass(frozen=True)
class Recognised:
    """A policy that names and shapes describe: a frozen dataclass of plain numbers, the layout's name, and why."""

    architecture: Any
    layout: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class GateLimits:
    """Default limits: relative L2 of a stage, and of the action in its components' units."""

    stage: float
    action: float


@dataclass(frozen=True)
class Guess:
    """A setting left at its default although its standing is unknown.

    Attributes:
        name: of the setting.
        taken: its value.
        otherwise: what else it may be, as `--set` takes it.
        if_wrong: what the robot then does.
    """

    name: str
    taken: Any
    otherwise: str
    if_wrong: str


@dataclass(frozen=True)
class PromptRequest:
    """What `vla-export` was asked for about text; see its `--help`. `checkpoint` tells where to look beside."""

    checkpoint: Path
    tokenizer: str | None = None
    explicit_ids: Mapping[str, Sequence[int]] = field(default_factory=dict)
    keep_vocabulary: bool = False
    length: int | None = None

    @property
    def is_empty(self) -> bool:
        return not (self.tokenizer or self.explicit_ids or self.keep_vocabulary or self.length)


@dataclass(frozen=True)
class Prompts:
    """The declared instructions as ids, and the prompt that they share."""

    prompt: Prompt
    instructions: tuple[Instruction, ...]
    default_instruction: str
    kept_ids: tuple[int, ...] | None  # tokenizer id of each embedding row, None for all
    tokenizer_json: str | None  # goes into the bundle where new instructions can be tokenised
    doubt: str | None = (
        None  # why these ids cannot be those of a trained checkpoint, which is refused with it
    )


@dataclass(frozen=True)
class Surroundings:
    """What a runtime does before and after the graph; see the manifest's types."""

    preprocessing: Preprocessing
    action: ActionSpec
    runtime: Runtime


@dataclass(frozen=True)
class GraphRequest:
    """What a graph depends on.

    Attributes:
        architecture, settings: of the policy.
        tensors: the checkpoint's, by the family's own names.
        precision: dtypes by role.
        batch: frames per call, static.
        prompts: None of a family without text.
        policy: the reference with its weights, for what it computes once and the graph holds as a table.
    """

    architecture: Any
    settings: Any
    tensors: Mapping[str, torch.Tensor]
    precision: Precision
    batch: int
    prompts: Prompts | None
    policy: torch.nn.Module


class Family(ABC):
    """One family of policies. Importing it must be quick: what needs torch is imported inside the methods.

    Attributes:
        name: stands in manifests.
        parts: how its tensors' names begin.
        architecture: type of its architectures, a frozen dataclass that msgspec writes and reads.
        settings: its choices of the forward pass.
        gates: default limits by precision, "fp16" and "fp32". That of the action is in its components' units, so only
            the family can say what is little: far less than the policy's own error, and than what the robot notices.
        samples: generated checkpoints, where it has any.
        stage_patterns: for profiles, by stage in the order of the forward pass: a regular expression of how the
            names of its nodes and modules begin.
        called_alone: modules inside a stage's that the policy also calls by themselves.
    """

    name: ClassVar[str]
    parts: ClassVar[Parts]
    architecture: ClassVar[type]
    settings: ClassVar[SettingRules[Any, Any]]
    gates: ClassVar[Mapping[str, GateLimits]]
    samples: ClassVar[Samples | None] = None
    stage_patterns: ClassVar[Mapping[str, str]] = {}
    called_alone: ClassVar[tuple[str, ...]] = ()

    # Checkpoints

    @abstractmethod
    def recognise(self, shapes: Mapping[str, Shape]) -> Recognised:
        """The policy that names and shapes describe, and nothing else.

        Raises:
            CheckpointError: they are not those of a policy of this family; says what is missing or left over.
        """

    def tidy(self, tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
        """Tensors by the family's own names, and the names of those that no policy of it reads."""
        return dict(tensors), ()

    def carried(self, extra: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
        """Settings that a checkpoint holds beside its weights.

        Args:
            extra: what stands there, as plain values.
            given: names of the settings that the user gives; what they replace is not looked at.

        Raises:
            CheckpointError: a value that cannot be meant.
        """
        return {}

    def describe(self, architecture: Any) -> str:
        """The shapes for `vla-inspect`, a part on each line."""
        return str(architecture)

    # A bundle's own policy

    def architecture_of(self, manifest: Manifest) -> Any:
        """The architecture that a bundle records, or None of one that was written before it was recorded.

        Raises:
            InputError: it is no architecture of this family.
        """
        if manifest.architecture is None:
            return None
        try:
            return msgspec.convert(manifest.architecture.values, self.architecture)
        except msgspec.ValidationError as error:
            raise InputError(
                f"the manifest's architecture is none of {self.name}: {error}.",
                "It was edited, or written by another version; export the checkpoint again.",
            ) from error

    def guesses(self, manifest: Manifest) -> tuple[Guess, ...]:
        """What it rests on that nobody knows, as far as it makes a difference: here all of unknown standing.

        Raises:
            InputError: its settings are not those of this version.
        """
        return tuple(
            Guess(name, taken, self.settings.otherwise(name, taken), "actions are off")
            for name, taken in self.settings.left_at_default(manifest, "unknown").items()
        )

    def likely(self, manifest: Manifest) -> dict[str, Any]:
        """Defaults that are likely, and no file confirms, as far as they make a difference: here all of that standing.

        Raises:
            InputError: as `guesses`.
        """
        return self.settings.left_at_default(manifest, "likely")

    # The reference

    def prepare_imports(self) -> None:
        """Import what the reference is made of: it takes seconds, and is shown as such."""
        import_module("torch")

    @abstractmethod
    def empty(self, architecture: Any, settings: Any, fused: bool = False) -> torch.nn.Module:
        """The policy in PyTorch in eval mode, its parameters on the meta device.

        Its `forward` takes inputs by the graph's names and returns the stages and "actions" by theirs; "actions"
        are [B, steps, size], before scale and offset; carried state is [layers, B, hidden], in and out.

        Args:
            architecture, settings: of the policy.
            fused: compute attention by PyTorch's fused kernels, the faster, and not step by step.
        """

    def assign(self, policy: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> torch.nn.Module:
        """Give an `empty` policy its weights.

        FP32 tensors stay where they are mapped; those of a checkpoint that was saved in half are widened, since
        the reference computes in FP32.

        Raises:
            CheckpointError: a tensor is missing, left over or misshapen for the modules.
        """
        wanted = {name: tuple(tensor.shape) for name, tensor in policy.state_dict().items()}
        found = {name: tensor.float() for name, tensor in tensors.items()}
        problems = [f"missing {name}" for name in sorted(wanted.keys() - found.keys())]
        problems += [f"left over {name}" for name in sorted(found.keys() - wanted.keys())]
        problems += [
            f"misshapen {name}: {tuple(found[name].shape)}, not {shape}"
            for name, shape in wanted.items()
            if name in found and tuple(found[name].shape) != shape
        ]
        if problems:
            more = f" and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
            raise CheckpointError(
                f"the checkpoint does not fit the policy: {'; '.join(problems[:LISTED])}{more}.",
                "Run vla-inspect on it; a library may also name its modules differently in this version.",
            )
        policy.load_state_dict(found, strict=True, assign=True)
        self.restore_buffers(policy)
        return policy.eval().requires_grad_(False)

    def restore_buffers(self, policy: torch.nn.Module) -> None:
        """Give buffers that no state dict holds (positions, masks) their values, lost on the meta device."""
        if left := [name for name, buffer in policy.named_buffers() if buffer.is_meta]:
            raise NotImplementedError(f"the family {self.name} has to give the buffer {left[0]} its value")

    def reference(
        self, architecture: Any, settings: Any, tensors: Mapping[str, torch.Tensor], fused: bool = False
    ) -> torch.nn.Module:
        """The FP32 policy of a checkpoint, what every exported file is compared with. Raises as `assign`."""
        return self.assign(self.empty(architecture, settings, fused), tensors)

    def reference_inputs(
        self, settings: Any, golden: Mapping[str, np.ndarray], at: int
    ) -> dict[str, torch.Tensor]:
        """Golden sample `at` as arguments of the policy, batch 1: every input of the graph, by its name.

        Of `golden[name]` [N, ...] that is [1, ...], and of carried state [N, layers, hidden] it is
        [layers, 1, hidden]: `torch.from_numpy(golden[name][at])[:, None]`.
        """
        import torch

        return {"pixel_values": torch.from_numpy(golden["pixel_values"][at : at + 1])}

    def search(self) -> Search:
        """How `vla-settings` finds the settings that its policies were trained with.

        Raises:
            InputError: this family does not tell.
        """
        raise InputError(
            f"the settings of {self.name} policies cannot be searched: the family does not say what may vary.",
            "Choose them by hand: vla-export --list-settings",
        )

    # The bundle

    @abstractmethod
    def surroundings(self, architecture: Any, settings: Any) -> Surroundings:
        """What a runtime does before and after the graph."""

    @property
    def takes_text(self) -> bool:
        """Whether it has prompts of its own making."""
        return type(self).prompts is not Family.prompts

    def prompts(self, architecture: Any, settings: Any, request: PromptRequest) -> Prompts | None:
        """The instructions as token ids, or None of a family without text, which is asked for nothing about it.

        Raises:
            InputError: an instruction or an option about text cannot be used.
        """
        return None

    def golden_inputs(
        self,
        architecture: Any,
        settings: Any,
        prompts: Prompts | None,
        count: int,
        instructions: Sequence[int] | None = None,
    ) -> dict[str, np.ndarray]:
        """Inputs of `count` golden samples beside their pixels, by the graph's names: an array for each.

        `instructions` are given to a family with text: which of the prompts' each sample follows; None leaves it to
        the family, and they take turns.

        They are [count, ...] without the graph's batch: of an input [B, ...], [count, ...]; of carried state
        [layers, B, hidden], [count, layers, hidden], and not zero for all samples, or a fault in how it enters the
        graph would not be seen. Dtypes are the graph's. An input that is left out here or in `reference_inputs` is
        refused by its name.
        """
        return {}

    def float32_islands(self, graph: GraphWriter, precision: Precision) -> tuple[str, ...]:
        """What a graph in half precision keeps in float32, for its manifest: here the operators that compute in it."""
        return graph.float32_operators

    @abstractmethod
    def graph(self, request: GraphRequest) -> GraphWriter:
        """The policy's graph: input `pixel_values` float32 [B, 3, H, W], output `actions`, stages in their order.

        What a robot uses is compared with the reference, or the export is refused: the output `actions` is the
        stage "action", and each output that `runtime.state` carries, float32 [layers, B, hidden], is a stage that
        the reference returns under the same name.
        """
