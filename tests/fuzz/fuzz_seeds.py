"""Sound files of every kind, small enough that thousands of damaged copies are read in seconds."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import pathlib
import pickle
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vla_edge.runtime.bundle.manifest import Camera

_RESULTS = Path(__file__).parents[2] / "bench" / "results"
_KEPT = Path(__file__).parents[1] / "runtime" / "bundle" / "kept"

YAML_GRAFTS = (
    b"&a [*a, *a]\n",
    b"? [a, b]\n: c\n",
    b"!!python/object/apply:os.system ['true']\n",
    b"!!binary '='\n",
    b"!!timestamp x\n",
    b"2026-13-45\n",
    b"0x_\n",
    b"1e999999999\n",
    b"0b\n",
    b"[" * 3000,
    b"<<: 5\n",
    b"%YAML 9.9\n---\n",
    b"--- a\n--- b\n",
    "\ufeff\ud7ff".encode(),
    b"a: &x [1]\nb: [*x, *x, *x, *x]\n",
    b"!!int ''\n",
    b"!!float '_'\n",
    b"1:99:99\n",
    b"pooling: mean\npooling: max\n",
)
ARRAY_HEADERS = (
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }\n",
    b"{'descr': '|O', 'fortran_order': False, 'shape': (3,), }\n",
    b"{'descr': '<U1000000000', 'fortran_order': False, 'shape': (3,), }\n",
    b"{'descr': [('a', '<f4', (99999, 99999))], 'fortran_order': False, 'shape': (3,), }\n",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }\n",
    b"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3, 3, 3), }\n",
    b"{'descr': '<m8[ns]', 'fortran_order': False, 'shape': (), }\n",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 9223372036854775807), }\n",
    b"(" * 500 + b")" * 500,
    b"{'descr': '" + b"9" * 5000 + b"'}",
    b"[" * 100 + b"\x00",
    b"'''",
)


def tiny_checkpoint(folder: Path, layout: str = "pure") -> Path:
    """A real sample with its tokenizer beside it."""
    from vla_edge.export.kosmos2.sample.samples import sample_of
    from vla_edge.export.kosmos2.sample.tokenizer import write_tokenizer
    from vla_edge.export.sample.sample import write_sample

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "policy.pth"
    form = "none" if layout == "pure" else "transformers"
    write_sample(path, sample_of(layout, form))  # type: ignore[arg-type]
    write_tokenizer(folder / "tokenizer")
    return path


CAMERA = Camera(height=48, width=64, channels="bgr")


def tiny_bundle(folder: Path, layout: str = "pure", **options: Any) -> Path:
    """A real bundle of a tiny sample."""
    from vla_edge.export.pipeline import ExportOptions, export_bundle

    given = ExportOptions(tiny_checkpoint(folder, layout), folder / "engines", ("fp32",), **options)
    return export_bundle(given)[0].folder


def checkpoints(folder: Path) -> list[bytes]:
    """torch's own files, some KiB each, with what training scripts put beside weights."""
    import torch

    weights = {
        "kosmos_model.text_model.weight": torch.arange(24.0).reshape(4, 6),
        "rnn.weight_ih_l0": torch.ones(8, 2, dtype=torch.float16).t(),
        "actions.mlp.0.bias": torch.nn.Parameter(torch.zeros(3, dtype=torch.bfloat16)),
    }
    args = argparse.Namespace(lr=1e-4, data=pathlib.PurePosixPath("/data"), nested={"a": [1, (2, None)]})
    plain = {"epoch": 4, "model_state_dict": weights, "val_mae": np.float64(0.222), "args": args}
    numbers = {
        "state_dict": weights,
        "rng": np.random.default_rng(0).integers(0, 9, 5),
        "numpy": [np.float32(1.5), np.bool_(True), np.array(["x"]), np.zeros((2, 2))],
        "optimizer": {
            "state": {0: {"exp_avg": torch.zeros(4)}},
            "param_groups": [{"lr": 0.1, "params": [0]}],
        },
        "big": 10**40,
        "set": {1, 2},
        "size": torch.Size([2, 3]),
        "dtype": torch.float16,
    }
    bare = {f"module.{name}": tensor for name, tensor in weights.items()}
    newer = ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2", "complex128")
    beside = {
        "state_dict": weights,
        "version": torch.__version__,
        "text": [np.str_(""), np.bytes_(b""), np.array(["", ""])],
        "newer": {name: torch.zeros(3, dtype=getattr(torch, name)) for name in newer},
        "complex": torch.tensor([1 + 2j]),
        "types": [str, type(None), ..., torch.device("cuda:0"), torch.qint8],
        "quantised": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    }
    results = []
    for content in (plain, numbers, bare, beside):
        for protocol in (2, 4):
            torch.save(content, folder / "seed.pth", pickle_protocol=protocol)
            results.append((folder / "seed.pth").read_bytes())
    return results


def pickle_grafts() -> list[bytes]:
    """Pieces of pickle that try what a reader must not do, or that cost much for few bytes."""

    def name(module: str, attribute: str) -> bytes:
        return b"c" + f"{module}\n{attribute}\n".encode()

    calls = [
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy.random._pickle", "__randomstate_ctor"),
        ("_codecs", "encode"),
        ("builtins", "bytearray"),
        ("builtins", "eval"),
        ("os", "system"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_sparse_tensor"),
        ("torch", "FloatStorage"),
        ("collections", "OrderedDict"),
        ("argparse", "Namespace"),
        ("pathlib", "PosixPath"),
    ]
    names = [name(*call) for call in calls] + [name("torch", dtype) for dtype in _odd_dtypes()]
    names += [
        name("torch._utils", "_rebuild_tensor_v3"),
        name("torch", "device"),
        name("torch", "UntypedStorage"),
    ]
    names += map(_tensor_of_dtype, _odd_dtypes())
    numbers = [b"J" + struct.pack("<i", n) for n in (-1, 0, 2**31 - 1)] + [b"\x8a\x05" + b"\xff" * 5]
    sizes = [b"r" + struct.pack("<I", n) for n in (0, 2**31 - 1, 2**32 - 1)]
    shapes = [
        b"(",
        b")",
        b"}",
        b"]",
        b"N",
        b"t",
        b"\x85",
        b"\x86",
        b"\x87",
        b"0",
        b"2",
        b"1",
        b"s",
        b"u",
        b"a",
        b"e",
    ]
    acts = [b"R", b"b", b"\x81", b"\x92", b"o", b"Q", b"\x93", b"\x94", b"\x8f", b"\x91", b"\x90"]
    deep = [b"(" * 3000, b"]" * 3000 + b"a" * 2999, b"N" + b"\x85" * 3000, b"(" * 200 + b"t" * 200]
    bombs = [b"\x96" + struct.pack("<Q", 10**10), b"X" + struct.pack("<I", 2**32 - 1), b"2" * 5000]
    strings = [pickle.dumps(text, 2)[2:-1] for text in ("storage", "latin1", "zip", "cpu", "0")]
    return names + numbers + sizes + shapes + acts + deep + bombs + strings


def _odd_dtypes() -> list[str]:
    """Every dtype that torch has, under its own name: many have no values that its functions could read."""
    import torch

    return sorted(
        {str(value).removeprefix("torch.") for value in vars(torch).values() if type(value) is torch.dtype}
    )


def _tensor_of_dtype(dtype: str) -> bytes:
    """A whole tensor of it, of two values, in the first storage of the archive."""
    storage = b"(X\x07\0\0\0storagectorch.storage\nUntypedStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x60tQ"
    rest = b"K\0K\x02\x85K\x01\x85\x89N" + f"ctorch\n{dtype}\n".encode()
    return b"ctorch._utils\n_rebuild_tensor_v3\n(" + storage + rest + b"tR"


def safetensors_files() -> list[bytes]:
    import torch
    from safetensors.torch import save

    tensors = {
        "rnn.weight_ih_l0": torch.ones(8, 2),
        "actions.mlp.0.bias": torch.zeros(3, dtype=torch.float16),
    }
    return [save(tensors), save(tensors, {"epoch": "7", "action_std": "[1.0, 1.0]", "val_mae": "0.2"})]


def settings_files() -> list[bytes]:
    from vla_edge.export.kosmos2.settings import PolicySettings

    fields = {name: getattr(PolicySettings(), name) for name in PolicySettings.__struct_fields__}
    fields["instructions"] = ["컵까지 가세요", "go"]
    as_json = json.dumps(fields, ensure_ascii=False).encode()
    yaml = b"pooling: mean\nlstm: window\nlstm_window: 4\naction_scale: [2.0, 2.0]\nfinal_tanh: yes\n"
    return [
        as_json,
        yaml,
        b'{"pooling": "last"}',
        b"instructions: [go, 'stop here']\ndefault_instruction: go\n",
    ]


def image_files() -> list[bytes]:
    """One small picture in every format and depth that Pillow writes here."""
    from PIL import Image

    Image.init()
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    picture = Image.fromarray(pixels)
    results = []
    for form in sorted(set(Image.SAVE) - {"IM"}):  # deprecated, with a warning at each writing
        for mode in ("RGB", "L", "P", "RGBA", "CMYK", "I;16", "1"):
            out = io.BytesIO()
            try:
                picture.convert(mode).save(out, form)
            except (OSError, ValueError, KeyError, AttributeError, RuntimeError, ImportError):
                continue  # not every format holds every mode
            if 0 < out.tell() < 64 << 10:
                results.append(out.getvalue())
    exif = Image.Exif()
    exif[0x0112] = 6
    for options in ({"exif": exif}, {"progressive": True}, {"quality": 30, "optimize": True}):
        out = io.BytesIO()
        picture.save(out, "JPEG", **options)
        results.append(out.getvalue())
    out = io.BytesIO()
    picture.save(out, "TIFF", save_all=True, append_images=[picture] * 3, compression="tiff_lzw")
    return [*results, out.getvalue()]


def planted_plan(bundle: Path) -> tuple[Path, Any, bytes]:
    """A plan's file with some bytes in it, the machine that it belongs to, and a sound side file."""
    from vla_edge.runtime import Bundle
    from vla_edge.runtime.engines.tensorrt import record as records
    from vla_edge.runtime.engines.tensorrt.plan import model_files
    from vla_edge.runtime.engines.tensorrt.plan_names import plan_path

    opened = Bundle.open(bundle)
    machine = records.Machine(
        **_known(records.Machine, backend="tensorrt", version="10.6.0", sm=87, gpu="Orin")
    )
    path = plan_path(bundle, "tensorrt", "10.6.0", 87)
    path.parent.mkdir(exist_ok=True)
    content = b"ftrt" + bytes(20) + bytes((10, 6, 0, 26)) + bytes(range(256)) * 8
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    part = records.PartRecord(
        **_known(
            records.PartRecord,
            name=records.WHOLE,
            file=path.name,
            size_bytes=len(content),
            sha256=digest,
            chunk_bytes=len(content),
            chunk_sha256=(digest,),
            key=None,
            weights_sha256=None,
            weights_bytes=None,
            inputs=(),
            outputs=(),
            stream=0,
            build=records.BuildFacts(**_known(records.BuildFacts)),
            contents=records.Contents(**_known(records.Contents)),
        )
    )
    record = records.PlanRecord(
        **_known(
            records.PlanRecord,
            plan=path.name,
            parts=(part,),
            streams=None,
            machine=machine,
            bundle=opened.manifest.name,
            manifest_sha256=opened.manifest_sha256,
            model=model_files(opened),
            verification=records.PlanVerification(**_known(records.PlanVerification, passed=True)),
        )
    )
    return path, machine, records.encode_record(record)


def _known(kind: type, **given: Any) -> dict[str, Any]:
    """Values for every field of a record: those given, else the plainest of its type."""
    import msgspec

    values = dict(given)
    for item in msgspec.inspect.type_info(kind).fields:  # type: ignore[attr-defined]
        if item.name not in values and item.required:
            values[item.name] = _plainest(item.type)
    return values


def _plainest(kind: Any) -> Any:
    from msgspec import inspect

    if isinstance(kind, inspect.LiteralType):
        return kind.values[0]
    if isinstance(kind, inspect.UnionType):
        return (
            None
            if any(isinstance(each, inspect.NoneType) for each in kind.types)
            else _plainest(kind.types[0])
        )
    plain: dict[type, Any] = {
        inspect.StrType: "2026-11-25T00:00:00Z",
        inspect.IntType: 1,
        inspect.FloatType: 1.0,
        inspect.BoolType: True,
        inspect.DictType: {},
        inspect.VarTupleType: (),
        inspect.ListType: [],
    }
    return plain[type(kind)]


def manifest_before(manifest: bytes) -> bytes:
    """A kept manifest of schema version 1, with the files of a bundle that is there."""
    kept = json.loads((_KEPT / "pure-fp16.manifest.json").read_bytes())
    return json.dumps({**kept, "files": json.loads(manifest)["files"]}).encode()


def record_in_parts(bundle: Path, record: bytes) -> bytes:
    """The same plan as two parts on two streams, of one file."""
    from vla_edge.runtime import Bundle

    manifest, fields = Bundle.open(bundle).manifest, json.loads(record)
    inputs, outputs = (
        [{"name": each.name, "dtype": each.dtype, "shape": each.shape} for each in specs]
        for specs in (manifest.inputs, manifest.outputs)
    )
    between = {"name": "between", "dtype": "float32", "shape": [1, 80, 2048]}
    (whole,) = fields["parts"]
    first = {**whole, "name": "first", "inputs": inputs, "outputs": [between], "stream": 1}
    second = {**whole, "name": "second", "inputs": [between], "outputs": outputs}
    return json.dumps({**fields, "parts": [first, second]}).encode()


def record_before(record: bytes) -> bytes:
    """A plan's side file as version 1 wrote it, with a gate of each kind."""
    from plan_bundles import flattened

    fields = flattened(json.loads(record), 1)
    checks = [
        {"stage": "text", "metric": metric, "limit": 0.03, "measured": 0.01, "passed": True}
        for metric in ("relative_l2", "max_abs_mps")
    ]
    samples = [{"name": "a", "max_abs_mps": 0.01, "relative_l2": None}]
    verification = {**fields["verification"], "checks": checks, "samples": samples}
    return json.dumps({**fields, "verification": verification}).encode()


def reports() -> list[bytes]:
    """Kept reports of either schema version, with two of everything, so that a case is read in milliseconds."""
    from vla_edge.bench.report.codec import decode, encode

    results = []
    for name in ("h100.json", "h200.json"):
        kept = (_RESULTS / name).read_bytes()
        results += [
            json.dumps(_two_of_each(json.loads(data))).encode() for data in (kept, encode(decode(kept, name)))
        ]
    return results


def _two_of_each(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _two_of_each(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_two_of_each(item) for item in value[:2]]
    return value


def with_other_external_data(rng: random.Random, data: bytes) -> bytes:
    """A graph that has one tensor more, or changed, which says that its bytes lie elsewhere."""
    import onnx

    model = onnx.load_model_from_string(data)
    tensor = onnx.TensorProto(name="stray", data_type=rng.randrange(30), dims=[rng.choice((-1, 0, 2, 2**40))])
    tensor.data_location = rng.choice((0, 1))
    places = ("/etc/passwd", "../secret", "model.onnx.data", "", "model.onnx", "sub/x", "model.onnx.data\0x")
    for key in ("location", "offset", "length", rng.choice(("checksum", "prepacked_0", "location"))):
        value = rng.choice(places) if key == "location" else str(rng.choice((0, 4, -1, 2**63, "x")))
        tensor.external_data.add(key=key, value=value)
    node = rng.choice(model.graph.node)
    kind = rng.randrange(6)
    if kind == 0:
        model.graph.initializer.append(tensor)
    elif kind == 1:
        node.attribute.append(onnx.AttributeProto(name="value", type=4, t=tensor))
    elif kind == 2:
        node.attribute.append(onnx.AttributeProto(name="values", type=9, tensors=[tensor]))
    elif kind == 3:
        graph = onnx.GraphProto(name="inner", initializer=[tensor])
        node.attribute.append(onnx.AttributeProto(name="body", type=5, g=graph))
    elif kind == 4:
        sparse = onnx.SparseTensorProto(values=tensor, indices=tensor, dims=[4])
        model.graph.sparse_initializer.append(sparse)
    else:
        inner = onnx.NodeProto(op_type="Constant", output=["c"])
        inner.attribute.append(onnx.AttributeProto(name="value", type=4, t=tensor))
        model.functions.append(onnx.FunctionProto(name="f", domain="d", node=[inner]))
    return bytes(model.SerializeToString())


def external_locations(data: bytes) -> set[str]:
    """Every file that a graph's tensors name, as protobuf's own parser finds them; none where it finds no graph."""
    import onnx
    from google.protobuf.message import DecodeError, Message

    try:
        model = onnx.load_model_from_string(data)
    except DecodeError:
        return set()

    def walk(message: Message) -> Iterator[str]:
        if isinstance(message, onnx.TensorProto):
            yield from (entry.value for entry in message.external_data if entry.key == "location")
        for field, value in message.ListFields():
            if field.message_type is not None:
                for each in value if field.is_repeated else [value]:
                    yield from walk(each)

    return set(walk(model))


def with_other_nodes(rng: random.Random, data: bytes) -> bytes:
    """A graph with one thing changed that decides where it may be cut."""
    import onnx

    model = onnx.load_model_from_string(data)
    nodes = model.graph.node
    node, other = rng.choice(nodes), rng.choice(nodes)
    kind = rng.randrange(12)
    if kind == 0:
        node.input[:] = [rng.choice([other.output[0], name]) for name in node.input]
    elif kind == 1:
        node.output[:] = [rng.choice([other.output[0], "", "new"]) for _ in node.output]
    elif kind == 2:
        del nodes[rng.randrange(len(nodes))]
    elif kind == 3:
        nodes.insert(rng.randrange(len(nodes)), other)
    elif kind == 4:
        order = sorted(nodes, key=lambda each: rng.random() < 0.01)
        del nodes[:]
        nodes.extend(order)
    elif kind == 5:
        inner = onnx.GraphProto(
            node=[onnx.NodeProto(op_type="Identity", input=[other.output[0]], output=["x"])]
        )
        node.attribute.append(onnx.AttributeProto(name="body", type=5, g=inner))
    elif kind == 6:
        rng.choice(model.graph.initializer).name = rng.choice([other.output[0], "new", ""])
    elif kind == 7:
        rng.choice([*model.graph.input, *model.graph.output]).name = rng.choice([other.output[0], "new"])
    elif kind == 8:
        node.input.append(other.output[0])
    else:  # nothing that matters: it is the cuts that will be others
        model.producer_version = str(rng.random())
    return bytes(model.SerializeToString())


def with_other_cuts(rng: random.Random, manifest: Any) -> Any:
    """A manifest whose cuts, every other time, are in another order, or tell of other tensors."""
    import msgspec

    cuts = list(manifest.cuts)
    if rng.random() < 0.5:
        at = rng.randrange(len(cuts))
        tensors = [spec for cut in rng.sample(cuts, 2) for spec in cut.tensors]
        some = tuple({spec.name: spec for spec in tensors}.values())[: rng.randint(1, 3)]
        cuts[at] = rng.choice([cuts[0], msgspec.structs.replace(cuts[at], tensors=some)])
    if rng.random() < 0.1:
        rng.shuffle(cuts)
    return msgspec.structs.replace(manifest, cuts=tuple(cuts))


def wrong_parts(parts: list[bytes], whole: bytes) -> str | None:
    """What is wrong with parts of a graph, as protobuf's own parser reads both."""
    import onnx

    graphs = [onnx.load_model_from_string(part).graph for part in parts]
    graph = onnx.load_model_from_string(whole).graph
    if [node for each in graphs for node in each.node] != list(graph.node):
        return "its nodes are not those of the whole, each once"
    have = {value.name for value in graph.input}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for each in graphs:
        known = {value.name for value in each.input}
        if known - have:
            return f"a part takes {sorted(known - have)}, which no part before it gives"
        if any(weights.get(tensor.name) != tensor for tensor in each.initializer):
            return "a part has another weight"
        known |= {tensor.name for tensor in each.initializer} | {""}
        for node in each.node:
            if set(node.input) - known:
                return f"a node takes {sorted(set(node.input) - known)}, which its part does not have"
            known |= set(node.output)
        have |= {value.name for value in each.output} & known
    return None if {value.name for value in graph.output} <= have else "an output is given by no part"
