"""The policy of a bundle with random weights, where its checkpoint is not at hand: for its speed, not its actions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vla_edge.export.families import family_of_bundle
from vla_edge.export.family import Family
from vla_edge.runtime.bundle.manifest import Manifest
from vla_edge.runtime.errors import EngineError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

SEED = 0
# so small that nothing overflows in half over 24 layers
DEVIATION = 0.02


class UnknownArchitectureError(EngineError):
    """The bundle's architecture cannot be told without its checkpoint."""


def random_policy(manifest: Manifest) -> Module:
    """The bundle's policy on the CPU in FP32, in eval mode, with random weights.

    Raises:
        UnknownArchitectureError: the manifest does not tell its architecture.
        InputError: what it tells is no architecture of its family.
    """
    import torch

    family = family_of_bundle(manifest)
    policy = _empty(manifest, family)
    generator = torch.Generator().manual_seed(SEED)

    def fill(name: str, like: Tensor) -> Tensor:
        if like.ndim < 2:  # normalisations, biases, scales
            return torch.ones(like.shape) if name.endswith("weight") else torch.zeros(like.shape)
        return torch.empty(like.shape).normal_(std=DEVIATION, generator=generator)

    return family.assign(policy, {name: fill(name, like) for name, like in policy.state_dict().items()})


def describe(manifest: Manifest) -> str:
    """What stands on a row whose weights these are."""
    return f"random: {manifest.source.layout}, {manifest.source.parameters:,} parameters, seed {SEED}"


def _empty(manifest: Manifest, family: Family) -> Module:
    """The policy without weights, whose parameters are as many as the manifest says.

    A manifest of schema 1 does not hold every width of the policy, so that is found among the architectures that
    vla-sample knows: the same layout, and the same number of parameters to the last one.
    """
    source, settings = manifest.source, family.settings.from_manifest(manifest)
    recorded = family.architecture_of(manifest)
    known = family.samples.architectures(source.layout) if family.samples else ()
    for architecture in known if recorded is None else (recorded,):
        policy = family.empty(architecture, settings, fused=True)
        if sum(tensor.numel() for tensor in policy.state_dict().values()) == source.parameters:
            return policy
    raise UnknownArchitectureError(
        f"no architecture of layout {source.layout} with {source.parameters:,} parameters is known.",
        f"Pass the checkpoint: --checkpoint {source.file}",
    )
