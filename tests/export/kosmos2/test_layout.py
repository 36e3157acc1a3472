from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vla_edge.export.kosmos2.architecture import (
    Architecture,
    Clip,
    ClipForm,
    LayoutName,
    Lstm,
    TextTower,
    VisionTower,
)
from vla_edge.export.kosmos2.layout import head_layers, is_unused, recognise
from vla_edge.export.kosmos2.sample.sizes import LAYOUTS, sample_architecture
from vla_edge.export.kosmos2.tensors import HeadModule, Shape, expected_tensors
from vla_edge.runtime.errors import CheckpointError

FORMS: tuple[ClipForm, ...] = ("transformers", "open_clip")
EVERY_LAYOUT = [
    (layout, form) for layout in LAYOUTS for form in FORMS if layout != "pure" or form == "transformers"
]


def shapes_of(module: torch.nn.Module, prefix: str) -> dict[str, Shape]:
    return {f"{prefix}{name}": tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def below(shapes: dict[str, Shape], prefix: str) -> dict[str, Shape]:
    return {name: shape for name, shape in shapes.items() if name.startswith(prefix)}


def count(shapes: dict[str, Shape]) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def kosmos(arch: Architecture) -> torch.nn.Module:
    from transformers import Kosmos2Config, Kosmos2Model

    text, vision = arch.text, arch.vision
    config = Kosmos2Config(
        text_config={
            "vocab_size": text.vocabulary,
            "embed_dim": text.width,
            "layers": text.depth,
            "ffn_dim": text.mlp,
            "attention_heads": text.heads,
        },
        vision_config={
            "hidden_size": vision.width,
            "intermediate_size": vision.mlp,
            "num_hidden_layers": vision.depth,
            "num_attention_heads": vision.heads,
            "image_size": vision.image_size,
            "patch_size": vision.patch,
        },
        latent_query_num=arch.image_tokens,
    )
    with torch.device("meta"):
        return Kosmos2Model(config)


def transformers_clip(clip: Clip) -> torch.nn.Module:
    from transformers import CLIPConfig, CLIPModel

    vision = {
        "hidden_size": clip.vision.width,
        "intermediate_size": clip.vision.mlp,
        "num_hidden_layers": clip.vision.depth,
        "num_attention_heads": clip.vision.heads,
        "image_size": clip.vision.image_size,
        "patch_size": clip.vision.patch,
    }
    text = {
        "vocab_size": clip.text.vocabulary,
        "hidden_size": clip.text.width,
        "intermediate_size": clip.text.mlp,
        "num_hidden_layers": clip.text.depth,
        "num_attention_heads": clip.text.heads,
        "max_position_embeddings": clip.text.context,
    }
    with torch.device("meta"):
        return CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=clip.embed))


def open_clip(clip: Clip) -> torch.nn.Module:
    from open_clip.model import CLIP

    vision = {
        "image_size": clip.vision.image_size,
        "layers": clip.vision.depth,
        "width": clip.vision.width,
        "patch_size": clip.vision.patch,
        "mlp_ratio": clip.vision.mlp / clip.vision.width,
    }
    text = {
        "context_length": clip.text.context,
        "vocab_size": clip.text.vocabulary,
        "width": clip.text.width,
        "heads": clip.text.heads,
        "layers": clip.text.depth,
        "mlp_ratio": clip.text.mlp / clip.text.width,
    }
    with torch.device("meta"):
        return CLIP(clip.embed, vision, text)


class TestFormulasAgreeWithTheModules:
    @pytest.mark.parametrize("size", ["tiny", "small", "full"])
    def test_kosmos_2_has_the_names_and_shapes_of_transformers(
        self, size: Literal["tiny", "small", "full"]
    ) -> None:
        arch = sample_architecture("pure", "none", size)
        assert below(expected_tensors(arch), "kosmos_model.") == shapes_of(kosmos(arch), "kosmos_model.")

    @pytest.mark.parametrize("size", ["tiny", "full"])
    def test_clip_has_the_names_and_shapes_of_transformers(self, size: Literal["tiny", "full"]) -> None:
        arch = sample_architecture("hybrid-a", "transformers", size)
        assert arch.clip
        assert below(expected_tensors(arch), "clip_model.") == shapes_of(
            transformers_clip(arch.clip), "clip_model."
        )

    @pytest.mark.parametrize("size", ["tiny", "full"])
    def test_clip_has_the_names_and_shapes_of_open_clip(self, size: Literal["tiny", "full"]) -> None:
        arch = sample_architecture("hybrid-a", "open_clip", size)
        assert arch.clip
        found = {
            name: shape
            for name, shape in shapes_of(open_clip(arch.clip), "clip_model.").items()
            if not is_unused(name)
        }
        assert below(expected_tensors(arch), "clip_model.") == found

    def test_the_lstm_has_the_names_and_shapes_of_torch(self) -> None:
        arch = sample_architecture("pure", "none", "full")
        lstm = torch.nn.LSTM(2048, 1024, 4, batch_first=True, device="meta")
        assert below(expected_tensors(arch), "rnn.") == shapes_of(lstm, "rnn.")
        assert expected_tensors(arch)["rnn.weight_ih_l0"] == (4096, 2048)


class TestFullSizeCounts:
    """Parameter counts of the owner's two checkpoints, to the unit."""

    def test_pure(self) -> None:
        shapes = expected_tensors(sample_architecture("pure", "none", "full"))
        assert count(below(shapes, "kosmos_model.")) == 1_664_485_376
        assert count(below(shapes, "rnn.")) == 37_781_504
        assert count(below(shapes, "actions.")) == 1_706_242
        assert count(shapes) == 1_703_973_122

    @pytest.mark.parametrize(("layout", "form"), [pair for pair in EVERY_LAYOUT if pair[0] != "pure"])
    def test_hybrids(self, layout: LayoutName, form: ClipForm) -> None:
        shapes = expected_tensors(sample_architecture(layout, form, "full"))
        assert count(below(shapes, "clip_model.")) == 151_277_313
        assert count(below(shapes, "feature_fusion.")) + count(below(shapes, "actions.")) == 6_035_458
        assert count(shapes) == 1_859_579_651


class TestHead:
    """Where `actions.mlp` has activations follows from the gaps in its numbering."""

    @pytest.mark.parametrize(
        ("layout", "activated"),
        [
            ("pure", {0: True, 2: True, 4: True, 6: False}),
            ("hybrid-a", {0: False, 1: True, 4: False, 5: True, 8: False}),
            ("hybrid-b", {0: True, 2: True, 4: True, 6: True, 8: False}),
            ("hybrid-c", {0: True, 2: False, 3: True, 5: True, 7: False}),
        ],
    )
    def test_an_activation_fills_a_gap(self, layout: LayoutName, activated: dict[int, bool]) -> None:
        arch, _ = recognise(expected_tensors(sample_architecture(layout, "transformers", "full")))
        assert {layer.index: layer.relu for layer in arch.head} == activated
        assert arch.action_size == 2


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    """Any depths, widths (multiples of 64), layouts and heads."""
    widths = st.integers(1, 3).map(lambda n: 64 * n)
    layout = draw(st.sampled_from(LAYOUTS))
    patch, side = draw(st.sampled_from([4, 7, 14])), draw(st.integers(1, 4))
    vision = VisionTower(draw(widths), draw(st.integers(1, 3)), draw(widths), patch, patch * side)
    text = TextTower(draw(widths), draw(st.integers(1, 3)), draw(widths), vocabulary=draw(st.integers(5, 99)))
    clip = draw(clips(vision.image_size)) if layout != "pure" else None
    fusion = (_fusion_input(layout, vision, text, clip), draw(widths)) if clip else None
    hidden = draw(st.integers(1, 40))
    return Architecture(
        layout=layout,
        vision=vision,
        text=text,
        image_tokens=draw(st.integers(1, 9)),
        clip=clip,
        fusion=fusion,
        lstm=Lstm(fusion[1] if fusion else text.width, hidden, draw(st.integers(1, 3))),
        head=draw(heads(hidden, norm_first=layout == "hybrid-a")),
    )


@st.composite
def clips(draw: st.DrawFn, image_size: int) -> Clip:
    widths = st.integers(1, 3).map(lambda n: 64 * n)
    return Clip(
        form=draw(st.sampled_from(FORMS)),
        vision=VisionTower(draw(widths), draw(st.integers(1, 2)), draw(widths), image_size, image_size),
        text=TextTower(
            draw(widths),
            draw(st.integers(1, 2)),
            draw(widths),
            draw(st.integers(5, 99)),
            draw(st.integers(2, 9)),
        ),
        embed=draw(st.integers(1, 50)),
    )


@st.composite
def heads(draw: st.DrawFn, hidden: int, norm_first: bool) -> tuple:
    kinds = ["linear", "layernorm"] if norm_first else ["linear"]
    kinds += [*draw(st.lists(st.sampled_from(["linear", "layernorm"]), max_size=3)), "linear"]
    gaps = draw(st.lists(st.integers(1, 3), min_size=len(kinds), max_size=len(kinds)))
    gaps[0] = 1 if norm_first else gaps[0]
    indices = [sum(gaps[:position]) for position in range(len(kinds))]
    modules = tuple(HeadModule(index, kind) for index, kind in zip(indices, kinds, strict=True))  # type: ignore[arg-type]
    # from 2: a LayerNorm of one channel with an axis more has the very shape of a Linear from 1 to 1
    sizes = {f"head.{index}": draw(st.integers(2, 20)) for index in indices}
    return head_layers(modules, {**sizes, "lstm.hidden": hidden})


def _fusion_input(layout: LayoutName, vision: VisionTower, text: TextTower, clip: Clip | None) -> int:
    assert clip
    widths = {
        "hybrid-a": text.width + clip.embed,
        "hybrid-b": vision.width + clip.embed,
        "hybrid-c": vision.width + 2 * clip.embed,
    }
    assume(len(set(widths.values())) == 3)
    return widths[layout]


@settings(max_examples=60, deadline=None)
@given(architectures())
def test_any_architecture_is_recognised_from_its_own_shapes(arch: Architecture) -> None:
    found, reasons = recognise(expected_tensors(arch))
    assert found == arch
    assert reasons


@settings(max_examples=60, deadline=None)
@given(architectures(), st.data())
def test_a_missing_key_is_always_an_error_that_names_it(arch: Architecture, data: st.DataObject) -> None:
    shapes = expected_tensors(arch)
    name = data.draw(st.sampled_from(sorted(shapes)))
    del shapes[name]
    with pytest.raises(CheckpointError) as error:
        recognise(shapes)
    assert name in error.value.problem


@settings(max_examples=60, deadline=None)
@given(architectures(), st.data())
def test_a_key_too_many_is_always_an_error_that_names_it(arch: Architecture, data: st.DataObject) -> None:
    shapes = expected_tensors(arch)
    like = data.draw(st.sampled_from(sorted(shapes)))
    name = data.draw(st.sampled_from([f"{like}.extra", f"extra.{like}", f"{like}_2"]))
    with pytest.raises(CheckpointError) as error:
        recognise({**shapes, name: shapes[like]})
    assert name in error.value.problem


@settings(max_examples=60, deadline=None)
@given(architectures(), st.data())
def test_a_tensor_of_another_shape_is_always_an_error_that_names_it(
    arch: Architecture, data: st.DataObject
) -> None:
    shapes = expected_tensors(arch)
    name = data.draw(st.sampled_from(sorted(shapes)))
    shape = shapes[name]
    others = [(*shape, 1), (*shape[:-1], shape[-1] + 1) if shape else (1,)]
    shapes[name] = data.draw(st.sampled_from(others))
    with pytest.raises(CheckpointError) as error:
        recognise(shapes)
    assert name in error.value.problem


class TestWordsOfErrors:
    def test_at_most_ten_keys_are_listed_and_the_rest_counted(self) -> None:
        shapes = expected_tensors(sample_architecture("pure", "none", "tiny"))
        dropped = [name for name in shapes if ".ffn." in name]
        with pytest.raises(CheckpointError) as error:
            recognise({name: shape for name, shape in shapes.items() if name not in dropped[:12]})
        assert "missing (12):" in error.value.problem
        assert "... and 2 more" in error.value.problem
        assert sum(name in error.value.problem for name in dropped) == 10
        assert "Nothing is loaded in part" in error.value.hint

    def test_a_layer_cut_out_is_missing_not_a_shallower_model(self) -> None:
        shapes = expected_tensors(sample_architecture("pure", "none", "tiny"))
        cut = {name: shape for name, shape in shapes.items() if ".encoder.layers.0." not in name}
        with pytest.raises(CheckpointError, match=r"missing \(16\)"):
            recognise(cut)

    def test_a_misshapen_tensor_is_shown_with_both_shapes(self) -> None:
        shapes = expected_tensors(sample_architecture("pure", "none", "tiny"))
        shapes["rnn.weight_hh_l1"] = (512, 64)
        with pytest.raises(CheckpointError, match=r"rnn\.weight_hh_l1 is \[512, 64\], expected \[512, 128\]"):
            recognise(shapes)

    def test_half_a_head_module_is_explained_by_its_other_key(self) -> None:
        shapes = expected_tensors(sample_architecture("pure", "none", "tiny"))
        del shapes["actions.mlp.6.bias"]
        with pytest.raises(
            CheckpointError, match=r"actions\.mlp\.6\.bias \(actions\.mlp\.6\.weight is there\)"
        ):
            recognise(shapes)

    def test_an_unknown_layout_says_what_was_looked_for_and_found(self) -> None:
        with pytest.raises(CheckpointError) as error:
            recognise({"policy.trunk.weight": (4, 4), "policy.trunk.bias": (4,), "value.weight": (1, 4)})
        assert "Unknown layout: no kosmos_model.*" in error.value.problem
        assert "Looked for kosmos_model.*, rnn.*, actions.mlp.*" in error.value.problem
        assert "Found policy (2), value (1)" in error.value.problem

    def test_an_unknown_fusion_width_lists_the_known_ones(self) -> None:
        arch = sample_architecture("hybrid-a", "transformers", "tiny")
        shapes = expected_tensors(arch) | {"feature_fusion.weight": (192, 300)}
        with pytest.raises(CheckpointError) as error:
            recognise(shapes)
        assert "Unknown layout: feature_fusion.weight reads 300 values" in error.value.problem
        assert "hybrid-a: 256 = 192 (decoder) + 64 (CLIP image)" in error.value.problem

    @pytest.mark.parametrize(
        ("written", "text_width", "other", "features"),
        [
            ("hybrid-a", 64, "hybrid-b", '["vision","clip_image"]'),
            ("hybrid-a", 128, "hybrid-c", '["vision","clip_image","clip_text"]'),
            ("hybrid-b", 64, "hybrid-a", '["text","clip_image"]'),
            ("hybrid-c", 128, "hybrid-a", '["text","clip_image"]'),
        ],
    )
    def test_where_two_layouts_read_as_much_the_head_decides_and_the_other_is_told(
        self, written: LayoutName, text_width: int, other: str, features: str
    ) -> None:
        """A decoder as wide as vision, or as vision and CLIP together."""
        arch = sample_architecture(written, "transformers", "tiny")
        assert (arch.vision.width, arch.clip.embed) == (64, 64)
        text = TextTower(width=text_width, depth=1, mlp=64, vocabulary=10)
        fusion = (text_width + 64, arch.fusion[1])
        same = Architecture(**{**vars(arch), "text": text, "fusion": fusion})
        found, reasons = recognise(expected_tensors(same))
        assert found == same
        assert reasons[-1].startswith(f"{other} reads as much")
        assert reasons[-1].endswith(f"--set 'features={features}'")

    def test_hybrid_a_needs_its_layer_norm(self) -> None:
        arch = sample_architecture("hybrid-a", "transformers", "tiny")
        other = Architecture(**{**vars(arch), "head": sample_architecture("pure", "none", "tiny").head})
        with pytest.raises(
            CheckpointError, match=r"width of hybrid-a, but actions\.mlp\.1\.weight is no LayerNorm"
        ):
            recognise(expected_tensors(other))

    def test_a_width_that_is_no_multiple_of_64_is_refused(self) -> None:
        arch = sample_architecture("pure", "none", "tiny")
        odd = Architecture(**{**vars(arch), "vision": VisionTower(96, 1, 64, 16, 112)})
        with pytest.raises(CheckpointError, match="vision tower is 96 wide, which is no multiple of 64"):
            recognise(expected_tensors(odd))

    def test_a_patch_without_pixels_is_refused_by_name(self) -> None:
        shapes = expected_tensors(sample_architecture("pure", "none", "tiny"))
        key = "kosmos_model.vision_model.model.embeddings.patch_embedding.weight"
        shapes[key] = (64, 3, 0, 0)
        with pytest.raises(
            CheckpointError, match=rf"without a single value:\nempty \(1\):\n  {key} is \[64, 3, 0, 0\]"
        ):
            recognise(shapes)

    def test_an_lstm_without_units_is_refused_by_name(self) -> None:
        arch = sample_architecture("pure", "none", "tiny")
        none = Architecture(**{**vars(arch), "lstm": Lstm(arch.lstm.input, 0, 2)})
        with pytest.raises(
            CheckpointError, match=r"without a single value:(.*\n)+  rnn.weight_hh_l0 is \[0, 0\]"
        ):
            recognise(expected_tensors(none))

    def test_a_position_table_that_is_not_square_is_refused(self) -> None:
        shapes = expected_tensors(sample_architecture("pure", "none", "tiny"))
        shapes["kosmos_model.vision_model.model.embeddings.position_embedding.weight"] = (52, 64)
        with pytest.raises(CheckpointError, match=r"position table of the vision tower .* has 52 rows"):
            recognise(shapes)

    def test_encoders_that_want_different_images_are_refused(self) -> None:
        arch = sample_architecture("hybrid-a", "transformers", "tiny")
        assert arch.clip
        clip = Clip("transformers", VisionTower(128, 1, 64, 28, 140), arch.clip.text, arch.clip.embed)
        with pytest.raises(CheckpointError, match="wants images of 112 pixels and CLIP of 140"):
            recognise(expected_tensors(Architecture(**{**vars(arch), "clip": clip})))


class TestNames:
    def test_fusion_both_bare_and_in_a_sequential_is_one_too_many(self) -> None:
        shapes = expected_tensors(sample_architecture("hybrid-b", "open_clip", "tiny"))
        shapes["feature_fusion.0.weight"] = shapes["feature_fusion.weight"]
        with pytest.raises(CheckpointError, match=r"left over \(1\):\n  feature_fusion\.0\.weight"):
            recognise(shapes)

    def test_fusion_may_sit_in_a_sequential(self) -> None:
        arch = sample_architecture("hybrid-b", "open_clip", "tiny")
        shapes = {
            name.replace("feature_fusion.", "feature_fusion.0."): shape
            for name, shape in expected_tensors(arch).items()
        }
        assert recognise(shapes)[0] == arch

    @pytest.mark.parametrize(
        "name",
        [
            "kosmos_model.vision_model.model.embeddings.position_ids",
            "kosmos_model.text_model.model.embed_positions.weights",
            "clip_model.attn_mask",
            "num_batches_tracked",
        ],
    )
    def test_buffers_of_older_versions_are_known(self, name: str) -> None:
        assert is_unused(name)

    def test_parameters_are_not_taken_for_buffers(self) -> None:
        shapes = expected_tensors(sample_architecture("hybrid-c", "open_clip", "tiny"))
        assert not any(map(is_unused, shapes))

    def test_reasons_name_the_deciding_tensor(self) -> None:
        _, reasons = recognise(expected_tensors(sample_architecture("hybrid-c", "transformers", "full")))
        assert reasons == (
            "feature_fusion.weight reads 2048 = 1024 (Kosmos-2 vision) + 2 x 512 (CLIP image and text)",
        )
