"""What is tried of a policy on Kosmos-2: all that fits its shapes, and each forward pass once."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from vla_edge.export.kosmos2.sample.sizes import sample_architecture
from vla_edge.export.kosmos2.search.space import axes, canonical, feature_sets, needs, validated_on
from vla_edge.export.kosmos2.settings import PolicySettings


@pytest.mark.parametrize(
    ("layout", "size", "count", "some"),
    [
        ("pure", "full", 2, ("image_projection",)),
        ("hybrid-b", "tiny", 2, ("clip_image", "vision")),  # without CLIP's text: its vocabulary was cut
        ("hybrid-a", "full", 8, ("image_projection", "clip_text")),
        ("hybrid-b", "full", 4, ("clip_text", "vision")),
        # as wide as vision and both of CLIP's are text alone and the projection alone
        ("hybrid-c", "full", 8, ("clip_text", "vision", "clip_image")),
    ],
)
def test_features_of_every_order_are_tried_whose_widths_add_up(layout, size, count, some) -> None:
    found = feature_sets(sample_architecture(layout, "transformers", size))
    assert len(found) == len(set(found)) == count
    assert some in found


def test_every_alternative_is_of_settings_that_there_are() -> None:
    for axis in axes(sample_architecture("hybrid-c", "transformers", "tiny")):
        assert len(axis) > 1
        for alternative in axis:
            replace(PolicySettings(), **alternative)


def test_what_has_no_effect_is_one_forward_pass() -> None:
    odd = {"prompt": "image_first_grounding", "pooling": "mean", "projection_attention": "causal"}
    vision = PolicySettings(features=("vision", "clip_image"))
    assert canonical(replace(vision, **odd)) == vision
    assert canonical(PolicySettings(**odd)) == PolicySettings(**odd)
    assert canonical(PolicySettings(clip_activation="gelu", lstm_window=4)) == PolicySettings()
    window = PolicySettings(lstm="window", lstm_window=4)
    assert canonical(window) == window


def test_a_need_tells_what_the_backbones_depend_on_and_no_more() -> None:
    settings = PolicySettings(features=("text", "clip_image"))
    same = replace(settings, lstm="carried", final_tanh=True, clip_feature="projected_normalized")
    assert needs(settings) == needs(same)
    for change in (
        {"pooling": "mean"},
        {"prompt": "image_first_grounding"},
        {"projection_attention": "causal"},
        {"clip_activation": "gelu"},
        {"image_resample": "lanczos"},
        {"image_mean": (0.0, 0.0, 0.0)},
    ):
        assert needs(replace(settings, **change)) != needs(settings), change
    text, clip = needs(settings)
    assert text.run != clip.run


def test_the_hybrids_were_validated_on_a_fifth() -> None:
    assert validated_on(sample_architecture("pure", "none", "tiny")) == "all"
    assert validated_on(sample_architecture("hybrid-b", "transformers", "tiny")) == "fifth"
