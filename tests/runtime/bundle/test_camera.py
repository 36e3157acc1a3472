"""A camera in a manifest: its size is the input's, and whatever else it says is refused where it stands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_edge.runtime.bundle.bundle import Bundle, load_golden
from vla_edge.runtime.bundle.golden import golden_limit_bytes
from vla_edge.runtime.bundle.manifest_file import decode
from vla_edge.runtime.errors import BundleError

Change = Callable[[dict[str, Any]], object]
CAMERA = {"height": 48, "width": 64, "channels": "rgb"}


@pytest.fixture(scope="module")
def with_camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_bundle import Tiny, write_bundle

    return write_bundle(tmp_path_factory.mktemp("cameras") / "tiny", Tiny(camera=(48, 64, "rgb")))


def refusal(folder: Path, change: Change) -> str:
    fields = json.loads((folder / "manifest.json").read_bytes())
    change(fields)
    with pytest.raises(BundleError) as raised:
        decode(json.dumps(fields).encode())
    return raised.value.problem


def test_a_manifest_from_before_has_no_camera(pristine_bundle: Path) -> None:
    fields = json.loads((pristine_bundle / "manifest.json").read_bytes())
    assert "camera" not in fields  # so that what is exported without one reads and hashes as it did
    manifest = decode(json.dumps(fields).encode())
    assert manifest.camera is None
    assert decode(json.dumps({**fields, "camera": None}).encode()) == manifest
    assert manifest.image_input is manifest.input_of("pixels")


def test_the_frame_is_the_image_input_and_says_the_batch(with_camera: Path) -> None:
    manifest = Bundle.open(with_camera).manifest
    assert manifest.camera is not None
    assert manifest.image_input is manifest.input_of("frame")
    assert manifest.batch == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m["stages"].pop(0), "a camera and no stage 'camera' of [1, 3, 16, 16]"),
        (lambda m: m["stages"][0].update(shape=[1, 3, 16, 17]), "a camera and no stage 'camera' of"),
        (
            lambda m: m["stages"][0].update(tensor="actions"),
            "'camera' has not the shape of the tensor 'actions'",
        ),
        (lambda m: m.update(camera=None), "frame uint8 [1, 48, 64, 3] is of no camera"),
        (lambda m: m["camera"].update(height=49), "is not of its camera, 49 high and 64 wide"),
        (lambda m: m["camera"].update(height=64, width=48), "is not of its camera, 64 high and 48 wide"),
        (lambda m: m["camera"].update(channels="gbr"), "at `$.camera.channels`"),
        (lambda m: m["camera"].update(height=7), "at `$.camera.height`"),
        (lambda m: m["camera"].update(width=4097), "at `$.camera.width`"),
        (lambda m: m["camera"].update(width=10**400), "at `$.camera.width`"),
        (lambda m: m["camera"].update(lens="wide"), "unknown field `lens`"),
        (lambda m: m["inputs"][0].update(shape=[1, 64, 48, 3]), "frame uint8 [1, 64, 48, 3] is not of its"),
        (lambda m: m["inputs"][0].update(shape=[1, 3, 48, 64]), "frame uint8 [1, 3, 48, 64] is not of its"),
        (lambda m: m["inputs"][0].update(shape=[48, 64, 3]), "has to be uint8 of rank 4"),
        (lambda m: m["inputs"][0].update(dtype="float32"), "has to be uint8 of rank 4"),
        (lambda m: m["inputs"][0].update(role="pixels"), "has to be float32 of rank 4"),
        (lambda m: m["inputs"][0].update(role="other"), "a camera and no input for its frames"),
        (
            lambda m: m["inputs"].append(
                {"name": "p", "dtype": "float32", "shape": [1, 3, 16, 16], "role": "pixels"}
            ),
            "it takes both pixels and frames",
        ),
        (lambda m: m["inputs"].append({**m["inputs"][0], "name": "p"}), "two inputs have the role 'frame'"),
        (
            lambda m: m["cuts"][0]["tensors"][0].update(dtype="uint8"),
            "text uint8 [1, 4] is in bytes, which only a frame is",
        ),
        (
            lambda m: m["outputs"].append({"name": "o", "dtype": "uint8", "shape": [1], "role": "other"}),
            "o uint8 [1] is in bytes",
        ),
        (
            lambda m: (
                m["camera"].update(height=4096, width=4096)
                or m["inputs"][0].update(shape=[64, 4096, 4096, 3])
            ),
            "its inputs and outputs take",
        ),
    ],
)
def test_a_camera_that_does_not_fit_its_graph_is_refused_where_it_stands(
    with_camera: Path, change: Change, words: str
) -> None:
    assert words in refusal(with_camera, change)


def test_a_camera_of_a_graph_that_takes_pixels_is_refused(pristine_bundle: Path) -> None:
    assert "a camera and no input for its frames" in refusal(
        pristine_bundle, lambda m: m.update(camera=CAMERA)
    )


@settings(max_examples=200, deadline=None)
@given(
    camera=st.none()
    | st.fixed_dictionaries(
        {
            "height": st.integers(-1, 5000) | st.just(48),
            "width": st.integers(-1, 5000) | st.just(64),
            "channels": st.sampled_from(["rgb", "bgr", "yuv", ""]),
        }
    ),
    shape=st.just([1, 48, 64, 3]) | st.lists(st.integers(0, 1 << 29), max_size=5),
    dtype=st.sampled_from(["uint8", "float32", "int32", "bool"]),
    role=st.sampled_from(["frame", "pixels", "other", "camera"]),
)
def test_whatever_a_manifest_says_of_cameras_what_is_read_fits_together(
    with_camera: Path, camera: Any, shape: list[int], dtype: str, role: str
) -> None:
    fields = json.loads((with_camera / "manifest.json").read_bytes())
    fields["camera"] = camera
    fields["inputs"][0].update(shape=shape, dtype=dtype, role=role)
    try:
        manifest = decode(json.dumps(fields).encode())
    except BundleError:
        return
    frame = manifest.input_of("frame")
    assert (manifest.camera is None) == (frame is None)
    if manifest.camera and frame:
        assert frame.dtype == "uint8"
        assert frame.shape[1:] == (manifest.camera.height, manifest.camera.width, 3)


def test_golden_frames_are_read_as_bytes_within_what_they_take(with_camera: Path) -> None:
    bundle = Bundle.open(with_camera)
    frames = load_golden(bundle)["frame"]
    assert (frames.dtype, frames.shape) == (np.uint8, (8, 48, 64, 3))
    assert load_golden(bundle)["pixel_values"].shape == (8, 3, 16, 16)  # what PyTorch was given
    limit = golden_limit_bytes(bundle.manifest)
    size = (with_camera / "golden.npz").stat().st_size
    assert size <= limit < size + 8 * 4 * 4096 + (80 << 10)  # of names at their longest, and headers


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda arrays: arrays.pop("frame"), "it lacks frame"),
        (lambda arrays: arrays.update(pixel_values=np.zeros((8, 3, 16, 16), np.float32)), "unknown array"),
        (lambda arrays: arrays.update(frame=arrays["frame"].astype(np.int8)), "frame is int8"),
        (lambda arrays: arrays.update(frame=arrays["frame"][:, :40]), r"frame is uint8 \[8, 40, 64, 3\]"),
        (lambda arrays: arrays.update(frame=np.zeros((8, 480, 640, 3), np.uint8)), "at most"),
    ],
)
def test_golden_frames_that_do_not_fit_the_camera_are_refused(
    make_bundle: Callable[..., Path], relist: Callable[[Path], None], change: Change, words: str
) -> None:
    folder = make_bundle(camera=(48, 64, "rgb"))
    with np.load(folder / "golden.npz") as archive:
        arrays = dict(archive)
    change(arrays)
    np.savez(folder / "golden.npz", **arrays)
    relist(folder)
    with pytest.raises(BundleError, match=words):
        load_golden(Bundle.open(folder))
