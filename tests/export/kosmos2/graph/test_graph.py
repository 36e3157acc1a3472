"""The written graph computes what transformers and open_clip compute, for every layout and setting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from known_layouts import LAYOUTS

from vla_edge.export.graph.layers import Builder
from vla_edge.export.graph.parameters import Parameters
from vla_edge.export.graph.precision import FP16, FP32, Precision
from vla_edge.export.graph.weights import total_bytes, write_weights
from vla_edge.export.graph.writer import GraphError, GraphWriter
from vla_edge.export.kosmos2.architecture import Architecture, Clip, HeadLayer, Lstm, TextTower, VisionTower
from vla_edge.export.kosmos2.family import FAMILY
from vla_edge.export.kosmos2.graph import vision
from vla_edge.export.kosmos2.graph.decoder import PromptShape
from vla_edge.export.kosmos2.graph.policy import GraphOptions, write_policy
from vla_edge.export.kosmos2.reference import build_empty
from vla_edge.export.kosmos2.sample.sizes import sample_architecture
from vla_edge.export.kosmos2.settings import PolicySettings
from vla_edge.export.kosmos2.settings_rules import RULES
from vla_edge.runtime.errors import CheckpointError

LENGTH = 32
FORBIDDEN = {"NonZero", "LSTM", "Loop", "If", "ScatterND"}


@pytest.mark.parametrize("value", [1e300, -1e39, 3.5e38])
def test_a_weight_beyond_single_precision_is_told_from_an_infinite_one(value: float) -> None:
    weights = Parameters({"a": torch.tensor([1.0, value], dtype=torch.float64)})
    with pytest.raises(CheckpointError, match=r"a holds 1 values beyond float32's 3.40e\+38, such as -?[13]"):
        weights.plain("a", "float32")()
    infinite = Parameters({"a": torch.tensor([1.0, float("inf")], dtype=torch.float64)})
    with pytest.raises(CheckpointError, match="a holds 1 values that are NaN or infinite"):
        infinite.plain("a", "float32")()


def random_policy(arch: Architecture, settings: PolicySettings):
    torch.manual_seed(0)
    policy = build_empty(arch, settings)
    tensors = {}
    for name, empty in policy.state_dict().items():
        is_gain = (
            empty.ndim == 1 and name.endswith("weight") and ("norm" in name or "ln_" in name or "_ln" in name)
        )
        scale = 0.1 if empty.ndim <= 1 else max(empty.shape[-1], 16) ** -0.5
        tensors[name] = torch.randn(empty.shape) * scale + float(is_gain)
    return FAMILY.assign(policy, tensors), tensors


def random_inputs(arch: Architecture, settings: PolicySettings, batch: int) -> dict[str, torch.Tensor]:
    side = arch.vision.image_size
    mask = torch.ones(batch, LENGTH, dtype=torch.int32)
    mask[:, LENGTH - 5 :] = 0
    ids = torch.randint(5, arch.text.vocabulary, (batch, LENGTH), dtype=torch.int32)
    ids[mask == 0] = 1
    inputs = {"pixel_values": torch.randn(batch, 3, side, side), "input_ids": ids, "attention_mask": mask}
    if "clip_text" in settings.features:
        inputs["instruction_index"] = torch.arange(batch, dtype=torch.int32) % len(settings.instructions)
    if settings.lstm == "carried":
        shape = (arch.lstm.layers, batch, arch.lstm.hidden)
        inputs |= {"h_in": torch.rand(shape) - 0.5, "c_in": torch.rand(shape) - 0.5}
    return inputs


def run_graph(
    folder: Path, arch, settings, policy, tensors, precision: Precision, inputs
) -> dict[str, np.ndarray]:
    text = policy.clip_text(policy.clip_ids).numpy() if "clip_text" in settings.features else None
    batch = inputs["pixel_values"].shape[0]
    prompt = PromptShape(LENGTH, settings.image_start, None)
    graph = write_policy(arch, settings, tensors, GraphOptions(precision, prompt, batch, text))
    model = graph.model("test", "policy")
    written = write_weights(model, graph.weights, folder / "model.onnx.data", lambda advance: None)
    assert written.size_bytes == (folder / "model.onnx.data").stat().st_size == total_bytes(graph.weights)
    assert not FORBIDDEN & {node.op_type for node in model.graph.node}
    onnx.save(model, folder / "model.onnx")
    onnx.checker.check_model(str(folder / "model.onnx"), full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_inputs()]
    outputs = session.run(None, {name: inputs[name].numpy() for name in names})
    return dict(zip([value.name for value in session.get_outputs()], outputs, strict=True))


def check(
    tmp_path: Path, arch: Architecture, precision: Precision, tolerance: float, batch: int = 1, **options: Any
) -> None:
    settings = RULES.resolve(arch, options=options).values
    policy, tensors = random_policy(arch, settings)
    inputs = random_inputs(arch, settings, batch)
    wanted = policy(**inputs)
    found = run_graph(tmp_path, arch, settings, policy, tensors, precision, inputs)
    for name, value in found.items():
        error = np.linalg.norm(value - wanted[name].numpy()) / np.linalg.norm(wanted[name].numpy())
        assert error < tolerance, f"{name}: {error:.2e}"


@pytest.mark.parametrize(("layout", "form"), LAYOUTS)
@pytest.mark.parametrize(("precision", "tolerance"), [(FP32, 1e-5), (FP16, 1e-2)], ids=["fp32", "fp16"])
def test_every_layout_agrees_with_its_modules(tmp_path: Path, layout, form, precision, tolerance) -> None:
    check(tmp_path, sample_architecture(layout, form, "tiny"), precision, tolerance)


@pytest.mark.parametrize(
    "options",
    [
        {"lstm": "window", "lstm_outputs": 2},
        {"lstm": "window", "lstm_window": 1},
        {"lstm": "carried"},
        {"pooling": "mean"},
        {"pooling": "last"},
        {"features": ["image_projection"]},
        {"features": ["image_projection"], "pooling": "mean"},
        {"final_tanh": False},
        {"image_start": 3},
        {"image_start": 0},
        {"projection_attention": "causal"},
    ],
    ids=str,
)
def test_every_setting_of_the_pure_policy_agrees(tmp_path: Path, options) -> None:
    check(tmp_path, sample_architecture("pure", "none", "tiny"), FP32, 1e-5, **options)


@pytest.mark.parametrize("form", ["transformers", "open_clip"])
@pytest.mark.parametrize(
    "options",
    [
        {"clip_feature": "projected_normalized"},
        {"clip_activation": "gelu"},
        {"clip_activation": "quick_gelu"},
    ],
    ids=str,
)
def test_every_setting_of_clip_agrees(tmp_path: Path, form, options) -> None:
    check(tmp_path, sample_architecture("hybrid-a", form, "tiny"), FP32, 1e-5, **options)


@pytest.mark.parametrize("layout", ["hybrid-a", "hybrid-c"])
def test_a_batch_agrees(tmp_path: Path, layout) -> None:
    check(tmp_path, sample_architecture(layout, "transformers", "tiny"), FP32, 1e-5, batch=3)


def test_other_depths_and_widths_agree(tmp_path: Path) -> None:
    head = (
        HeadLayer(0, "linear", 192, 64, False),
        HeadLayer(1, "layernorm", 64, 64, True),
        HeadLayer(3, "linear", 64, 3, False),
    )
    arch = Architecture(
        layout="hybrid-a",
        vision=VisionTower(width=192, depth=1, mlp=320, patch=10, image_size=40),
        text=TextTower(width=256, depth=3, mlp=448, vocabulary=99),
        image_tokens=5,
        clip=Clip("transformers", VisionTower(128, 1, 192, 20, 40), TextTower(64, 1, 128, 300, 77), 96),
        fusion=(256 + 96, 160),
        lstm=Lstm(160, 192, 2),
        head=head,
    )
    three = {
        "action_names": ["x", "y", "z"],
        "action_scale": [1, 1, 1],
        "action_offset": [0, 0, 0],
        "action_limit": [1, 1, 1],
    }
    check(tmp_path, arch, FP32, 1e-5, **three)


def patches(folder: Path, form, tower: VisionTower, kernel: torch.Tensor, pixels: torch.Tensor) -> np.ndarray:
    """What one form of the patch embedding gives in FP32."""
    graph = GraphWriter()
    builder = Builder(graph, Parameters({"kernel": kernel}), FP32)
    graph.output("patches", form(builder, graph.input("pixels", "float32", pixels.shape), tower, "kernel"))
    model = graph.model("test", "patches")
    write_weights(model, graph.weights, folder / "model.onnx.data", lambda advance: None)
    onnx.save(model, folder / "model.onnx")
    onnx.checker.check_model(str(folder / "model.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    return session.run(None, {"pixels": pixels.numpy()})[0]


@pytest.mark.parametrize(("patch", "image_size"), [(32, 224), (14, 224), (8, 24), (5, 5)])
def test_patches_by_a_matrix_product_are_torchs_convolution(
    tmp_path: Path, patch: int, image_size: int
) -> None:
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(3, 48, patch, patch, bias=False)
    pixels = torch.randn(2, 3, image_size, image_size)
    wanted = conv(pixels).flatten(2).transpose(1, 2).detach().numpy()
    tower = VisionTower(width=48, depth=1, mlp=64, patch=patch, image_size=image_size)
    found = patches(tmp_path, vision._patches, tower, conv.weight, pixels)
    assert found.shape == wanted.shape == (2, (image_size // patch) ** 2, 48)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", ["transformers", "open_clip"])
def test_at_full_size_patches_are_products_in_half_that_tensor_cores_take(form: str) -> None:
    arch = sample_architecture("hybrid-a", form, "full")
    settings = RULES.resolve(arch).values
    tensors = build_empty(arch, settings).state_dict()
    graph = write_policy(arch, settings, tensors, GraphOptions(FP16, PromptShape(LENGTH * 3, 2, None)))
    nodes = graph.model("test", "policy").graph.node
    shapes = {weight.value.name: (weight.value.dtype, weight.value.shape) for weight in graph.weights}
    kernels = [shapes[node.input[1]] for node in nodes if node.name.endswith("weight/MatMul")]
    # 3 x 14 x 14 = 588 is filled up to a multiple of 8
    assert kernels == [("float16", (592, 1024)), ("float16", (3 * 32 * 32, 768))]


def test_from_a_zero_state_neither_recurrent_weights_nor_forget_gates_are_carried() -> None:
    arch = sample_architecture("pure", "none", "tiny")
    settings = RULES.resolve(arch).values
    _, tensors = random_policy(arch, settings)
    options = GraphOptions(FP32, PromptShape(LENGTH, 2, None))
    single = write_policy(arch, settings, tensors, options)
    names = {weight.value.name: weight.value.shape for weight in single.weights}
    assert not any("recurrent" in name for name in names)
    assert names["rnn.l0.input.weight"] == (arch.lstm.input, 3 * arch.lstm.hidden)


def test_a_vision_only_policy_leaves_the_text_tower_behind() -> None:
    arch = sample_architecture("hybrid-b", "transformers", "tiny")
    settings = RULES.resolve(arch).values
    _, tensors = random_policy(arch, settings)
    graph = write_policy(arch, settings, tensors, GraphOptions(FP32, PromptShape(LENGTH, 2, None)))
    assert not any("text_model" in weight.value.name for weight in graph.weights)
    assert [value.name for value in graph.inputs] == ["pixel_values"]


def test_the_same_checkpoint_gives_the_same_bytes(tmp_path: Path) -> None:
    arch = sample_architecture("hybrid-a", "transformers", "tiny")
    settings = RULES.resolve(arch).values
    _, tensors = random_policy(arch, settings)
    digests = []
    for name in ("a", "b"):
        graph = write_policy(arch, settings, tensors, GraphOptions(FP16, PromptShape(LENGTH, 2, None)))
        model = graph.model("test", "policy")
        data = write_weights(model, graph.weights, tmp_path / name, lambda advance: None)
        del model.graph.initializer[:]
        digests.append((data.sha256, model.SerializeToString(deterministic=True)))
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("value", "words"),
    [(float("nan"), "holds 1 values that are NaN"), (1e5, "holds 1e.05, beyond half precision's 65504")],
)
def test_a_weight_that_half_cannot_hold_is_named(tmp_path: Path, value: float, words: str) -> None:
    arch = sample_architecture("pure", "none", "tiny")
    settings = RULES.resolve(arch).values
    _, tensors = random_policy(arch, settings)
    tensors["rnn.weight_ih_l1"] = tensors["rnn.weight_ih_l1"].clone()
    tensors["rnn.weight_ih_l1"][0, 0] = value
    graph = write_policy(arch, settings, tensors, GraphOptions(FP16, PromptShape(LENGTH, 2, None)))
    with pytest.raises(CheckpointError, match=f"rnn.weight_ih_l1 {words}"):
        write_weights(graph.model("test", "policy"), graph.weights, tmp_path / "data", lambda advance: None)


def test_a_missing_or_misshapen_key_is_named_when_weights_are_assigned(
    checkpoint_of: Callable[..., Path],
) -> None:
    arch = sample_architecture("pure", "none", "tiny")
    policy = build_empty(arch, RULES.resolve(arch).values)
    tensors = {name: torch.zeros(value.shape) for name, value in policy.state_dict().items()}
    del tensors["rnn.bias_ih_l0"]
    tensors["actions.mlp.0.bias"] = torch.zeros(3)
    tensors["spare"] = torch.zeros(1)
    with pytest.raises(CheckpointError) as caught:
        FAMILY.assign(policy, tensors)
    for words in ("missing rnn.bias_ih_l0", "left over spare", "misshapen actions.mlp.0.bias"):
        assert words in caught.value.problem


@pytest.mark.parametrize("layout", ["pure", "hybrid-a"])
@pytest.mark.parametrize("how", ["full", "causal"])
def test_fused_attention_gives_what_the_plain_one_gives(layout: str, how: str) -> None:
    arch = sample_architecture(layout, "transformers", "tiny")
    settings = RULES.resolve(arch, options={"projection_attention": how}).values
    plain, tensors = random_policy(arch, settings)
    fused = FAMILY.assign(build_empty(arch, settings, attention="sdpa"), tensors)
    inputs = random_inputs(arch, settings, 2)
    wanted, found = plain(**inputs), fused(**inputs)
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


def test_a_causal_projection_is_what_transformers_does_by_default_and_another_thing() -> None:
    arch = sample_architecture("pure", "none", "tiny")
    settings = {
        how: RULES.resolve(arch, options={"projection_attention": how}).values for how in ("full", "causal")
    }
    full, tensors = random_policy(arch, settings["full"])
    causal = FAMILY.assign(build_empty(arch, settings["causal"]), tensors)
    untouched = FAMILY.assign(build_empty(arch, settings["full"], attention="sdpa"), tensors)
    # as from_pretrained leaves it: nobody says whether the projection is causal
    untouched.kosmos_model.image_to_text_projection.x_attn.is_causal = True
    inputs = random_inputs(arch, settings["full"], 1)
    wanted = untouched(**inputs)["vision"]
    torch.testing.assert_close(causal(**inputs)["vision"], wanted, rtol=1e-4, atol=1e-5)
    other = full(**inputs)["vision"]
    assert (other - wanted).norm() / wanted.norm() > 0.01


def test_the_splice_by_concatenation_is_what_kosmos2_itself_computes() -> None:
    arch = sample_architecture("pure", "none", "tiny")
    settings = RULES.resolve(arch).values
    policy, _ = random_policy(arch, settings)
    inputs = random_inputs(arch, settings, 1)
    slots = torch.zeros(1, LENGTH, dtype=torch.long)
    slots[:, settings.image_start : settings.image_start + arch.image_tokens] = 1
    with torch.inference_mode():
        states = policy.kosmos_model(
            pixel_values=inputs["pixel_values"],
            input_ids=inputs["input_ids"].long(),
            attention_mask=inputs["attention_mask"].long(),
            image_embeds_position_mask=slots,
            use_cache=False,
        ).last_hidden_state
    real = int(inputs["attention_mask"].sum())
    torch.testing.assert_close(policy(**inputs)["text"], states[:, :real].amax(dim=1))


def test_the_writer_refuses_what_a_parser_would_refuse_later() -> None:
    graph = GraphWriter()
    half, single = graph.input("a", "float16", (2, 3)), graph.input("b", "float32", (2, 3))
    with pytest.raises(GraphError, match="mixed dtypes"):
        graph.add(half, single)
    with pytest.raises(GraphError, match="matmul of"):
        graph.matmul(single, single)
    with pytest.raises(GraphError, match="reshape of"):
        graph.reshape(single, (5,))
    with pytest.raises(GraphError, match="slice 1:9"):
        graph.slice(single, 1, 1, 9)
    graph.weight("w", "float32", (1,), lambda: np.zeros(1, np.float32))
    with pytest.raises(GraphError, match="written twice"):
        graph.weight("w", "float32", (1,), lambda: np.zeros(1, np.float32))
