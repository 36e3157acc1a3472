"""A bundle's policy in PyTorch without its checkpoint: its architecture is recorded, and was guessed before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from vla_edge.bench.backends.random_policy import UnknownArchitectureError, random_policy
from vla_edge.export.checkpoint.checkpoint import read_checkpoint
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.errors import InputError

OPEN_CLIP = ("hybrid-a", "open_clip")


def test_it_has_the_tensors_of_the_checkpoint(
    bundle_of: Callable[..., Path], checkpoint_of: Callable[..., Path]
) -> None:
    policy = random_policy(Bundle.open(bundle_of(*OPEN_CLIP)).manifest)
    found = {name: tuple(tensor.shape) for name, tensor in policy.state_dict().items()}
    assert found == read_checkpoint(checkpoint_of(*OPEN_CLIP)).shapes


def test_where_none_is_recorded_it_is_told_by_layout_and_number_of_parameters(
    bundle_of: Callable[..., Path],
) -> None:
    manifest = msgspec.structs.replace(Bundle.open(bundle_of("pure")).manifest, architecture=None)
    source = manifest.source
    assert (
        sum(tensor.numel() for tensor in random_policy(manifest).state_dict().values()) == source.parameters
    )
    other = msgspec.structs.replace(source, parameters=source.parameters + 1)
    with pytest.raises(UnknownArchitectureError, match="no architecture of layout pure with"):
        random_policy(msgspec.structs.replace(manifest, source=other))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_tokens": 0}, "image_tokens"),
        ({"text": {"width": 192, "depth": 10**9, "mlp": 384, "vocabulary": 2048}}, "depth"),
        ({"lstm": "large"}, "lstm"),
    ],
)
def test_an_edited_architecture_is_refused_before_anything_is_built(
    bundle_of: Callable[..., Path], change: dict[str, object], words: str
) -> None:
    manifest = Bundle.open(bundle_of("pure")).manifest
    values = {**manifest.architecture.values, **change}
    edited = msgspec.structs.replace(manifest.architecture, values=values)
    with pytest.raises(InputError, match=f"architecture is none of kosmos2: .*{words}"):
        random_policy(msgspec.structs.replace(manifest, architecture=edited))
