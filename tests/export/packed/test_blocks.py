"""Weights are cut by tensor, so that equal ones are equal blocks wherever they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from onnx import helper, numpy_helper

from vla_edge.export.packed.blocks import places_in
from vla_edge.runtime.bundle.bundle import Bundle

MIB = 1 << 20


def graph_of(folder: Path, tensors: dict[str, np.ndarray]) -> Bundle:
    """A folder with a graph of these tensors, which is all that cutting looks at."""
    folder.mkdir()
    initialisers = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    model = helper.make_model(helper.make_graph([], "weights", [], [], initialisers))
    onnx.save(
        model,
        folder / "model.onnx",
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=0,
    )
    return Bundle(folder, cast(Any, None), "")


def blocks_of(bundle: Bundle) -> list[tuple[int, str]]:
    places = list(places_in(bundle, bundle.folder / "model.onnx.data"))
    assert [place.offset for place in places[1:]] == [
        place.offset + place.size_bytes for place in places[:-1]
    ]
    assert sum(place.size_bytes for place in places) == (bundle.folder / "model.onnx.data").stat().st_size
    return [(place.size_bytes, place.sha256) for place in places]


def test_a_tensor_that_moved_has_the_same_blocks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    large, small = rng.bytes(int(2.5 * MIB)), rng.bytes(1000)
    arrays = [np.frombuffer(data, np.uint8) for data in (large, small)]
    head = [np.frombuffer(rng.bytes(size), np.uint8) for size in (700, 123_457)]
    one, other = (
        blocks_of(graph_of(tmp_path / name, {"head": head[at], "large": arrays[0], "small": arrays[1]}))
        for at, name in enumerate(("one", "other"))
    )
    shared = set(one) & set(other)
    assert {size for size, _ in shared} >= {MIB, MIB // 2, 1000}
    assert sum(size for size, _ in set(other) - shared) < 123_457 + 2 * 4096


def test_what_is_no_weight_is_cut_from_its_start(tmp_path: Path) -> None:
    bundle = graph_of(tmp_path / "one", {"a": np.zeros(10, np.uint8)})
    (bundle.folder / "golden.npz").write_bytes(bytes(150_000))
    sizes = [place.size_bytes for place in places_in(bundle, bundle.folder / "golden.npz")]
    assert sizes == [65536, 65536, 18928]
    (bundle.folder / "golden.npz").write_bytes(b"")
    assert list(places_in(bundle, bundle.folder / "golden.npz")) == []
