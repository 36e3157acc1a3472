"""No engine is given a graph that reads anything but the bundle's own data file."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.external_data import MAX_MODEL_BYTES, check_external_data
from vla_edge.runtime.bundle.onnx_wire import WireError, external_tensors
from vla_edge.runtime.engines.onnxruntime import OnnxRuntimeSession
from vla_edge.runtime.errors import BundleError

DATA = "model.onnx.data"
Relist = Callable[[Path], None]


def tensor(**entries: Any) -> TensorProto:
    """Four floats whose data lies elsewhere; `entries` over location, offset 0 and length 16."""
    made = TensorProto(name="weight", dims=[4], data_type=TensorProto.FLOAT)
    made.data_location = TensorProto.EXTERNAL
    for key, value in {"location": DATA, "offset": 0, "length": 16, **entries}.items():
        if value is not None:
            made.external_data.add(key=key, value=str(value))
    return made


def sparse(value: TensorProto) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=value, indices=TensorProto(), dims=[4])


def graph_of(*nodes: onnx.NodeProto, **fields: Any) -> onnx.GraphProto:
    return onnx.GraphProto(name="graph", node=nodes, **fields)


def attribute(**fields: Any) -> onnx.NodeProto:
    return onnx.NodeProto(op_type="Constant", attribute=[onnx.AttributeProto(name="value", **fields)])


def nested(depth: int, value: TensorProto) -> onnx.GraphProto:
    graph = graph_of(initializer=[value])
    for _ in range(depth):
        graph = graph_of(attribute(g=graph))
    return graph


PLACES: dict[str, Callable[[TensorProto], onnx.ModelProto]] = {
    "initializer": lambda value: onnx.ModelProto(graph=graph_of(initializer=[value])),
    "sparse values": lambda value: onnx.ModelProto(graph=graph_of(sparse_initializer=[sparse(value)])),
    "constant": lambda value: onnx.ModelProto(graph=graph_of(attribute(t=value))),
    "list of constants": lambda value: onnx.ModelProto(graph=graph_of(attribute(tensors=[value]))),
    "sparse constant": lambda value: onnx.ModelProto(graph=graph_of(attribute(sparse_tensor=sparse(value)))),
    "sparse constants": lambda value: onnx.ModelProto(
        graph=graph_of(attribute(sparse_tensors=[sparse(value)]))
    ),
    "subgraph": lambda value: onnx.ModelProto(graph=nested(3, value)),
    "subgraphs": lambda value: onnx.ModelProto(graph=graph_of(attribute(graphs=[nested(1, value)]))),
    "function": lambda value: onnx.ModelProto(functions=[onnx.FunctionProto(node=[attribute(t=value)])]),
    "default of a function": lambda value: onnx.ModelProto(
        functions=[onnx.FunctionProto(attribute_proto=[onnx.AttributeProto(t=value)])]
    ),
    "training": lambda value: onnx.ModelProto(
        training_info=[onnx.TrainingInfoProto(algorithm=nested(1, value))]
    ),
}


def written(folder: Path, model: onnx.ModelProto | bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    (folder / DATA).write_bytes(bytes(64))
    return path


def refusal(path: Path, data_file: str | None = DATA) -> str:
    with pytest.raises(BundleError) as raised:
        check_external_data(path, data_file)
    assert "export it again" in raised.value.hint
    return raised.value.problem


@pytest.mark.parametrize("place", PLACES)
def test_data_is_found_wherever_a_tensor_can_stand(tmp_path: Path, place: str) -> None:
    check_external_data(written(tmp_path, PLACES[place](tensor())), DATA)
    path = written(tmp_path, PLACES[place](tensor(location="/etc/passwd")))
    assert "takes its data from '/etc/passwd' instead of model.onnx.data" in refusal(path)


@pytest.mark.parametrize(
    "location",
    [
        "/etc/passwd",
        "../../secret.txt",
        "sub/model.onnx.data",
        "./model.onnx.data",
        "model.onnx",
        "golden.npz",
        "model.onnx.data\0",
        "MODEL.ONNX.DATA",
        "*/_ORT_MEM_ADDR_/*",
        "",
        None,
    ],
)
def test_no_other_location_is_taken(tmp_path: Path, location: str | None) -> None:
    path = written(tmp_path, PLACES["initializer"](tensor(location=location)))
    assert "tensor 'weight' takes its data from" in refusal(path)


@pytest.mark.parametrize("location", ["../data", "/data", "a/b", "..", "a\\b", "C:data"])
def test_beside_a_file_that_is_no_bundle_only_plain_names_are_taken(tmp_path: Path, location: str) -> None:
    path = written(tmp_path, PLACES["initializer"](tensor(location=location)))
    assert "not a file beside it" in refusal(path, None)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"offset": 52}, "takes bytes 52 to 68 of model.onnx.data, which has 64"),
        ({"offset": 10**17}, "which has 64"),
        ({"length": 15}, "has 15 bytes of external data, its shape takes 16"),
        ({"length": 64}, "has 64 bytes of external data, its shape takes 16"),
        ({"offset": -16}, "offset '-16'"),
        ({"offset": "0x10"}, "offset '0x10'"),
        ({"offset": "٣"}, "offset '٣'"),
        ({"offset": "9" * 40}, "offset '999"),
        ({"length": ""}, "length ''"),
        ({"prepacked_0": "x|0|16|k"}, "the entry 'prepacked_0'"),
    ],
)
def test_ranges_must_hold(tmp_path: Path, entries: dict[str, Any], words: str) -> None:
    assert words in refusal(written(tmp_path, PLACES["initializer"](tensor(**entries))))


def test_a_range_without_a_length_is_the_shape_s(tmp_path: Path) -> None:
    check_external_data(written(tmp_path, PLACES["initializer"](tensor(length=None, offset=48))), DATA)
    path = written(tmp_path, PLACES["initializer"](tensor(length=None, offset=52)))
    assert "takes bytes 52 to 68" in refusal(path)


@pytest.mark.parametrize(
    ("dims", "kind", "words"),
    [
        ([4], TensorProto.STRING, "data type 8"),
        ([4], 99, "data type 99"),
        ([-4], TensorProto.FLOAT, "negative size"),
        ([2**62, 2**62], TensorProto.FLOAT, "its shape takes"),
        ([1] * 99, TensorProto.FLOAT, "has 99 dimensions"),
    ],
)
def test_shapes_that_no_file_holds_are_refused(
    tmp_path: Path, dims: list[int], kind: int, words: str
) -> None:
    value = tensor()
    del value.dims[:]
    value.dims.extend(dims)
    value.data_type = kind
    assert words in refusal(written(tmp_path, PLACES["initializer"](value)))


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "nothing"])
def test_the_data_file_is_a_regular_file(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, PLACES["initializer"](tensor()))
    data = tmp_path / DATA
    data.rename(tmp_path / "elsewhere")
    if kind == "link":
        data.symlink_to("elsewhere")
    elif kind == "pipe":
        os.mkfifo(data)
    elif kind == "folder":
        data.mkdir()
    assert "its data file model.onnx.data cannot be used" in refusal(path)


def field(number: int, content: bytes, wire: int = 2) -> bytes:
    """One field of a message, by hand."""
    size = bytes([len(content)]) if wire == 2 else b""
    tag = number << 3 | wire
    head = bytes([tag]) if tag < 128 else bytes([tag & 127 | 128, tag >> 7])
    return head + size + content


OUTSIDE = tensor(location="/etc/passwd").SerializeToString()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        # parsers merge both halves into one graph, or one tensor
        (field(7, b"") + field(7, field(5, OUTSIDE)), "field 7 of a ModelProto is given twice"),
        (
            field(7, field(1, field(5, field(5, b"") + field(5, OUTSIDE)))),
            "field 5 of a AttributeProto is given twice",
        ),
        (field(7, field(5, field(14, b"\0", 0) + field(14, b"\1", 0))), "field 14 of a TensorProto"),
        # 2^32 + 1 is 1 to a parser that keeps 32 bits
        (field(7, field(5, field(14, b"\x81\x80\x80\x80\x10", 0))), "data location 4294967297"),
        (field(7, field(5, field(14, b"\1"))), "field 14 of a TensorProto has wire type 2, not 0"),
        (field(7, b"\1", 0), "field 7 of a ModelProto has wire type 0, not 2"),
        (field(7, field(5, OUTSIDE), 3), "wire type 3"),
        (field(99, b""), "a field 99, which ONNX does not define"),
        (field(7, field(5, OUTSIDE))[:-1], "is cut short"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "more than ten bytes"),
        (b"\x3a", "a number is cut short"),
        (b"not a graph", "ModelProto"),
    ],
)
def test_bytes_that_parsers_could_read_in_another_way_are_refused(model: bytes, words: str) -> None:
    with pytest.raises(WireError, match=words):
        external_tensors(model)


def test_two_locations_in_one_tensor_are_refused() -> None:
    value = tensor()
    value.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(WireError, match="two entries 'location'"):
        external_tensors(PLACES["initializer"](value).SerializeToString())


def test_entries_count_even_where_the_tensor_says_that_its_data_is_inside(tmp_path: Path) -> None:
    value = tensor(location="/etc/passwd")
    value.data_location = TensorProto.DEFAULT
    assert "takes its data from" in refusal(written(tmp_path, PLACES["constant"](value)))


def test_deep_and_large_graphs_are_not_walked(tmp_path: Path) -> None:
    path = written(tmp_path, onnx.ModelProto(graph=nested(20, tensor())))
    assert "nested more than 32 deep" in refusal(path)
    with pytest.raises(WireError, match="more than 2000000 fields"):
        external_tensors(field(14, b"") * 2_000_001)
    with path.open("r+b") as file:
        file.truncate(1 << 40)  # sparse
    assert f"it has more than {MAX_MODEL_BYTES} bytes" in refusal(path)


def test_damaged_bytes_end_in_no_other_error() -> None:
    rng = random.Random(5)
    sound = b"".join(PLACES[place](tensor()).SerializeToString() for place in ("subgraph", "function"))
    for _ in range(3000):
        data = bytearray(sound)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            external_tensors(bytes(data[: rng.randint(1, len(data))]))
        except WireError:
            continue


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret.txt", "unlisted.bin", "link.bin"])
def test_a_session_does_not_open_a_graph_that_reads_elsewhere(
    tiny_bundle: Path, relist: Relist, location: str
) -> None:
    content = np.full(1024, 7, np.float32).tobytes()
    for path in (tiny_bundle.parent / "secret.txt", tiny_bundle / "unlisted.bin"):
        path.write_bytes(content)
    (tiny_bundle / "link.bin").symlink_to("../secret.txt")
    model = onnx.load(tiny_bundle / "model.onnx", load_external_data=False)
    layer = next(value for value in model.graph.initializer if value.name == "layer")
    next(entry for entry in layer.external_data if entry.key == "location").value = location
    (tiny_bundle / "model.onnx").write_bytes(model.SerializeToString())
    relist(tiny_bundle)
    for verify in ("full", "size"):
        bundle = Bundle.open(tiny_bundle, verify)  # type: ignore[arg-type]
        with pytest.raises(BundleError, match="tensor 'layer' takes its data from"):
            OnnxRuntimeSession(bundle)
        with pytest.raises(BundleError, match="tensor 'layer' takes its data from"):
            bundle.model_path.read_bytes()


def test_a_sound_graph_opens(tiny_bundle: Path) -> None:
    model = Bundle.open(tiny_bundle).model_path
    assert {value.name for value in external_tensors(model.read_bytes())} == {
        "embedding",
        "layer",
        "recurrent",
    }


@pytest.mark.parametrize("sound", [True, False])
def test_a_graph_is_walked_once_a_load(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, sound: bool
) -> None:
    walked = []

    def counted(path: Path, data_file: str | None) -> None:
        walked.append(path)
        check_external_data(path, data_file)

    monkeypatch.setattr("vla_edge.runtime.bundle.bundle.check_external_data", counted)
    bundle = Bundle.open(tiny_bundle)
    if sound:
        OnnxRuntimeSession(bundle).close()
    else:
        bundle.folder.joinpath("model.onnx").write_bytes(b"none")
        with pytest.raises(BundleError, match="is not a graph that can be trusted"):
            OnnxRuntimeSession(bundle)
    assert len(walked) == 1
