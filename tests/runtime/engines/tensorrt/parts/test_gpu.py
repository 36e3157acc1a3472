"""On a GPU with TensorRT: the pieces of a graph, built apart, run as one engine and as the whole graph does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from part_plans import make_parts_plan, tensor
from plan_bundles import WIDTH, tiny_graph, write_bundle

from vla_edge.export.build.network import build_engine
from vla_edge.export.build.options import BuildOptions
from vla_edge.export.build.progress import Silent
from vla_edge.export.build.target import Target, open_target
from vla_edge.export.build.timing_cache import TimingCache
from vla_edge.runtime.bundle.bundle import Bundle, load_golden
from vla_edge.runtime.cuda.device import CudaDevice
from vla_edge.runtime.engines.tensorrt.parts.chain import ChainPart, Streams
from vla_edge.runtime.engines.tensorrt.parts.opening import open_chain
from vla_edge.runtime.engines.tensorrt.session import TensorRtOptions, TensorRtSession

pytestmark = pytest.mark.gpu
CALLS = 500
MIB = 1 << 20


@dataclass(frozen=True)
class Built:
    """The tiny bundle, its graph's pieces and the plans that TensorRT made of them, and the GPU."""

    bundle: Bundle
    parts: tuple[ChainPart, ...]
    plans: Mapping[str, bytes]
    target: Target

    @property
    def device(self) -> CudaDevice:
        assert self.target.device is not None
        return self.target.device


def pieces(bundle: Bundle) -> tuple[ChainPart, ...]:
    """Text in two parts, vision beside them, and the head that takes both."""
    pixels, ids, mask = bundle.manifest.inputs
    embedded = tensor("summed_32", 1, 16, WIDTH)
    text, vision = tensor("text", 1, WIDTH), tensor("vision", 1, 3)
    return (
        ChainPart("layers", (ids, mask), (embedded,)),
        ChainPart("vision", (pixels,), (vision,), stream=1),
        ChainPart("text", (embedded,), (text,)),
        ChainPart("head", (text, vision), bundle.manifest.outputs),
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    folder = tmp_path_factory.mktemp("parts")
    bundle = write_bundle(folder / "bundle")
    extractor = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(tiny_graph()))
    parts, plans = pieces(bundle), {}
    with open_target("tensorrt", 0, "cuda-bindings", None) as target:
        for part in parts:
            names = [[spec.name for spec in specs] for specs in (part.inputs, part.outputs)]
            model = folder / f"{part.name}.onnx"
            onnx.save(extractor.extract_model(*names), model)
            made = build_engine(model, target, BuildOptions(), TimingCache(None, ""), Silent())
            with memoryview(made.plan) as plan:
                plans[part.name] = bytes(plan)
        machine = {"version": target.machine.version, "sm": target.machine.sm}
        make_parts_plan(bundle, parts, plans, **machine)
        yield Built(bundle, parts, plans, target)


def feed(inputs: Mapping[str, np.ndarray], bundle: Bundle, at: int) -> np.ndarray:
    """One golden sample in; gives the actions that ONNX Runtime made of it."""
    golden = load_golden(bundle)
    for name, array in inputs.items():
        array[...] = golden[name][at]
    actions: np.ndarray = golden["actions"][at]
    return actions


def open_session(built: Built, streams: Streams = "recorded", graph: bool = True) -> TensorRtSession:
    return TensorRtSession(built.bundle, TensorRtOptions(streams=streams, graph=graph))


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("streams", ["recorded", "in line"])
def test_parts_compute_what_the_whole_graph_does(built: Built, streams: Streams, graph: bool) -> None:
    with open_session(built, streams, graph) as session:
        assert "in 4 parts, CUDA graph" in session.identity.provider or not graph
        for at in range(8):
            wanted = feed(session.inputs, built.bundle, at)
            session.run()
            np.testing.assert_allclose(session.outputs["actions"][0], wanted, atol=0.01)
        assert 0 < session.run_engine_ms() < 50


def test_streams_change_no_bit(built: Built) -> None:
    results = []
    for streams in ("recorded", "in line"):
        with open_session(built, streams) as session:  # type: ignore[arg-type]
            feed(session.inputs, built.bundle, 3)
            session.run()
            results.append(session.outputs["actions"].copy())
    assert np.array_equal(*results)


def test_long_runs_neither_differ_nor_grow(built: Built) -> None:
    with open_session(built) as session:
        feed(session.inputs, built.bundle, 1)
        session.run()
        first, free = session.outputs["actions"].copy(), session.device.free_bytes()
        for _ in range(CALLS):
            session.run()
            assert np.array_equal(session.outputs["actions"], first)
        assert abs(session.device.free_bytes() - free) < MIB


def test_a_second_session_takes_the_engines_that_are_there(built: Built) -> None:
    with open_session(built) as one, open_session(built) as two:
        assert two.load_ms["deserialise"] < one.load_ms["deserialise"]
        wanted = [feed(each.inputs, built.bundle, at) for at, each in enumerate((one, two))]
        for _ in range(20):
            one.run()
            two.run()
        for each, actions in zip((one, two), wanted, strict=True):
            np.testing.assert_allclose(each.outputs["actions"][0], actions, atol=0.01)
        one.close()
        two.run()
        np.testing.assert_allclose(two.outputs["actions"][0], wanted[1], atol=0.01)


def test_opening_and_closing_gives_the_memory_back(built: Built) -> None:
    open_session(built).close()
    built.device.activate()
    free = built.device.free_bytes()
    for _ in range(5):
        open_session(built).close()
    built.device.activate()
    assert abs(built.device.free_bytes() - free) < 8 * MIB


def test_layers_and_memory_are_told_of_all_parts(built: Built) -> None:
    with open_session(built) as session:
        times = session.time_layers(runs=3)
        assert {name[-9:] for name in times} == {f" [part {at}]" for at in (1, 2, 3, 4)}
        assert all(ms >= 0 for ms in times.values())
        assert len(json.loads(session.describe_layers(), strict=False)["Layers"]) >= 4
        assert session.device_memory_bytes()["activations"] >= 0


def test_a_builder_runs_plans_from_memory_and_files_and_sees_what_is_between(
    built: Built, tmp_path: Path
) -> None:
    path = tmp_path / "vision.plan"
    path.write_bytes(built.plans["vision"])
    plans = [path if part.name == "vision" else built.plans[part.name] for part in built.parts]
    streams = [part.stream for part in built.parts]
    names = ["vision", "text", "actions"]
    with open_chain(built.target.library, built.device, plans, streams=streams, outputs=names) as runner:
        wanted = feed(runner.inputs, built.bundle, 2)
        runner.run()
        golden = load_golden(built.bundle)
        np.testing.assert_allclose(runner.outputs["actions"][0], wanted, atol=0.01)
        np.testing.assert_allclose(
            runner.outputs["text"], golden["stage_text"][2][None], rtol=0.02, atol=0.02
        )
        np.testing.assert_allclose(runner.outputs["vision"], golden["stage_vision"][2][None], atol=0.01)
