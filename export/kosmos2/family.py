"""The door to this room: policies on Kosmos-2, pure or with CLIP. Nothing else of it is seen from outside."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from vla_edge.export.family import (
    Family,
    GateLimits,
    GraphRequest,
    Guess,
    Parts,
    PromptRequest,
    Prompts,
    Recognised,
    Surroundings,
)
from vla_edge.export.family_samples import Shape
from vla_edge.runtime.bundle.manifest import ActionSpec, Manifest, Preprocessing, Runtime

from . import layout
from .architecture import Architecture, shapes_in_words
from .sample.samples import Kosmos2Samples
from .search.search import Kosmos2Search
from .settings import PolicySettings
from .settings_rules import RULES, action_normalisation
from .tensors import CLIP, FUSION, HEAD, KOSMOS, LSTM

if TYPE_CHECKING:
    import numpy as np
    import torch

    from vla_edge.export.graph.precision import Precision
    from vla_edge.export.graph.writer import GraphWriter

    from .reference import VlaPolicy


UNIT = "m/s"
# The projection belongs to vision, since parity measures that stage behind it, too; CLIP's text feature is a table in
# a graph.
STAGE_PATTERNS: Mapping[str, str] = {
    "vision": r"kosmos_model\.(?:vision_model|image_to_text_projection)",
    "text": r"kosmos_model\.text_model",
    "clip": r"clip_model\.\w|clip_text_features",
    "fusion": r"feature_fusion",
    "lstm": r"rnn|[hc]_(?:in|out)",
    "head": r"actions",
}
# modules inside a stage's that the policy also calls by themselves
CALLED_ALONE = (
    "kosmos_model.text_model.model.embed_tokens",
    "kosmos_model.vision_model.model.post_layernorm",
)


# what its graphs in half precision keep in float32 beside what `Precision` says
ISLANDS = ("layer_norm", "normalize", "pooling", "lstm_gates", "embedding_sum", "last_linear")


class Kosmos2(Family):
    """Policies on Kosmos-2, pure or with CLIP."""

    name = "kosmos2"
    parts = Parts(own=(LSTM, HEAD, FUSION), backbone=(KOSMOS, CLIP))
    architecture = Architecture
    settings = RULES
    # The policies' own error is 0.21 to 0.22 of normalised action, 0.42 m/s after scaling: a twentieth of that.
    gates: ClassVar[Mapping[str, GateLimits]] = {
        "fp16": GateLimits(stage=0.03, action=0.02),
        "fp32": GateLimits(stage=1e-3, action=1e-3),
    }
    samples = Kosmos2Samples()
    stage_patterns = STAGE_PATTERNS
    called_alone = CALLED_ALONE

    def recognise(self, shapes: Mapping[str, Shape]) -> Recognised:
        architecture, reasons = layout.recognise(shapes)
        return Recognised(architecture, architecture.layout, reasons)

    def tidy(self, tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
        named = {name: tensors[given] for given, name in layout.canonical_names(tensors).items()}
        kept = {
            name: layout.scalar_if_one(name, tensor)
            for name, tensor in named.items()
            if not layout.is_unused(name)
        }
        return kept, tuple(filter(layout.is_unused, named))

    def carried(self, extra: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
        return action_normalisation(extra, given)

    def describe(self, architecture: Architecture) -> str:
        return shapes_in_words(architecture)

    def guesses(self, manifest: Manifest) -> tuple[Guess, ...]:
        from .guesses import guesses

        return guesses(manifest)

    def likely(self, manifest: Manifest) -> dict[str, Any]:
        from .guesses import likely

        return likely(manifest)

    def prepare_imports(self) -> None:
        import transformers

        from . import reference  # noqa: F401

        # transformers imports its models when they are first asked for
        _ = transformers.Kosmos2Model, transformers.CLIPModel

    def empty(self, architecture: Architecture, settings: PolicySettings, fused: bool = False) -> VlaPolicy:
        from .reference import build_empty

        return build_empty(architecture, settings, attention="sdpa" if fused else "eager")

    def restore_buffers(self, policy: torch.nn.Module) -> None:
        from .backbones import restore_buffers

        restore_buffers(policy)

    def reference_inputs(
        self, settings: PolicySettings, golden: Mapping[str, np.ndarray], at: int
    ) -> dict[str, torch.Tensor]:
        from .golden import reference_inputs

        return reference_inputs(settings, golden, at)

    def search(self) -> Kosmos2Search:
        return Kosmos2Search(
            self.reference, lambda arch, settings: self.surroundings(arch, settings).preprocessing
        )

    def surroundings(self, architecture: Architecture, settings: PolicySettings) -> Surroundings:
        side = architecture.vision.image_size
        preprocessing = Preprocessing(
            height=side,
            width=side,
            color="rgb",
            fit="squash",
            resample=settings.image_resample,
            antialias=True,
            scale=1 / 255,
            mean=settings.image_mean,
            std=settings.image_std,
        )
        action = ActionSpec(
            names=settings.action_names,
            units=(UNIT,) * len(settings.action_names),
            scale=settings.action_scale,
            offset=settings.action_offset,
            limit=settings.action_limit,
        )
        state = (("h_in", "h_out"), ("c_in", "c_out")) if settings.lstm == "carried" else ()
        return Surroundings(preprocessing, action, Runtime(frame=settings.frame, state=state))

    def prompts(
        self, architecture: Architecture, settings: PolicySettings, request: PromptRequest
    ) -> Prompts | None:
        from .tokens import prompts_of

        return prompts_of(architecture, settings, request)

    def golden_inputs(
        self,
        architecture: Architecture,
        settings: PolicySettings,
        prompts: Prompts | None,
        count: int,
        instructions: Sequence[int] | None = None,
    ) -> dict[str, np.ndarray]:
        from .golden import golden_inputs

        return golden_inputs(architecture, settings, prompts, count, instructions)

    def float32_islands(self, graph: GraphWriter, precision: Precision) -> tuple[str, ...]:
        return tuple(sorted((*ISLANDS, *precision.float32_roles)))

    def graph(self, request: GraphRequest) -> GraphWriter:
        from .graph.policy import requested_graph

        return requested_graph(request)


FAMILY = Kosmos2()
