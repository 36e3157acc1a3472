"""Which of the known layouts a policy has: by what its fusion reads, and where two fit, by its head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vla_edge.runtime.errors import CheckpointError

from .architecture import LayoutName
from .tensors import CLIP, FUSION, HEAD, HeadModule, Outline

# What a layout's fusion reads, as the setting `features` names it.
_FEATURES: Mapping[LayoutName, str] = {
    "pure": '["text"]',
    "hybrid-a": '["text","clip_image"]',
    "hybrid-b": '["vision","clip_image"]',
    "hybrid-c": '["vision","clip_image","clip_text"]',
}


def choose_layout(outline: Outline, sizes: Mapping[str, int]) -> tuple[LayoutName, tuple[str, ...]]:
    """The layout, and the reasons for it, of which the last says more than the first.

    Args:
        outline: which tensors there are.
        sizes: what the named sizes are, "fusion.input" among them where there is a fusion.

    Raises:
        CheckpointError: no layout has this width and head.
    """
    if not outline.hybrid:
        return "pure", (f"there is no {FUSION}* and no {CLIP}*: the LSTM reads the decoder's features",)
    text, vision, embed = sizes["text.width"], sizes["vision.width"], sizes["clip.embed"]
    widths: dict[LayoutName, tuple[int, str]] = {
        "hybrid-a": (text + embed, f"{text} (decoder) + {embed} (CLIP image)"),
        "hybrid-b": (vision + embed, f"{vision} (Kosmos-2 vision) + {embed} (CLIP image)"),
        "hybrid-c": (vision + 2 * embed, f"{vision} (Kosmos-2 vision) + 2 x {embed} (CLIP image and text)"),
    }
    found = sizes["fusion.input"]
    fitting = [layout for layout, (width, _) in widths.items() if width == found]
    if not fitting:
        raise _unknown_fusion(found, widths)
    layout = _by_head(outline, fitting)
    others = tuple(
        f"{other} reads as much, {widths[other][1]}, but has another head: if this one has its features, "
        f"--set 'features={_FEATURES[other]}'"
        for other in fitting
        if other != layout
    )
    head = (f"{HEAD}1.weight is 1-D: a LayerNorm follows the first Linear",) if layout == "hybrid-a" else ()
    return layout, (f"{FUSION}weight reads {found} = {widths[layout][1]}", *head, *others)


def _by_head(outline: Outline, fitting: Sequence[LayoutName]) -> LayoutName:
    """Of the layouts whose widths fit, the one with this head: a LayerNorm follows hybrid-a's first Linear.

    hybrid-b and hybrid-c never fit both, since they differ by the width of one more feature.
    """
    others = [layout for layout in fitting if layout != "hybrid-a"]
    if "hybrid-a" in fitting and (HeadModule(1, "layernorm") in outline.head):
        return "hybrid-a"
    if not others:
        raise CheckpointError(
            f"Unknown layout: {FUSION}weight has the width of hybrid-a, but {HEAD}1.weight is no LayerNorm.",
            "vla-inspect shows the tree; a new layout has to be added to export/kosmos2/layout.py.",
        )
    return others[0]


def _unknown_fusion(found: int, widths: Mapping[LayoutName, tuple[int, str]]) -> CheckpointError:
    looked_for = "; ".join(f"{layout}: {width} = {meaning}" for layout, (width, meaning) in widths.items())
    return CheckpointError(
        f"Unknown layout: {FUSION}weight reads {found} values. Looked for {looked_for}.",
        "vla-inspect shows the tree; a new layout has to be added to export/kosmos2/layout.py.",
    )
