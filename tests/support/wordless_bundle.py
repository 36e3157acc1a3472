"""A bundle of a policy without text: one layer on the camera's mean colour, a speed and a turn, names of its own."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from vla_edge.runtime.bundle.manifest import Manifest, encode

SIDE = 8
LAYER = np.array([[0.5, -0.25], [0.125, 0.5], [-0.5, 0.25]], np.float32)
SCALE = (2.0, 3.0)
LIMIT = (1.15, 0.5)


def write_wordless(folder: Path) -> Path:
    """Write it, complete and sound."""
    folder.mkdir(parents=True)
    nodes = [
        helper.make_node("ReduceMean", ["camera", "sides"], ["colour"], keepdims=0),
        helper.make_node("MatMul", ["colour", "layer"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["drive"]),
    ]
    graph = helper.make_graph(
        nodes,
        "wordless",
        [helper.make_tensor_value_info("camera", TensorProto.FLOAT, (1, 3, SIDE, SIDE))],
        [helper.make_tensor_value_info("drive", TensorProto.FLOAT, (1, 1, 2))],
        [
            numpy_helper.from_array(np.array([2, 3]), "sides"),
            numpy_helper.from_array(np.array([1, 1, 2]), "shape"),
            numpy_helper.from_array(LAYER, "layer"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save_model(model, folder / "model.onnx")
    (folder / "model.onnx.data").touch()
    pixels = np.random.default_rng(0).standard_normal((2, 3, SIDE, SIDE)).astype(np.float32)
    actions = (pixels.mean((2, 3)) @ LAYER)[:, None]
    colour = {"stage_mean-colour": pixels.mean((2, 3))}
    np.savez(folder / "golden.npz", names=np.array(["a", "b"]), camera=pixels, actions=actions, **colour)
    files = [
        {
            "path": path.name,
            "size_bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(folder.iterdir())
    ]
    (folder / "manifest.json").write_bytes(encode(manifest_of(files)))
    return folder


def manifest_of(files: list[dict[str, object]]) -> Manifest:
    fields = {
        "schema_version": 2,
        "name": "wordless",
        "created_utc": "2026-01-01T00:00:00Z",
        "source": {
            "file": "wordless.pth", "size_bytes": 1, "sha256": None, "epoch": None, "val_mae": None,
            "layout": "one layer", "layout_reasons": [], "parameters": 6, "weights_origin": "sample: wordless",
        },
        "architecture": {"family": "wordless", "values": {"layers": [{"inputs": 3, "outputs": 2}]}},
        "settings": {},
        "inputs": [{"name": "camera", "dtype": "float32", "shape": [1, 3, SIDE, SIDE], "role": "pixels"}],
        "outputs": [{"name": "drive", "dtype": "float32", "shape": [1, 1, 2], "role": "actions"}],
        "stages": [
            {"name": "mean-colour", "tensor": "colour", "shape": [1, 3]},
            {"name": "action", "tensor": "drive", "shape": [1, 1, 2]},
        ],
        "cuts": [{"name": "mean-colour", "tensors": [{"name": "colour", "dtype": "float32", "shape": [1, 3]}]}],
        "preprocessing": {
            "height": SIDE, "width": SIDE, "color": "rgb", "fit": "squash", "resample": "bilinear", "antialias": True,
            "scale": 1 / 255, "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0],
        },
        "prompt": None,
        "instructions": [],
        "default_instruction": None,
        "runtime": {"frame": "current", "state": []},
        "action": {"names": ["linear_x", "angular_z"], "units": ["m/s", "rad/s"], "scale": SCALE,
                   "offset": [0.0, 0.0], "limit": LIMIT},
        "precision": {"asked": "fp32", "achieved": "fp32", "weights_dtype": "float32", "float32_islands": []},
        "parity": {
            "reference": "NumPy", "engine": "NumPy", "samples": 2,
            "gates": [{"stage": "mean-colour", "metric": "relative_l2", "limit": 0.001},
                      {"stage": "action", "metric": "max_abs", "limit": 0.01}],
            "errors": [{"stage": "mean-colour", "relative_l2": 0.0, "max_abs": 0.0},
                       {"stage": "action", "relative_l2": 0.0, "max_abs": 0.0}],
            "max_abs": 0.0025,
        },
        "tools": {},
        "files": files,
    }  # fmt: skip
    return msgspec.convert(fields, Manifest)
