"""A bundle around a small half-precision transformer, for the tests of plans and their builder.

The graph has what the real one has: embedding, LayerNorm in FP32, merged QKV, a mask, softmax in FP32,
pooling over tokens, an image feature, named stages.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import Manifest, encode
from vla_edge.runtime.engines.tensorrt.plan import CHUNK_BYTES, hash_plan, model_files
from vla_edge.runtime.engines.tensorrt.plan_names import plan_path, record_path
from vla_edge.runtime.engines.tensorrt.record import (
    WHOLE,
    BuildFacts,
    Contents,
    Machine,
    PartRecord,
    PlanRecord,
    PlanVerification,
    encode_record,
)

LENGTH, WIDTH, VOCABULARY, SIDE, STEPS, SIZE = 16, 64, 32, 16, 1, 2
SAMPLES = 8


class GraphWriter:
    """Collects nodes and initialisers; every method returns the name of its value."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []

    def weight(self, name: str, *shape: int, dtype: type = np.float16) -> str:
        return self.constant(name, (self._rng.standard_normal(shape) * 0.1).astype(dtype))

    def constant(self, name: str, value: np.ndarray) -> str:
        self.initialisers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, operator: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(
            helper.make_node(operator, inputs, [output], name=f"/{output}/{operator}", **attributes)
        )
        return output

    def cast(self, value: str, output: str, to: int) -> str:
        return self.node("Cast", [value], output, to=to)

    def ints(self, name: str, *values: int) -> str:
        return self.constant(name, np.array(values, np.int64))


def tiny_graph(seed: int = 0) -> onnx.ModelProto:
    """Inputs as the graph contract has them; output `actions` float32 [1, 1, 2]."""
    g = GraphWriter(seed)
    embedded = g.node("Gather", [g.weight("embedding", VOCABULARY, WIDTH), "input_ids"], "embedded")
    attended = _attention(g, embedded)
    summed = g.node("Add", [attended, embedded], "summed")
    text = g.node(
        "ReduceMax", [g.cast(summed, "summed_32", T.FLOAT), g.ints("axis_1", 1)], "text", keepdims=0
    )
    vision = g.node("ReduceMean", ["pixel_values", g.ints("axes_23", 2, 3)], "vision", keepdims=0)
    joined = g.node(
        "Concat",
        [g.cast(text, "text_16", T.FLOAT16), g.cast(vision, "vision_16", T.FLOAT16)],
        "joined",
        axis=1,
    )
    head = g.node("MatMul", [joined, g.weight("head", WIDTH + 3, SIZE)], "head_16")
    g.node("Unsqueeze", [g.cast(head, "head_32", T.FLOAT), g.ints("axis_0", 0)], "actions")
    graph = helper.make_graph(
        g.nodes,
        "tiny",
        [
            helper.make_tensor_value_info("pixel_values", T.FLOAT, [1, 3, SIDE, SIDE]),
            helper.make_tensor_value_info("input_ids", T.INT32, [1, LENGTH]),
            helper.make_tensor_value_info("attention_mask", T.INT32, [1, LENGTH]),
        ],
        [helper.make_tensor_value_info("actions", T.FLOAT, [1, STEPS, SIZE])],
        g.initialisers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _attention(g: GraphWriter, embedded: str) -> str:
    normal = g.node(
        "LayerNormalization",
        [
            g.cast(embedded, "embedded_32", T.FLOAT),
            g.weight("ln_weight", WIDTH, dtype=np.float32),
            g.weight("ln_bias", WIDTH, dtype=np.float32),
        ],
        "normal_32",
        axis=-1,
    )
    merged = g.node(
        "MatMul", [g.cast(normal, "normal", T.FLOAT16), g.weight("qkv_weight", WIDTH, 3 * WIDTH)], "qkv"
    )
    parted = g.node("Reshape", [merged, g.ints("shape_qkv", 1, LENGTH, 3, 1, WIDTH)], "qkv_5d")
    turned = g.node("Transpose", [parted], "qkv_turned", perm=[2, 0, 3, 1, 4])
    g.nodes.append(
        helper.make_node("Split", [turned], ["q_5d", "k_5d", "v_5d"], axis=0, num_outputs=3, name="/split")
    )
    axis = g.ints("axis_squeeze", 0)
    query, key, value = (g.node("Squeeze", [f"{name}_5d", axis], name) for name in "qkv")
    scores = g.node("MatMul", [query, g.node("Transpose", [key], "key_t", perm=[0, 1, 3, 2])], "scores")
    scaled = g.node("Mul", [scores, g.constant("scale", np.float16(0.125))], "scaled")
    hidden = g.node(
        "Sub", [g.cast("attention_mask", "mask", T.FLOAT16), g.constant("one", np.float16(1))], "hidden"
    )
    bias = g.node("Mul", [hidden, g.constant("large", np.float16(1e4))], "bias")
    masked = g.node(
        "Add", [scaled, g.node("Unsqueeze", [bias, g.ints("axes_12", 1, 2)], "bias_4d")], "masked"
    )
    weights = g.node("Softmax", [g.cast(masked, "masked_32", T.FLOAT)], "weights_32", axis=-1)
    mixed = g.node("MatMul", [g.cast(weights, "weights", T.FLOAT16), value], "mixed")
    flat = g.node(
        "Reshape",
        [g.node("Transpose", [mixed], "mixed_t", perm=[0, 2, 1, 3]), g.ints("shape_flat", 1, LENGTH, WIDTH)],
        "flat",
    )
    return g.node("MatMul", [flat, g.weight("out_weight", WIDTH, WIDTH)], "attended")


def tiny_manifest(files: list[dict[str, object]], **changes: object) -> Manifest:
    """A valid manifest of the tiny graph."""
    gates = [
        {"stage": "vision", "metric": "relative_l2", "limit": 0.03},
        {"stage": "text", "metric": "relative_l2", "limit": 0.03},
        {"stage": "action", "metric": "max_abs", "limit": 0.02},
    ]
    fields = {
        "schema_version": 2,
        "name": "tiny",
        "created_utc": "2026-11-23T00:00:00Z",
        "source": {
            "file": "tiny.pth", "size_bytes": 1, "sha256": None, "epoch": 4, "val_mae": 0.2, "layout": "pure",
            "layout_reasons": [], "parameters": 1, "weights_origin": "sample: tests",
        },
        "architecture": None,
        "settings": {},
        "inputs": [
            {"name": "pixel_values", "dtype": "float32", "shape": [1, 3, SIDE, SIDE], "role": "pixels"},
            {"name": "input_ids", "dtype": "int32", "shape": [1, LENGTH], "role": "token_ids"},
            {"name": "attention_mask", "dtype": "int32", "shape": [1, LENGTH], "role": "attention_mask"},
        ],
        "outputs": [{"name": "actions", "dtype": "float32", "shape": [1, STEPS, SIZE], "role": "actions"}],
        "stages": [
            {"name": "vision", "tensor": "vision", "shape": [1, 3]},
            {"name": "text", "tensor": "text", "shape": [1, WIDTH]},
            {"name": "action", "tensor": "actions", "shape": [1, STEPS, SIZE]},
        ],
        "cuts": [],
        "preprocessing": {
            "height": SIDE, "width": SIDE, "color": "rgb", "fit": "squash", "resample": "bilinear", "antialias": True,
            "scale": 1 / 255, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5],
        },
        "prompt": {
            "template": "", "length": LENGTH, "image_start": 0, "image_tokens": 2, "pad_id": 1,
            "vocabulary": "declared", "vocabulary_rows": VOCABULARY,
        },
        "instructions": [{"text": "go", "token_ids": [1, 2, 3], "graph_ids": [1, 2, 3]}],
        "default_instruction": "go",
        "runtime": {"frame": "current", "state": []},
        "action": {"names": ["linear_x", "linear_y"], "units": ["m/s", "m/s"], "scale": [2, 2], "offset": [0, 0],
                   "limit": [1.15, 1.15]},
        "precision": {"asked": "fp16", "achieved": "fp16", "weights_dtype": "float16", "float32_islands": []},
        "parity": {"reference": "", "engine": "", "samples": SAMPLES, "gates": gates, "errors": [], "max_abs": 0},
        "tools": {},
        "files": files,
    }  # fmt: skip
    return msgspec.convert({**fields, **changes}, Manifest)


def write_bundle(folder: Path, seed: int = 0, **changes: object) -> Bundle:
    """Write the tiny bundle with golden samples from ONNX Runtime, and open it."""
    folder.mkdir(parents=True)
    model = tiny_graph(seed)
    np.savez(folder / "golden.npz", **golden_samples(model))  # before saving, which moves the weights out
    onnx.save(
        model,
        folder / "model.onnx",
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=256,
    )
    files = [_entry(folder / name) for name in ("model.onnx", "model.onnx.data", "golden.npz")]
    (folder / "manifest.json").write_bytes(encode(tiny_manifest(files, **changes)))
    return Bundle.open(folder)


def golden_samples(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Eight random samples, and what ONNX Runtime makes of them."""
    import onnxruntime

    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    for name in ("vision", "text"):
        tapped.graph.output.append(helper.make_tensor_value_info(name, T.FLOAT, None))
    session = onnxruntime.InferenceSession(tapped.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(1)
    golden: dict[str, np.ndarray] = {
        "names": np.array([f"sample {at}" for at in range(SAMPLES)]),
        "pixel_values": rng.standard_normal((SAMPLES, 3, SIDE, SIDE)).astype(np.float32),
        "input_ids": rng.integers(0, VOCABULARY, (SAMPLES, LENGTH)).astype(np.int32),
        "attention_mask": (np.arange(LENGTH)[None] < rng.integers(4, LENGTH, (SAMPLES, 1))).astype(np.int32),
    }
    inputs = ("pixel_values", "input_ids", "attention_mask")
    rows = [
        session.run(["actions", "vision", "text"], {n: golden[n][at : at + 1] for n in inputs})
        for at in range(SAMPLES)
    ]
    for name, values in zip(("actions", "stage_vision", "stage_text"), zip(*rows, strict=True), strict=True):
        golden[name] = np.concatenate(values)
    return golden


def _entry(path: Path) -> dict[str, object]:
    data = path.read_bytes()
    return {"path": path.name, "size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def small_bundle(folder: Path, **changes: object) -> Bundle:
    """A bundle whose files need no reading: for tests of plans, not of graphs."""
    folder.mkdir(parents=True)
    files: list[dict[str, object]] = []
    no_graph = b"\x08\x0a"  # of IR version 10
    for name in ("golden.npz", "model.onnx", "model.onnx.data"):
        (folder / name).write_bytes(no_graph if name == "model.onnx" else name.encode())
        files.append(_entry(folder / name))
    data = encode(tiny_manifest(files, **changes))
    (folder / "manifest.json").write_bytes(data)
    return Bundle(folder, tiny_manifest(files, **changes), hashlib.sha256(data).hexdigest())


def plan_bytes(
    version: tuple[int, int, int, int] = (10, 6, 0, 26), size: int = 4096, tag: bytes = b"ftrt"
) -> bytes:
    """Bytes with the header of a plan, and noise."""
    head = tag + bytes(4) + (2).to_bytes(8, "little") + size.to_bytes(8, "little") + bytes(version)
    return head + np.random.default_rng(0).bytes(size - len(head))


# fields of a plan's only file, which stood beside the others in a side file before a plan could have parts
FLAT = ("size_bytes", "sha256", "chunk_bytes", "chunk_sha256", "contents")


def flattened(record: dict[str, Any], version: int) -> dict[str, Any]:
    """A side file of one part as versions 1 and 2 had it; the verification stays as it is."""
    part = record["parts"][0]
    since = ("peak_gpu_mib", "peak_mib", "predicted_mib", "found_in")
    build = {key: value for key, value in part["build"].items() if key not in since}
    kept = {key: value for key, value in record.items() if key not in ("parts", "streams")}
    return {**kept, **{key: part[key] for key in FLAT}, "build": build, "record_version": version}


def make_plan(
    bundle: Bundle,
    backend: str = "tensorrt",
    version: str = "10.6.0",
    sm: int = 87,
    passed: bool | None = True,
    data: bytes | None = None,
) -> Path:
    """Write a plan of noise with a true side file."""
    numbers = tuple(map(int, (version + ".0.0.0").split(".")[:4]))
    data = plan_bytes(numbers) if data is None else data  # type: ignore[arg-type]
    path = plan_path(bundle.folder, backend, version, sm)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    whole, chunks = hash_plan(memoryview(data))
    part = PartRecord(
        name=WHOLE,
        file=path.name,
        size_bytes=len(data),
        sha256=whole,
        chunk_bytes=CHUNK_BYTES,
        chunk_sha256=chunks,
        key=None,
        weights_sha256=None,
        weights_bytes=None,
        inputs=(),
        outputs=(),
        stream=0,
        build=BuildFacts(
            seconds=1.0,
            peak_host_mib=100,
            timing_cache="new",
            level=3,
            aux_streams=None,
            workspace_mib=None,
            built_utc="2026-11-23T00:00:00Z",
        ),
        contents=Contents(source="engine", layers={"gemm": 5}, dtypes={"float16": 5}),
    )
    record = PlanRecord(
        record_version=3,
        plan=path.name,
        parts=(part,),
        streams=None,
        machine=Machine(backend=backend, version=version, sm=sm, gpu="Fake GPU", driver="CUDA 12.6"),  # type: ignore[arg-type]
        bundle=bundle.manifest.name,
        manifest_sha256=bundle.manifest_sha256,
        model=model_files(bundle),
        verification=PlanVerification(
            passed=passed, note="a note.", engine="", samples=(), checks=(), checked_utc=None
        ),
    )
    record_path(path).write_bytes(encode_record(record))
    return path
