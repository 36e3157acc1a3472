"""How the settings of this family's policies are found; what `vla-settings` asks of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from vla_edge.export.family_search import Axis, Need, TextRequest, Validated
from vla_edge.export.kosmos2.architecture import Architecture
from vla_edge.export.kosmos2.settings import PolicySettings
from vla_edge.runtime.bundle.manifest import Preprocessing

from . import space

if TYPE_CHECKING:
    import torch

    from vla_edge.export.family_search import Search
    from vla_edge.export.kosmos2.reference import VlaPolicy

    from .backbones import Kosmos2Backbones


class Kosmos2Search:
    """See `vla_edge.export.family_search.Search`.

    Args:
        reference: the policy of an architecture with settings, given its weights.
        preprocessing: from a frame to pixels.
    """

    steps = space.STEPS
    target_limit = space.TARGET_LIMIT
    batch_size = space.BATCH_SIZE

    def __init__(
        self,
        reference: Callable[[Architecture, PolicySettings, Mapping[str, torch.Tensor]], Any],
        preprocessing: Callable[[Architecture, PolicySettings], Preprocessing],
    ) -> None:
        self._reference, self._preprocessing = reference, preprocessing

    def axes(self, architecture: Architecture) -> tuple[Axis, ...]:
        return space.axes(architecture)

    def canonical(self, settings: PolicySettings) -> PolicySettings:
        return space.canonical(settings)

    def looks_at_first(self, settings: PolicySettings) -> bool:
        return settings.frame == "first"

    def needs(self, settings: PolicySettings) -> tuple[Need, ...]:
        return space.needs(settings)

    def validated_on(self, architecture: Architecture) -> Validated:
        return space.validated_on(architecture)

    def open(
        self, architecture: Architecture, tensors: Mapping[str, torch.Tensor], text: TextRequest, device: str
    ) -> Kosmos2Backbones:
        from .backbones import Kosmos2Backbones
        from .memory import planned

        memory = planned(architecture, tensors, device)
        # one copy for all policies, each of which takes them as they are
        weights = {name: tensor.float().to(device) for name, tensor in tensors.items()}

        def build(settings: PolicySettings) -> VlaPolicy:
            policy: VlaPolicy = self._reference(architecture, settings, weights).to(device)
            policy.rnn.flatten_parameters()  # else cuDNN copies them at each call
            return policy

        return Kosmos2Backbones(
            architecture,
            build,
            text,
            lambda settings: self._preprocessing(architecture, settings),
            device,
            memory.frames_at_once,
            memory.bytes,
        )


if TYPE_CHECKING:
    _: type[Search] = Kosmos2Search
