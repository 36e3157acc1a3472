"""Profiles: where each node of a graph belongs, and what each engine's profiler is made to tell."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from fake_tensorrt import FakeDevice, FakeTensorRt, fake_library
from known_layouts import LAYOUTS
from plan_bundles import make_plan, small_bundle

from vla_edge.bench.profiles import onnxruntime as profile_onnxruntime
from vla_edge.bench.profiles import torch as profile_torch
from vla_edge.bench.profiles.onnxruntime import profile_onnxruntime as run_onnxruntime
from vla_edge.bench.profiles.stages import (
    MAX_NAME,
    OTHER,
    TOP_LAYERS,
    Layer,
    Stages,
)
from vla_edge.bench.profiles.tensorrt import layer_nodes, profile_plan
from vla_edge.bench.profiles.torch import profile_torch as run_torch
from vla_edge.bench.report.types import Profile
from vla_edge.export.graph.precision import FP16
from vla_edge.export.kosmos2.family import CALLED_ALONE, STAGE_PATTERNS
from vla_edge.export.kosmos2.graph.decoder import PromptShape
from vla_edge.export.kosmos2.graph.policy import GraphOptions, write_policy
from vla_edge.export.kosmos2.reference import build_empty
from vla_edge.export.kosmos2.sample.sizes import sample_architecture
from vla_edge.export.kosmos2.settings_rules import RULES
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.tensorrt.session import TensorRtOptions, TensorRtSession
from vla_edge.runtime.errors import EngineError

STAGES = Stages(STAGE_PATTERNS)
stage_of = STAGES.of
VISION = "kosmos_model.vision_model.model.encoder.layers.0/Add"
TEXT = "kosmos_model.text_model.model.layers.0/Add"
HEAD = "actions.mlp.0/MatMul"


def graph_of(layout: str, form: str, **choices: Any) -> onnx.GraphProto:
    arch = sample_architecture(layout, form, "tiny")
    settings = RULES.resolve(arch, options=choices).values
    tensors = build_empty(arch, settings).state_dict()
    text = np.zeros((len(settings.instructions), arch.clip.embed)) if arch.clip else None
    options = GraphOptions(FP16, PromptShape(32, settings.image_start, None), clip_text=text)
    return write_policy(arch, settings, tensors, options).model("test", "policy").graph


def stages_of(profile: Profile) -> dict[str, float]:
    return {stage.stage: stage.ms for stage in profile.stages}


def of(*layers: Layer) -> Profile:
    return STAGES.profile_of_layers("tensorrt-profiler", 1, layers)


@pytest.mark.parametrize(("layout", "form"), LAYOUTS)
def test_every_node_of_every_layout_has_a_stage(layout: str, form: str) -> None:
    graph = graph_of(layout, form)
    assert [node.name for node in graph.node if stage_of(node.name) == OTHER] == []
    found = {stage_of(node.name) for node in graph.node}
    assert {"vision", "lstm", "head"} <= found
    assert ("clip" in found) == ("fusion" in found) == (layout != "pure")


@pytest.mark.parametrize(
    "choices",
    [
        {"lstm": "window", "lstm_outputs": 2},
        {"lstm": "carried"},
        {"pooling": "mean"},
        {"pooling": "last"},
        {"features": ["image_projection"]},
        {"image_start": 3},
    ],
    ids=str,
)
def test_every_node_has_a_stage_whatever_was_chosen(choices: dict[str, Any]) -> None:
    graph = graph_of("pure", "none", **choices)
    assert [node.name for node in graph.node if stage_of(node.name) == OTHER] == []


def test_what_enters_and_leaves_a_stage_of_parity_is_of_that_stage(
    checkpoint_of: Callable[..., Path],
) -> None:
    arch = sample_architecture("hybrid-a", "transformers", "tiny")
    settings = RULES.resolve(arch).values
    options = GraphOptions(FP16, PromptShape(32, settings.image_start, None))
    graph = write_policy(arch, settings, build_empty(arch, settings).state_dict(), options)
    found = {name: stage_of(value.name) for name, value in graph.stages.items()}
    assert found == {
        "vision": "vision",
        "text": "text",
        "clip": "clip",
        "fusion": "fusion",
        "action": "head",
    }


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        (f"{TEXT}/MatMulAddFusion", "text"),
        (f"InsertedPrecisionFreeCast_{VISION}", "vision"),
        (f"Reformatting CopyNode for Output Tensor 0 to {HEAD}", "head"),
        (f"PWN({VISION}, {VISION}_2) + {TEXT}", "vision"),
        ("h_out", "lstm"),
        ("clip_text_features/Gather", "clip"),
        (f"{{ForeignNode[{TEXT}...{TEXT}_9]}}", "text"),
        (f"{{ForeignNode[{TEXT}...{HEAD}]}}", OTHER),
        (f"{VISION} + {TEXT} + {HEAD}", OTHER),
        ("__myl_MulMeaSub_myl0_7", OTHER),
        ("patch_in", OTHER),
        ("clip_model", OTHER),
        ("", OTHER),
    ],
)
def test_a_fused_or_renamed_layer_is_found_by_the_names_in_it(name: str, stage: str) -> None:
    assert stage_of(name) == stage


def test_a_family_without_patterns_has_no_stages_and_any_name_may_be_one() -> None:
    assert Stages({}).of(VISION) == OTHER
    arms = Stages({"left-arm": r"arms\.(left)", "right.arm": r"arms\.right"})
    assert [arms.of(name) for name in ("arms.left.fc", "arms.right/Add", "charms.left")] == [
        *arms.names,
        OTHER,
    ]


def test_nodes_of_a_layer_count_before_its_name_and_neighbours_where_both_say_nothing() -> None:
    profile = of(
        Layer("__myl_0", 1.0),
        Layer("__myl_1", 2.0, f"[ONNX Layer: {VISION}]"),
        Layer("__myl_2", 4.0),
        Layer("__myl_3", 8.0, f"[ONNX Layer: {VISION}_2]"),
        Layer("__myl_4", 16.0),
        Layer(VISION, 32.0, f"[ONNX Layer: {TEXT}]"),
    )
    assert stages_of(profile) == {"vision": 14.0, "text": 32.0, OTHER: 17.0}


def test_a_layer_of_the_whole_graph_is_charged_to_no_stage_and_stops_neighbours() -> None:
    whole = f"[ONNX Layer: {VISION}][ONNX Layer: {TEXT}][ONNX Layer: {HEAD}]"
    profile = of(Layer(HEAD, 1.0), Layer("a", 2.0, whole), Layer("b", 4.0), Layer(HEAD, 8.0))
    assert stages_of(profile) == {"head": 9.0, OTHER: 6.0}


def test_shares_add_up_and_the_slowest_layers_come_first() -> None:
    layers = [Layer(f"{VISION}_{at}", float(at)) for at in range(1, 51)] + [Layer(HEAD, 25.0)]
    profile = STAGES.profile_of_layers("onnxruntime-profile", 7, layers)
    assert (profile.runs, profile.layers_total, profile.total_ms) == (7, 51, 1300.0)
    assert sum(stage.share for stage in profile.stages) == pytest.approx(1)
    assert len(profile.layers) == TOP_LAYERS
    assert [layer.ms for layer in profile.layers] == sorted((x.ms for x in profile.layers), reverse=True)
    assert profile.layers[0].share == 50 / 1300
    assert [stage.stage for stage in profile.stages] == ["vision", "head"]


def test_a_layers_name_is_made_fit_for_a_report() -> None:
    profile = of(Layer(f"{TEXT}\x1b[2J\ud800", 1.0), Layer("x" * 5000, 1.0))
    assert profile.layers[0].name == f"{TEXT} [2J "
    assert len(profile.layers[1].name) == MAX_NAME
    assert msgspec.json.decode(msgspec.json.encode(profile), type=Profile) == profile


def test_what_the_stages_leave_is_other_and_nothing_is_divided_by_zero() -> None:
    found = STAGES.profile_of_stages("torch-clock", 2, 10.0, {"text": 6.0})
    assert [(x.stage, x.ms, x.share) for x in found.stages] == [("text", 6.0, 0.6), (OTHER, 4.0, 0.4)]
    assert stages_of(STAGES.profile_of_stages("torch-clock", 2, 0.0, {})) == {OTHER: 0.0}
    assert of().stages == ()


def test_the_inspectors_control_characters_part_the_nodes() -> None:
    nodes = f"[ONNX Layer: {TEXT}]\x1e[ONNX Layer: {TEXT}_2]\x1f[ONNX Layer: {VISION}]"
    for ensure_ascii in (True, False):  # escaped, or as they are
        text = json.dumps({"Layers": [{"Name": "k", "Metadata": nodes}]}, ensure_ascii=ensure_ascii)
        assert layer_nodes(text) == {"k": nodes}
    raw = json.dumps({"Layers": [{"Name": "k", "Metadata": "@"}]}).replace("@", nodes)
    assert layer_nodes(raw) == {"k": nodes}
    assert stage_of(nodes) == "text"


@pytest.mark.parametrize(
    "information",
    [
        "",
        "{",
        "[]",
        "null",
        '{"Layers": ["a", "b"]}',
        '{"Layers": [{"Metadata": 3}, {}]}',
        '{"Bindings": []}',
    ],
)
def test_an_inspector_that_tells_little_is_no_fault(information: str) -> None:
    assert layer_nodes(information) == {}


def fake_session(folder: Path) -> tuple[TensorRtSession, FakeTensorRt]:
    bundle = small_bundle(folder)
    device = FakeDevice([])
    trt = FakeTensorRt(device, bundle.manifest)
    trt.engine.layer_ms = [("__myl_0", 0.5), (f"{TEXT}_myl0_1", 0.25), ("unknown", 0.25)]
    trt.engine.information = json.dumps(
        {"Layers": [{"Name": "__myl_0", "Metadata": f"[ONNX Layer: {VISION}]"}, "unknown"]}
    )
    make_plan(bundle)
    return TensorRtSession(bundle, TensorRtOptions(), library=fake_library(trt), device=device), trt


def test_a_plan_is_profiled_layer_by_layer(tmp_path: Path) -> None:
    session, _ = fake_session(tmp_path / "bundle")
    with session:
        profile = profile_plan(session, STAGES, runs=5)
    assert (profile.source, profile.runs, profile.total_ms) == ("tensorrt-profiler", 5, 1.0)
    assert stages_of(profile) == {"vision": 0.5, "text": 0.25, OTHER: 0.25}
    assert profile.layers[0].name == "__myl_0"


def test_onnxruntime_tells_every_stage_and_leaves_no_file(
    bundle_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle.open(bundle_of("hybrid-a", "transformers", "fp16"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    profile = run_onnxruntime(bundle, STAGES, 4, threads=1)
    assert (profile.source, profile.runs) == ("onnxruntime-profile", 4)
    assert {stage.stage for stage in profile.stages} - {OTHER} == set(STAGES.names)
    assert sum(stage.ms for stage in profile.stages) == pytest.approx(profile.total_ms)
    assert next((x.share for x in profile.stages if x.stage == OTHER), 0.0) < 0.05
    assert profile.layers_total > 100
    assert os.listdir(tmp_path) == []


def test_onnxruntimes_warm_up_is_not_counted_and_nodes_of_one_name_stay_two() -> None:
    def event(index: int, duration_us: int, name: str = f"{TEXT}_kernel_time", cat: str = "Node") -> Any:
        return {"cat": cat, "name": name, "dur": duration_us, "args": {"node_index": str(index)}}

    events = [event(1, 900), event(2, 900), event(1, 10), event(2, 30), event(1, 20), event(2, 50)]
    others = [event(1, 7, f"{TEXT}_fence_before"), {"cat": "Session", "name": "model_run", "dur": 9}]
    found = profile_onnxruntime._layers(events + others, runs=2)
    assert found == [Layer(TEXT, 0.015), Layer(TEXT, 0.04)]
    with pytest.raises(EngineError, match="profile holds no nodes"):
        profile_onnxruntime._layers(others, runs=2)


def profile_on(device: str, folder: Path, checkpoint: Path) -> tuple[Profile, Any]:
    import torch

    from vla_edge.export.checkpoint.checkpoint import read_checkpoint
    from vla_edge.export.kosmos2.family import FAMILY

    manifest = Bundle.open(folder).manifest
    read, settings = read_checkpoint(checkpoint), FAMILY.settings.from_manifest(manifest)
    policy = FAMILY.reference(read.architecture, settings, read.tensors).to(device)
    inputs = {
        spec.name: torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype), device=device)
        for spec in manifest.inputs
    }
    return run_torch(policy, lambda: policy(**inputs), device, 4, STAGES, CALLED_ALONE), policy


@pytest.mark.parametrize(
    ("layout", "form", "missing"),
    [
        ("pure", "none", {"clip", "fusion"}),
        ("hybrid-a", "open_clip", set()),
        ("hybrid-c", "transformers", {"text"}),
    ],
)
def test_torch_tells_every_stage_and_keeps_no_hook(
    bundle_of: Callable[..., Path],
    checkpoint_of: Callable[..., Path],
    layout: str,
    form: str,
    missing: set[str],
) -> None:
    profile, policy = profile_on("cpu", bundle_of(layout, form, "fp32"), checkpoint_of(layout, form))
    assert (profile.source, profile.runs, profile.layers_total) == ("torch-clock", 4, 0)
    assert {stage.stage for stage in profile.stages} == {*STAGES.names, OTHER} - missing
    assert all(stage.ms > 0 for stage in profile.stages)
    assert sum(stage.share for stage in profile.stages) == pytest.approx(1)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in policy.modules())


def test_a_module_inside_a_stage_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from torch import nn

    ticks = iter(range(1000))
    monkeypatch.setattr(profile_torch.time, "perf_counter_ns", lambda: next(ticks) * 1_000_000)

    class Text(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.ModuleDict({"embed_tokens": nn.Identity()})

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model["embed_tokens"](x)

    class Policy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kosmos_model = nn.ModuleDict({"text_model": Text()})
            self.actions = nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            text = self.kosmos_model["text_model"]
            return self.actions(text(text.model["embed_tokens"](x)))

    policy = Policy()
    profile = run_torch(policy, lambda: policy(torch.zeros(1)), "cpu", 10, STAGES, CALLED_ALONE)
    # eight marks a call, 1 ms apart: around the policy, the embedding alone, the text model, the head
    assert profile.total_ms == pytest.approx(7)
    assert stages_of(profile) == pytest.approx({"text": 2, "head": 1, OTHER: 4})


def test_a_step_that_fails_leaves_no_hook() -> None:
    import torch

    policy = torch.nn.ModuleDict({"actions": torch.nn.Identity()})
    with pytest.raises(NotImplementedError):
        run_torch(policy, lambda: policy(torch.zeros(1)), "cpu", 1, STAGES)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in policy.modules())


@pytest.mark.gpu
def test_torch_on_a_gpu_is_timed_by_events(
    bundle_of: Callable[..., Path], checkpoint_of: Callable[..., Path]
) -> None:
    layout = ("hybrid-a", "transformers")
    profile, _ = profile_on("cuda", bundle_of(*layout, "fp32"), checkpoint_of(*layout))
    assert profile.source == "torch-events"
    assert {stage.stage for stage in profile.stages} == {*STAGES.names, OTHER}


@pytest.mark.gpu
def test_tensorrts_own_profiler_tells_every_stage(bundle_of: Callable[..., Path], tmp_path: Path) -> None:
    from vla_edge.export.build.build import build_plan

    bundle = Bundle.open(Path(shutil.copytree(bundle_of("hybrid-a", "transformers", "fp16"), tmp_path / "b")))
    build_plan(bundle)
    with TensorRtSession(bundle) as session:
        session.run()
        before = {name: array.copy() for name, array in session.outputs.items()}
        profile = profile_plan(session, STAGES, runs=10)
        session.run()
        for name, array in session.outputs.items():
            np.testing.assert_array_equal(array, before[name])
        assert "CUDA graph" in session.identity.provider
    assert profile.total_ms > 0
    assert {"vision", "text", "clip", "lstm", "head"} <= {stage.stage for stage in profile.stages}
    assert next((x.share for x in profile.stages if x.stage == OTHER), 0.0) < 0.2
