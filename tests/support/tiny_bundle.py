"""A real bundle of a real, tiny graph: pooled pixels and pooled token embeddings, a layer, an action."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from vla_edge.runtime.bundle import manifest as schema
from vla_edge.runtime.preprocess import Preprocessor

SIDE = 16
LENGTH = 16
IMAGE_START = 2
IMAGE_TOKENS = 4
ROWS = 32
WIDTH = 4
LEFT = "가장 왼쪽 외곽으로 돌아 컵까지 가세요"
DEFAULT = "컵까지 가세요"
ENGLISH = "go to the cup"
WORDS = ("<s>", "<pad>", "<image>", "</image>", "<unk>", "컵까지", "가세요", "가장", "왼쪽")
WORDS += ("외곽으로", "돌아", "go", "to", "the", "cup", "door", "left")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PREPROCESSING = schema.Preprocessing(
    height=SIDE,
    width=SIDE,
    color="rgb",
    fit="squash",
    resample="bilinear",
    antialias=True,
    scale=1 / 255,
    mean=MEAN,
    std=STD,
)


@dataclass(frozen=True)
class Tiny:
    """What kind of tiny bundle to write."""

    name: str = "tiny"
    precision: str = "fp32"
    carried: bool = False
    frame: str = "current"
    steps: int = 1
    batch: int = 1
    scale: tuple[float, ...] = (0.5, 2.0)
    offset: tuple[float, ...] = (0.0, 0.0)
    limit: tuple[float, ...] = (1.15, 1.15)
    vocabulary: str = "declared"
    texts: tuple[str, ...] = (DEFAULT, LEFT, ENGLISH)
    indexed: bool = False  # takes instruction_index as well
    nan_when_dark: bool = False
    extra_input: str = ""
    camera: tuple[int, int, str] | None = None  # height, width, channels: the graph begins with the frame


def token_ids(text: str) -> tuple[int, ...]:
    """As the word tokenizer below gives them."""
    words = [WORDS.index(word) if word in WORDS else WORDS.index("<unk>") for word in text.split()]
    return (0, 2, *[2] * IMAGE_TOKENS, 3, *words)


def weights_of(tiny: Tiny) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    dtype = np.float16 if tiny.precision == "fp16" else np.float32
    return {
        "embedding": rng.standard_normal((ROWS, WIDTH)).astype(dtype),
        "layer": (rng.standard_normal((3 + WIDTH, 2 * tiny.steps)) * 0.1).astype(dtype),
        "recurrent": (np.eye(2 * tiny.steps) * 0.5).astype(dtype),
    }


def reference(tiny: Tiny, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The graph from its pixels on in NumPy, float32 throughout."""
    weights = {name: value.astype(np.float32) for name, value in weights_of(tiny).items()}
    pooled = inputs["pixel_values"].mean(axis=(2, 3))
    text = (weights["embedding"][inputs["input_ids"]] * inputs["attention_mask"][..., None]).sum(1)
    out = np.concatenate([pooled, text], 1) @ weights["layer"]
    outputs = {}
    if tiny.indexed:
        out = out + inputs["instruction_index"][:, None]
    if tiny.carried:
        out = out + (inputs["h_in"] @ weights["recurrent"])[0]
        outputs["h_out"] = np.tanh(out)[None]
    outputs["actions"] = np.tanh(out).reshape(-1, tiny.steps, 2)
    return outputs


def _nodes(tiny: Tiny) -> list[onnx.NodeProto]:
    half, single = (TensorProto.FLOAT16 if tiny.precision == "fp16" else TensorProto.FLOAT), TensorProto.FLOAT
    node = helper.make_node
    nodes = _camera_nodes(tiny)
    nodes += [
        node("ReduceMean", ["pixel_values", "axes_hw"], ["pooled"], keepdims=0),
        node("Cast", ["pooled"], ["pooled_half"], to=half),
        node("Gather", ["embedding", "input_ids"], ["tokens"]),
        node("Cast", ["attention_mask"], ["mask"], to=half),
        node("Unsqueeze", ["mask", "axis_last"], ["mask_3d"]),
        node("Mul", ["tokens", "mask_3d"], ["masked"]),
        node("ReduceSum", ["masked", "axis_1"], ["text"], keepdims=0),
        node("Concat", ["pooled_half", "text"], ["feature"], axis=1),
        node("MatMul", ["feature", "layer"], ["product"]),
        node("Cast", ["product"], ["sum_0"], to=single),
    ]
    last = "sum_0"
    if tiny.indexed:
        nodes += [
            node("Cast", ["instruction_index"], ["index"], to=single),
            node("Unsqueeze", ["index", "axis_1"], ["index_2d"]),
            node("Add", [last, "index_2d"], ["sum_1"]),
        ]
        last = "sum_1"
    if tiny.carried:
        nodes += [
            node("Cast", ["h_in"], ["h_half"], to=half),
            node("MatMul", ["h_half", "recurrent"], ["h_product"]),
            node("Cast", ["h_product"], ["h_single"], to=single),
            node("Squeeze", ["h_single", "axis_0"], ["h_2d"]),
            node("Add", [last, "h_2d"], ["sum_2"]),
        ]
        last = "sum_2"
    nodes.append(node("Tanh", [last], ["bounded"]))
    if tiny.carried:
        nodes.append(node("Unsqueeze", ["bounded", "axis_0"], ["h_out"]))
    shaped = "clean" if tiny.nan_when_dark else "actions"
    nodes.append(node("Reshape", ["bounded", "action_shape"], [shaped]))
    if tiny.nan_when_dark:  # the square root of a negative mean
        nodes += [
            node("ReduceMean", ["pixel_values"], ["mean"], keepdims=0),
            node("Sqrt", ["mean"], ["root"]),
            node("Mul", ["root", "zero"], ["nothing"]),
            node("Add", ["clean", "nothing"], ["actions"]),
        ]
    return nodes


def _camera_nodes(tiny: Tiny) -> list[onnx.NodeProto]:
    """From `frame` to `pixel_values`: Pillow's resize but for its rounding."""
    if tiny.camera is None:
        return []
    node = helper.make_node
    last = "planes"
    nodes = [
        node("Cast", ["frame"], ["levels"], to=TensorProto.FLOAT),
        node("Transpose", ["levels"], ["planes"], perm=[0, 3, 1, 2]),
    ]
    if tiny.camera[2] == "bgr":
        nodes.append(node("Gather", ["planes", "camera_order"], ["ordered"], axis=1))
        last = "ordered"
    return [
        *nodes,
        node("MatMul", ["camera_rows", last], ["down"]),
        node("MatMul", ["down", "camera_columns"], ["small"]),
        node("Mul", ["small", "camera_scale"], ["scaled"]),
        node("Add", ["scaled", "camera_shift"], ["pixel_values"]),
    ]


def _camera_constants(tiny: Tiny) -> dict[str, np.ndarray]:
    if tiny.camera is None:
        return {}
    height, width, _ = tiny.camera

    def squash(size: int) -> np.ndarray:
        """[SIDE, size]: Pillow's own weights, drawn out of it by an image with a one in each row."""
        ones = Image.fromarray(np.eye(size, dtype=np.float32))
        return np.asarray(ones.resize((size, SIDE), Image.Resampling.BILINEAR))

    mean, std = (np.array(value, np.float32)[:, None, None] for value in (MEAN, STD))
    return {
        "camera_order": np.array([2, 1, 0], np.int64),
        "camera_rows": squash(height),
        "camera_columns": squash(width).T.copy(),
        "camera_scale": 1 / (255 * std),
        "camera_shift": -mean / std,
    }


Tensors = dict[str, tuple[str, tuple[int, ...]]]


def _tensors(tiny: Tiny) -> tuple[Tensors, Tensors]:
    state = (1, tiny.batch, 2 * tiny.steps)
    image: Tensors = {"pixel_values": ("float32", (tiny.batch, 3, SIDE, SIDE))}
    if tiny.camera:
        image = {"frame": ("uint8", (tiny.batch, *tiny.camera[:2], 3))}
    inputs: Tensors = {
        **image,
        "input_ids": ("int32", (tiny.batch, LENGTH)),
        "attention_mask": ("int32", (tiny.batch, LENGTH)),
    }
    outputs: Tensors = {"actions": ("float32", (tiny.batch, tiny.steps, 2))}
    if tiny.indexed:
        inputs["instruction_index"] = ("int32", (tiny.batch,))
    if tiny.carried:
        inputs["h_in"] = ("float32", state)
        outputs["h_out"] = ("float32", state)
    if tiny.extra_input:
        inputs[tiny.extra_input] = ("float32", (tiny.batch, 3))
    return inputs, outputs


def _value_infos(tensors: Tensors) -> list[onnx.ValueInfoProto]:
    types = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32, "uint8": TensorProto.UINT8}
    return [
        helper.make_tensor_value_info(name, types[kind], shape) for name, (kind, shape) in tensors.items()
    ]


_ROLES: dict[str, schema.InputRole] = {
    "pixel_values": "pixels",
    "frame": "frame",
    "input_ids": "token_ids",
    "attention_mask": "attention_mask",
    "instruction_index": "instruction_index",
    "h_in": "state",
}


def _inputs(tensors: Tensors) -> tuple[schema.Input, ...]:
    return tuple(
        schema.Input(name=name, dtype=kind, shape=shape, role=_ROLES.get(name, "other"))
        for name, (kind, shape) in tensors.items()
    )


def _outputs(tensors: Tensors) -> tuple[schema.Output, ...]:
    return tuple(
        schema.Output(name=name, dtype=kind, shape=shape, role="actions" if name == "actions" else "state")
        for name, (kind, shape) in tensors.items()
    )


def _write_graph(tiny: Tiny, folder: Path) -> None:
    inputs, outputs = (_value_infos(tensors) for tensors in _tensors(tiny))
    shapes = {"axes_hw": [2, 3], "axis_last": [2], "axis_0": [0], "axis_1": [1]}
    shapes["action_shape"] = [-1, tiny.steps, 2]
    constants = [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in shapes.items()]
    constants.append(numpy_helper.from_array(np.zeros(1, np.float32), "zero"))
    constants += [numpy_helper.from_array(value, name) for name, value in _camera_constants(tiny).items()]
    weights = [numpy_helper.from_array(value, name) for name, value in weights_of(tiny).items()]
    graph = helper.make_graph(
        _nodes(tiny),
        "tiny",
        inputs,
        outputs,
        constants + weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    for weight in weights:
        named = next(each for each in model.graph.initializer if each.name == weight.name)
        onnx.external_data_helper.set_external_data(named, schema.WEIGHTS_NAME)
    onnx.save_model(model, folder / schema.MODEL_NAME)


def golden_of(tiny: Tiny, count: int = 8) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    rows = [tiny.texts[at % len(tiny.texts)] for at in range(count)]
    ids = np.full((count, LENGTH), WORDS.index("<pad>"), np.int32)
    mask = np.zeros((count, LENGTH), np.int32)
    for at, text in enumerate(rows):
        tokens = token_ids(text)
        ids[at, : len(tokens)], mask[at, : len(tokens)] = tokens, 1
    pixels = np.abs(rng.standard_normal((count, 3, SIDE, SIDE))).astype(np.float32)
    golden: dict[str, np.ndarray] = {
        "names": np.array([f"frame {at}" for at in range(count)]),
        "pixel_values": pixels,
        "input_ids": ids,
        "attention_mask": mask,
        "token_ids": ids,
        "instruction_index": np.array([tiny.texts.index(text) for text in rows], np.int32),
    }
    if tiny.camera:
        golden["frame"], pixels = _frames(tiny, count)
        golden["stage_camera"] = pixels
        del golden["pixel_values"]
    if tiny.carried:
        golden["h_in"] = rng.uniform(-0.9, 0.9, (count, 1, 2 * tiny.steps)).astype(np.float32)
    stacked = {
        **golden,
        "pixel_values": pixels,
        **({"h_in": golden["h_in"].transpose(1, 0, 2)} if tiny.carried else {}),
    }
    golden["actions"] = reference(tiny, stacked)["actions"].astype(np.float32)
    text = (weights_of(tiny)["embedding"].astype(np.float32)[ids] * mask[..., None]).sum(1)
    golden["stage_text"] = text.astype(np.float32)
    return golden


def _frames(tiny: Tiny, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames of its camera, and what Pillow makes of them."""
    height, width, channels = tiny.camera or (0, 0, "")
    rgb = np.random.default_rng(2).integers(0, 256, (count, height, width, 3), np.uint8)
    pixels = np.empty((count, 3, SIDE, SIDE), np.float32)
    for frame, out in zip(rgb, pixels, strict=True):
        Preprocessor(PREPROCESSING)(frame, out)
    return (rgb[..., ::-1].copy() if channels == "bgr" else rgb), pixels


def manifest_of(tiny: Tiny, files: tuple[schema.FileEntry, ...]) -> schema.Manifest:
    inputs, outputs = _tensors(tiny)
    dtype = "float16" if tiny.precision == "fp16" else "float32"
    return schema.Manifest(
        schema_version=schema.SCHEMA_VERSION,
        name=tiny.name,
        created_utc="2026-01-01T00:00:00+00:00",
        source=schema.Source(
            file="tiny.pth",
            size_bytes=1,
            sha256=None,
            epoch=1,
            val_mae=0.25,
            layout="pure",
            layout_reasons=("a test",),
            parameters=1,
            weights_origin="sample: tiny",
        ),
        architecture=schema.Architecture(family="tiny", values={"width": WIDTH}),
        settings={"lstm": schema.Setting(value="single", origin="default", standing="likely")},
        inputs=_inputs(inputs),
        outputs=_outputs(outputs),
        stages=(
            *_camera_stage(tiny),
            schema.Stage(name="text", tensor="text", shape=(tiny.batch, WIDTH)),
            schema.Stage(name="action", tensor="actions", shape=(tiny.batch, tiny.steps, 2)),
        ),
        cuts=(
            schema.Cut(
                name="text",
                tensors=(schema.TensorSpec(name="text", dtype=dtype, shape=(tiny.batch, WIDTH)),),
            ),
        ),
        preprocessing=PREPROCESSING,
        camera=_camera(tiny),
        prompt=schema.Prompt(
            template="<s><image> {image_tokens} </image> {instruction}",
            length=LENGTH,
            image_start=IMAGE_START,
            image_tokens=IMAGE_TOKENS,
            pad_id=WORDS.index("<pad>"),
            vocabulary=tiny.vocabulary,
            vocabulary_rows=ROWS,
        ),
        instructions=tuple(
            schema.Instruction(text=text, token_ids=ids, graph_ids=ids)
            for text, ids in zip(tiny.texts, map(token_ids, tiny.texts), strict=True)
        ),
        default_instruction=tiny.texts[0],
        runtime=schema.Runtime(frame=tiny.frame, state=(("h_in", "h_out"),) if tiny.carried else ()),
        action=schema.ActionSpec(
            names=("linear_x", "linear_y"),
            units=("m/s", "m/s"),
            scale=tiny.scale,
            offset=tiny.offset,
            limit=tiny.limit,
        ),
        precision=schema.Precision(
            asked=tiny.precision, achieved=tiny.precision, weights_dtype=dtype, float32_islands=("Tanh",)
        ),
        parity=schema.Parity(
            reference="NumPy",
            engine="NumPy",
            samples=8,
            gates=(schema.Gate(stage="action", metric="max_abs", limit=0.01),),
            errors=(schema.StageError(stage="action", relative_l2=0.0, max_abs=0.0),),
            max_abs=0.0,
        ),
        tools={"onnx": onnx.__version__},
        files=files,
    )


def _camera_stage(tiny: Tiny) -> tuple[schema.Stage, ...]:
    shape = (tiny.batch, 3, SIDE, SIDE)
    return (schema.Stage(name="camera", tensor="pixel_values", shape=shape),) if tiny.camera else ()


def _camera(tiny: Tiny) -> schema.Camera | None:
    if tiny.camera is None:
        return None
    height, width, channels = tiny.camera
    return schema.Camera(height=height, width=width, channels=channels)  # type: ignore[arg-type]


def _write_tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.add_special_tokens(["<s>", "<pad>", "<image>", "</image>"])
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(path))


def entry_of(folder: Path, name: str) -> schema.FileEntry:
    data = (folder / name).read_bytes()
    return schema.FileEntry(path=name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def write_bundle(folder: Path, tiny: Tiny) -> Path:
    folder.mkdir(parents=True)
    _write_graph(tiny, folder)
    np.savez(folder / schema.GOLDEN_NAME, **golden_of(tiny))
    if tiny.vocabulary == "full":
        _write_tokenizer(folder / schema.TOKENIZER_NAME)
    files = tuple(entry_of(folder, path.name) for path in sorted(folder.iterdir()))
    (folder / schema.MANIFEST_NAME).write_bytes(schema.encode(manifest_of(tiny, files)))
    return folder
