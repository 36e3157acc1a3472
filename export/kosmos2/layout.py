"""Recognising a policy by the names and shapes of its tensors, and by nothing else.

File names, totals and stored arguments are never consulted: they can be wrong, shapes cannot. Depths
are counted, widths are read from the weights, and every tensor must then be explained: one that is
missing, left over or of another shape is an error.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from vla_edge.export.family_samples import Shape
from vla_edge.runtime.errors import CheckpointError

from .architecture import (
    HEAD_SIZE,
    Architecture,
    Clip,
    ClipForm,
    HeadLayer,
    LayoutName,
    Lstm,
    TextTower,
    VisionTower,
)
from .layout_choice import choose_layout
from .tensors import (
    CLIP,
    CLIP_LAYERS,
    FUSION,
    HEAD,
    KOSMOS,
    KOSMOS_TEXT_LAYERS,
    KOSMOS_VISION_LAYERS,
    LSTM,
    Dimension,
    Formulas,
    HeadModule,
    Outline,
    encoder_layer,
    evaluate,
    factor_and_size,
    formulas,
    kosmos_text_layer,
    lstm_layer,
    residual_block,
)

if TYPE_CHECKING:
    import torch

LISTED_KEYS = 10

# Buffers that older library versions saved and nothing reads: index tables and constants of the code.
_STALE = re.compile(r"(^|\.)(position_ids|embed_positions\.weights|attn_mask|num_batches_tracked)$")
# Longer numbers are nobody's layers; such keys are left over.
_INDEX = r"(\d{1,4})"
_HEAD_KEY = re.compile(re.escape(HEAD) + _INDEX + r"\.(weight|bias)$")


def is_unused(name: str) -> bool:
    """Whether a key is a buffer without trained content, or a text head, which no policy of this family reads."""
    return _STALE.search(name) is not None or name == f"{KOSMOS}text_model.lm_head.weight"


def scalar_if_one(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """CLIP's temperature, which some versions saved as a vector of one value, as a scalar; others as they are."""
    return tensor.reshape(()) if name == f"{CLIP}logit_scale" and tuple(tensor.shape) == (1,) else tensor


def canonical_names(names: Iterable[str]) -> dict[str, str]:
    """The name used here for each name: `feature_fusion` may have been saved as a Sequential of one Linear."""
    names, inner = list(names), f"{FUSION}0."
    wrapped = all(name.startswith(inner) for name in names if name.startswith(FUSION))
    return {
        name: f"{FUSION}{name.removeprefix(inner)}" if wrapped and name.startswith(inner) else name
        for name in names
    }


def recognise(shapes: Mapping[str, Shape]) -> tuple[Architecture, tuple[str, ...]]:
    """The architecture that a state dict's names and shapes describe.

    Args:
        shapes: shape of every tensor by name, without stale buffers and prefixes of wrappers.

    Returns:
        The architecture, and the reasons for its layout, one sentence each.

    Raises:
        CheckpointError: the layout is unknown, keys are missing, left over or misshapen
            (at most ten of each are listed), a tensor is empty, or a width is no multiple of 64.
    """
    shapes = {name: tuple(shapes[given]) for given, name in canonical_names(shapes).items()}
    outline = _outline(shapes)
    table = formulas(outline)
    sizes = _solve(table, shapes)
    _check_complete(table, shapes, sizes)
    _check_not_empty(shapes)
    _check_widths(sizes)
    layout, reasons = choose_layout(outline, sizes)
    return _architecture(layout, outline, sizes), reasons


def _outline(shapes: Mapping[str, Shape]) -> Outline:
    for group in (KOSMOS, LSTM, HEAD):
        if not any(name.startswith(group) for name in shapes):
            raise _unknown_layout(shapes, group)
    form = _clip_form(shapes)
    return Outline(
        vision_depth=_depth(shapes, KOSMOS_VISION_LAYERS, len(encoder_layer("", "vision"))),
        text_depth=_depth(shapes, KOSMOS_TEXT_LAYERS, len(kosmos_text_layer(""))),
        clip_form=form,
        clip_depths=_clip_depths(shapes, form),
        lstm_layers=_lstm_layers(shapes),
        head=_head_modules(shapes),
    )


def _clip_form(shapes: Mapping[str, Shape]) -> ClipForm:
    """By majority, so that one stray key is reported as left over."""
    clip = [name for name in shapes if name.startswith(CLIP)]
    if not clip and not any(name.startswith(FUSION) for name in shapes):
        return "none"
    open_clip = sum(name.startswith(CLIP_LAYERS["open_clip"]) for name in clip)
    return "open_clip" if 2 * open_clip > len(clip) else "transformers"


def _clip_depths(shapes: Mapping[str, Shape], form: ClipForm) -> tuple[int, int]:
    if form == "none":
        return 0, 0
    vision, text = CLIP_LAYERS[form]
    layer = residual_block if form == "open_clip" else encoder_layer
    keys = len(layer("", "clip"))
    return _depth(shapes, vision, keys), _depth(shapes, text, keys)


def _depth(names: Iterable[str], prefix: str, keys_per_layer: int) -> int:
    """Number of layers: up to the last that has most of its keys, so that a single stray key adds none."""
    pattern = re.compile(re.escape(prefix) + _INDEX + r"\.")
    keys = Counter(int(match[1]) for name in names if (match := pattern.match(name)))
    return max((index + 1 for index, count in keys.items() if 2 * count > keys_per_layer), default=1)


def _lstm_layers(names: Iterable[str]) -> int:
    pattern = re.compile(re.escape(LSTM) + rf"\w+_l{_INDEX}$")
    keys = Counter(int(match[1]) for name in names if (match := pattern.match(name)))
    half = len(lstm_layer(0, "")) / 2
    return max((index + 1 for index, count in keys.items() if count > half), default=1)


def _head_modules(shapes: Mapping[str, Shape]) -> tuple[HeadModule, ...]:
    """A 2-D weight is a Linear, a 1-D weight a LayerNorm; positions without weights hold no parameters."""
    indices = sorted({int(match[1]) for name in shapes if (match := _HEAD_KEY.match(name))})
    ranks = {index: len(shapes.get(f"{HEAD}{index}.weight", (0, 0))) for index in indices}
    return tuple(HeadModule(index, "layernorm" if ranks[index] == 1 else "linear") for index in indices)


def _solve(table: Formulas, shapes: Mapping[str, Shape]) -> dict[str, int]:
    """The value of each named size: what most tensors say, so that a lone misshapen one stands out.

    A size on which two values have equally many votes stays unknown, and all that has it is misshapen.
    """
    votes: dict[str, Counter[int]] = {}
    for name, formula in table.items():
        shape = shapes.get(name, ())
        if len(shape) != len(formula):
            continue
        for value, dimension in zip(shape, formula, strict=True):
            factor, size = factor_and_size(dimension)
            if size and value % factor == 0:
                votes.setdefault(size, Counter())[value // factor] += 1
    return {size: count.most_common(1)[0][0] for size, count in votes.items() if not _tied(count)}


def _tied(votes: Counter[int]) -> bool:
    first, *others = votes.most_common(2)
    return bool(others) and others[0][1] == first[1]


def _check_complete(table: Formulas, shapes: Mapping[str, Shape], sizes: Mapping[str, int]) -> None:
    missing = [_describe_missing(name, shapes) for name in table if name not in shapes]
    left_over = [name for name in shapes if name not in table]
    misshapen = [
        f"{name} is {list(shapes[name])}, expected {_expected(formula, sizes)}"
        for name, formula in table.items()
        if name in shapes and not _fits(shapes[name], formula, sizes)
    ]
    lists = {"missing": missing, "left over": left_over, "misshapen": misshapen}
    problems = [_listing(title, entries) for title, entries in lists.items() if entries]
    if problems:
        raise CheckpointError(
            "The tensors are not those of a policy of this family:\n" + "\n".join(problems),
            "Nothing is loaded in part. Check that the file is whole and from a training run of this family; "
            "vla-inspect shows its tree, and with a second checkpoint what differs.",
        )


def _fits(shape: Shape, formula: tuple[Dimension, ...], sizes: Mapping[str, int]) -> bool:
    known = all(size is None or size in sizes for _, size in map(factor_and_size, formula))
    return known and evaluate(formula, sizes) == shape


def _expected(formula: tuple[Dimension, ...], sizes: Mapping[str, int]) -> str:
    """The expected shape; a size that is not known is shown by its name."""
    parts = []
    for dimension in formula:
        factor, size = factor_and_size(dimension)
        known = size is None or size in sizes
        parts.append(str(factor * (sizes[size] if size else 1)) if known else str(dimension))
    return f"[{', '.join(parts)}]"


def _describe_missing(name: str, shapes: Mapping[str, Shape]) -> str:
    """Only a head's module can be half there: its other key says why this one is wanted."""
    stem, _, part = name.rpartition(".")
    sibling = f"{stem}.{'bias' if part == 'weight' else 'weight'}"
    return f"{name} ({sibling} is there)" if name.startswith(HEAD) and sibling in shapes else name


def _listing(title: str, entries: list[str]) -> str:
    rest = len(entries) - LISTED_KEYS
    lines = [f"{title} ({len(entries)}):", *entries[:LISTED_KEYS]]
    return "\n  ".join([*lines, f"... and {rest} more"] if rest > 0 else lines)


def _check_not_empty(shapes: Mapping[str, Shape]) -> None:
    """A size of 0 fits every formula, and then something divides by it."""
    empty = [f"{name} is {list(shape)}" for name, shape in shapes.items() if 0 in shape]
    if empty:
        raise CheckpointError(
            "Tensors without a single value:\n" + _listing("empty", empty),
            "The file is damaged, or was written without its weights; copy it again from where it was trained.",
        )


def _check_widths(sizes: Mapping[str, int]) -> None:
    """Attention heads are 64 wide in both model families, and no tensor tells their number."""
    for tower in ("vision", "text", "clip.vision", "clip.text"):
        width = sizes.get(f"{tower}.width", HEAD_SIZE)
        if width % HEAD_SIZE:
            raise CheckpointError(
                f"The {tower} tower is {width} wide, which is no multiple of {HEAD_SIZE}.",
                f"Kosmos-2 and CLIP B/32 have attention heads of {HEAD_SIZE}; other head sizes cannot be told "
                "from the weights and are not supported.",
            )


def _unknown_layout(shapes: Mapping[str, Shape], group: str) -> CheckpointError:
    groups = Counter(name.split(".", 1)[0] for name in shapes)
    found = ", ".join(f"{name} ({count})" for name, count in groups.most_common(LISTED_KEYS))
    more = f" and {len(groups) - LISTED_KEYS} more" if len(groups) > LISTED_KEYS else ""
    return CheckpointError(
        f"Unknown layout: no {group}* among the tensors. Looked for {KOSMOS}*, {LSTM}*, {HEAD}* "
        f"and, in a hybrid, {CLIP}* and {FUSION}*. Found {found or 'no tensor'}{more}.",
        "Give a checkpoint of the whole policy; vla-inspect shows the tree of this one.",
    )


def _architecture(layout: LayoutName, outline: Outline, sizes: Mapping[str, int]) -> Architecture:
    vision = _vision_tower(sizes, "vision", outline.vision_depth)
    clip = _clip(outline, sizes) if outline.hybrid else None
    if clip and clip.vision.image_size != vision.image_size:
        raise CheckpointError(
            f"Kosmos-2 wants images of {vision.image_size} pixels and CLIP of {clip.vision.image_size}.",
            "The policies of this family feed one image to both; this file mixes models of different input sizes.",
        )
    first = sizes["lstm.input"] if outline.hybrid else sizes["text.width"]
    return Architecture(
        layout=layout,
        vision=vision,
        text=_text_tower(sizes, "text", outline.text_depth),
        image_tokens=sizes["image_tokens"],
        clip=clip,
        fusion=(sizes["fusion.input"], first) if outline.hybrid else None,
        lstm=Lstm(input=first, hidden=sizes["lstm.hidden"], layers=outline.lstm_layers),
        head=head_layers(outline.head, sizes),
    )


def head_layers(modules: tuple[HeadModule, ...], sizes: Mapping[str, int]) -> tuple[HeadLayer, ...]:
    """The head with its widths. A gap in the numbering means an activation, adjacency means none."""
    layers: list[HeadLayer] = []
    width = sizes["lstm.hidden"]
    for position, module in enumerate(modules):
        output = sizes[f"head.{module.index}"] if module.kind == "linear" else width
        following = modules[position + 1].index if position + 1 < len(modules) else module.index
        layers.append(HeadLayer(module.index, module.kind, width, output, relu=following > module.index + 1))
        width = output
    return tuple(layers)


def _clip(outline: Outline, sizes: Mapping[str, int]) -> Clip:
    vision_depth, text_depth = outline.clip_depths
    return Clip(
        form=outline.clip_form,
        vision=_vision_tower(sizes, "clip.vision", vision_depth),
        text=_text_tower(sizes, "clip.text", text_depth),
        embed=sizes["clip.embed"],
    )


def _vision_tower(sizes: Mapping[str, int], prefix: str, depth: int) -> VisionTower:
    patch, tokens = sizes[f"{prefix}.patch"], sizes[f"{prefix}.tokens"]
    side = math.isqrt(max(tokens - 1, 0))
    if side * side + 1 != tokens or not side:
        raise CheckpointError(
            f"The position table of the {prefix} tower (position_embedding.weight or positional_embedding) has "
            f"{tokens} rows; a square image gives a square number of patches and one class token.",
            "Images that are not square are not supported; otherwise the file is damaged.",
        )
    return VisionTower(
        sizes[f"{prefix}.width"], depth, sizes[f"{prefix}.mlp"], patch, image_size=side * patch
    )


def _text_tower(sizes: Mapping[str, int], prefix: str, depth: int) -> TextTower:
    width, mlp, vocabulary = (sizes[f"{prefix}.{size}"] for size in ("width", "mlp", "vocabulary"))
    return TextTower(width, depth, mlp, vocabulary, context=sizes.get(f"{prefix}.context", 0))
