"""Frames become pixels exactly as in training, and what is not an RGB frame is refused by name."""

from __future__ import annotations

import contextlib
import importlib.resources
import io
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vla_edge.runtime.bundle.manifest import Preprocessing
from vla_edge.runtime.errors import ImageError, InputError
from vla_edge.runtime.preprocess import Preprocessor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SPEC = Preprocessing(
    height=224,
    width=224,
    color="rgb",
    fit="squash",
    resample="bilinear",
    antialias=True,
    scale=1 / 255,
    mean=MEAN,
    std=STD,
)
PHOTOS = sorted(
    path.name
    for path in importlib.resources.files("vla_edge.export.images").iterdir()
    if path.name.endswith(".jpg")
)
FORMATS = ["JPEG", "PNG", "BMP", "WEBP", "PPM", "TIFF", "MPO"]
BOUNDED = settings(max_examples=60, deadline=None)


def pixels_of(frame: Any, spec: Preprocessing = SPEC) -> np.ndarray:
    out = np.full((1, 3, spec.height, spec.width), np.nan, np.float32)
    Preprocessor(spec)(frame, out)
    return out


def training_transform(image: Image.Image, size: tuple[int, int] = (224, 224)) -> np.ndarray:
    """Resize, ToTensor and Normalize of torchvision on a Pillow image, in their own float32 order."""
    tensor = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    scaled = tensor.astype(np.float32) / np.float32(255)
    return (scaled - np.array(MEAN, np.float32)[:, None, None]) / np.array(STD, np.float32)[:, None, None]


def antialiased_bilinear(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """A triangle filter as wide as the scale, written out in float64."""

    def weights(source: int, target: int) -> np.ndarray:
        scale = source / target
        support = max(scale, 1.0)
        centres = (np.arange(target) + 0.5) * scale
        distance = np.abs(np.arange(source) + 0.5 - centres[:, None]) / support
        triangle = np.clip(1 - distance, 0, None)
        return triangle / triangle.sum(1, keepdims=True)

    rows, columns = weights(frame.shape[0], height), weights(frame.shape[1], width)
    return np.einsum("yh,hwc,xw->cyx", rows, frame.astype(np.float64), columns, optimize=True)


def refusal(frame: Any) -> ImageError:
    with pytest.raises(ImageError) as raised:
        pixels_of(frame)
    assert raised.value.hint
    return raised.value


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photograph_comes_out_as_from_the_training_transform(name: str, tmp_path: Path) -> None:
    with importlib.resources.as_file(importlib.resources.files("vla_edge.export.images") / name) as path:
        found = pixels_of(path)
        wanted = training_transform(Image.open(path))
    np.testing.assert_allclose(found[0], wanted, atol=1e-6)


@BOUNDED
@given(height=st.integers(8, 300), width=st.integers(8, 300), seed=st.integers(0, 2**32 - 1))
def test_any_size_comes_out_as_from_the_training_transform(height: int, width: int, seed: int) -> None:
    frame = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    np.testing.assert_allclose(pixels_of(frame)[0], training_transform(Image.fromarray(frame)), atol=1e-6)


@BOUNDED
@given(height=st.integers(8, 300), width=st.integers(8, 300), seed=st.integers(0, 2**32 - 1))
def test_resizing_is_antialiased_to_one_level_of_255(height: int, width: int, seed: int) -> None:
    frame = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    spec = msgspec.structs.replace(SPEC, height=32, width=48, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    exact = antialiased_bilinear(frame, 32, 48)
    assert np.abs(pixels_of(frame, spec)[0] * 255 - exact).max() <= 1.0 + 1e-3


def test_every_byte_becomes_the_nearest_float_to_its_exact_value() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    found = pixels_of(ramp, msgspec.structs.replace(SPEC, height=16, width=16))
    for channel in range(3):
        exact = (np.arange(256, dtype=np.float64) * (1 / 255) - MEAN[channel]) / STD[channel]
        np.testing.assert_array_equal(found[0, channel].ravel(), exact.astype(np.float32))


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "lanczos"])
def test_the_manifests_filter_is_the_one_used(name: Any, frame: np.ndarray) -> None:
    spec = msgspec.structs.replace(SPEC, resample=name, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    resized = Image.fromarray(frame).resize((224, 224), Image.Resampling[name.upper()])
    np.testing.assert_array_equal(
        np.rint(pixels_of(frame, spec)[0] * 255), np.asarray(resized).transpose(2, 0, 1)
    )


def test_width_and_height_are_not_exchanged(frame: np.ndarray) -> None:
    spec = msgspec.structs.replace(SPEC, height=20, width=40)
    wanted = training_transform(Image.fromarray(frame), (40, 20))
    np.testing.assert_allclose(pixels_of(frame, spec)[0], wanted, atol=1e-6)


def test_strided_and_read_only_frames_give_the_same_pixels(frame: np.ndarray) -> None:
    wanted = pixels_of(frame)
    wide = np.zeros((48, 128, 3), np.uint8)
    wide[:, ::2] = frame
    strided = wide[:, ::2]
    assert not strided.flags.c_contiguous
    np.testing.assert_array_equal(pixels_of(strided), wanted)
    np.testing.assert_array_equal(pixels_of(np.ascontiguousarray(frame[..., ::-1])[..., ::-1]), wanted)
    frozen = frame.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(pixels_of(frozen), wanted)


@pytest.mark.parametrize(
    "same",
    [
        lambda frame: np.asfortranarray(frame),
        lambda frame: np.ascontiguousarray(frame[::-1, ::-1, ::-1])[::-1, ::-1, ::-1],
        lambda frame: frame.astype(">u1"),
        lambda frame: frame.view(type("Subclass", (np.ndarray,), {})),
        lambda frame: np.broadcast_to(frame[None], (2, *frame.shape))[1],
    ],
    ids=["fortran", "negative", "big-endian", "subclass", "broadcast"],
)
@pytest.mark.parametrize("height", [224, 48])  # resized, and of the target size already
def test_the_layout_of_an_array_changes_nothing(frame: np.ndarray, same: Any, height: int) -> None:
    spec = msgspec.structs.replace(SPEC, height=height, width=64)
    np.testing.assert_array_equal(pixels_of(same(frame), spec), pixels_of(frame, spec))


@pytest.mark.parametrize("size", [(224, 224), (48, 64)])  # resized, and of the target size already
def test_an_array_of_opencv_gives_the_pixels_of_its_rgb_twin(
    frame: np.ndarray, size: tuple[int, int]
) -> None:
    spec = msgspec.structs.replace(SPEC, height=size[0], width=size[1])
    wanted = pixels_of(frame, spec)
    out = np.zeros_like(wanted)
    for bgr in (frame[..., ::-1], np.ascontiguousarray(frame[..., ::-1])):
        Preprocessor(spec, channels="bgr")(bgr, out)
        np.testing.assert_array_equal(out, wanted)
    Preprocessor(spec)(bgr, out)
    assert (out != wanted).any()


def test_files_and_pillow_images_say_themselves_which_channel_is_which(
    frame: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "frame.png"
    Image.fromarray(frame).save(path)
    out = np.zeros((3, 224, 224), np.float32)
    for same in (path, str(path), Image.fromarray(frame)):
        Preprocessor(SPEC, channels="bgr")(same, out)
        np.testing.assert_array_equal(out, pixels_of(frame)[0])


@pytest.mark.parametrize("channels", ["BGR", "rgba", "", None])
def test_an_unknown_order_of_channels_is_refused(channels: Any) -> None:
    with pytest.raises(InputError, match="are not known") as raised:
        Preprocessor(SPEC, channels=channels)
    assert "'bgr' for OpenCV" in raised.value.hint


def test_a_path_may_be_given_as_bytes_too(frame: np.ndarray, tmp_path: Path) -> None:
    class Entry:
        def __fspath__(self) -> bytes:
            return os.fsencode(tmp_path / "컵.png")

    Image.fromarray(frame).save(tmp_path / "컵.png")
    np.testing.assert_array_equal(pixels_of(Entry()), pixels_of(frame))


def test_a_masked_array_is_refused(frame: np.ndarray) -> None:
    error = refusal(np.ma.masked_greater(frame, 200))
    assert error.problem == "the frame is a masked array."
    assert "frame.filled(0)" in error.hint


def test_an_array_larger_than_any_camera_gives_is_refused_before_it_is_copied() -> None:
    endless = np.broadcast_to(np.zeros(3, np.uint8), (1 << 20, 1 << 20, 3))
    assert "exceed the limit" in refusal(endless).problem


def test_a_frame_of_the_target_size_is_not_resampled(frame: np.ndarray) -> None:
    spec = msgspec.structs.replace(SPEC, height=48, width=64)
    np.testing.assert_allclose(
        pixels_of(frame, spec)[0], training_transform(Image.fromarray(frame), (64, 48)), atol=1e-6
    )
    np.testing.assert_array_equal(pixels_of(frame, spec), pixels_of(Image.fromarray(frame), spec))


def test_an_array_an_image_and_a_file_give_the_same_pixels(frame: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "컵 frame.png"
    Image.fromarray(frame).save(path)
    wanted = pixels_of(frame)
    for same in (Image.fromarray(frame), path, str(path)):
        np.testing.assert_array_equal(pixels_of(same), wanted)


def test_the_frame_is_left_as_it_was(frame: np.ndarray) -> None:
    before = frame.copy()
    pixels_of(frame)
    np.testing.assert_array_equal(frame, before)


def test_pixels_are_written_in_place_without_the_batch_axis_too(frame: np.ndarray) -> None:
    out = np.zeros((3, 224, 224), np.float32)
    Preprocessor(SPEC)(frame, out)
    np.testing.assert_array_equal(out, pixels_of(frame)[0])


@pytest.mark.parametrize(
    "out", [np.zeros((1, 3, 10, 10), np.float32), np.zeros((1, 3, 224, 224), np.float64)]
)
def test_an_output_that_does_not_fit_is_refused(frame: np.ndarray, out: np.ndarray) -> None:
    with pytest.raises(ValueError, match="instead of float32"):
        Preprocessor(SPEC)(frame, out)


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_grey_and_palette_files_become_rgb(frame: np.ndarray, tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(frame).convert(mode)
    path = tmp_path / "grey.png"
    image.save(path)
    np.testing.assert_array_equal(pixels_of(path), pixels_of(image.convert("RGB")))


def test_an_opaque_rgba_file_is_its_rgb(frame: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "opaque.png"
    Image.fromarray(frame).convert("RGBA").save(path)
    np.testing.assert_array_equal(pixels_of(path), pixels_of(frame))


def test_a_transparent_rgba_file_is_refused(frame: np.ndarray, tmp_path: Path) -> None:
    image = Image.fromarray(frame).convert("RGBA")
    image.putpixel((3, 3), (1, 2, 3, 200))
    path = tmp_path / "logo.png"
    image.save(path)
    error = refusal(path)
    assert "logo.png is partly transparent (RGBA" in error.problem
    assert "save it as RGB" in error.hint


def test_a_palette_with_a_transparent_colour_is_refused(frame: np.ndarray, tmp_path: Path) -> None:
    image = Image.fromarray(frame).quantize(8)
    path = tmp_path / "icon.png"
    image.save(path, transparency=image.getpixel((0, 0)))
    assert "partly transparent" in refusal(path).problem


@pytest.mark.parametrize("mode", ["I;16", "F", "CMYK"])
def test_pixels_that_do_not_convert_without_loss_are_refused(mode: str) -> None:
    assert f"pixels of mode {mode!r}" in refusal(Image.new(mode, (64, 48))).problem


def test_files_are_turned_upright_as_their_exif_says(frame: np.ndarray, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    path = tmp_path / "phone.png"
    Image.fromarray(frame).save(path, exif=exif)
    np.testing.assert_array_equal(pixels_of(path), pixels_of(np.rot90(frame, -1)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_float_frames_are_refused_with_the_conversion(frame: np.ndarray, dtype: Any) -> None:
    error = refusal(frame.astype(dtype) / 255)
    assert f"the frame is {np.dtype(dtype).name} [48, 64, 3] instead of uint8" in error.problem
    assert "(frame * 255).round().astype(np.uint8)" in error.hint


@pytest.mark.parametrize("dtype", [np.uint16, np.int64, bool])
def test_other_integers_are_refused(frame: np.ndarray, dtype: Any) -> None:
    assert f"is {np.dtype(dtype).name}" in refusal(frame.astype(dtype)).problem


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((48, 64), "It is grey; repeat its channel"),
        ((48, 64, 1), "It is grey; repeat its channel"),
        ((48, 64, 4), "drop it: frame[..., :3]"),
        ((3, 48, 64), "frame.transpose(1, 2, 0)"),
        ((1, 48, 64, 3), "It is a batch"),
        ((64,), "Give an RGB frame"),
        ((48, 64, 2), "Give an RGB frame"),
    ],
)
def test_frames_of_another_shape_are_refused_with_the_way_out(shape: tuple[int, ...], hint: str) -> None:
    error = refusal(np.zeros(shape, np.uint8))
    assert f"the frame has shape {list(shape)} instead of [height, width, 3]" in error.problem
    assert hint in error.hint


def test_the_way_out_for_a_grey_array_works(frame: np.ndarray) -> None:
    grey = frame[..., 0]
    assert pixels_of(np.repeat(grey.reshape(*grey.shape[:2], 1), 3, axis=2)).shape == (1, 3, 224, 224)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 640), (480, 7), (0, 640), (0, 0)])
def test_a_frame_too_small_for_a_camera_is_refused_with_its_size(height: int, width: int) -> None:
    assert f"the frame is {width}x{height} pixels" in refusal(np.zeros((height, width, 3), np.uint8)).problem


def test_a_file_of_one_pixel_is_refused_with_its_size(tmp_path: Path) -> None:
    path = tmp_path / "dot.png"
    Image.new("RGB", (1, 1)).save(path)
    assert refusal(path).problem == f"{path} is 1x1 pixels; a frame has at least 8 on each side."


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    path = tmp_path / "empty.jpg"
    path.touch()
    assert refusal(path).problem == f"{path} is empty."


def test_a_file_that_is_not_an_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.jpg"
    path.write_text("not a picture")
    assert refusal(path).problem == f"{path} is not an image."


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    missing = tmp_path / "gone.png"
    assert refusal(missing).problem == f"{missing} cannot be read: No such file or directory."
    assert refusal(tmp_path).problem == f"{tmp_path} cannot be read: Is a directory."


def test_a_truncated_jpeg_is_refused(frame: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    Image.fromarray(frame).resize((640, 480)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    error = refusal(path)
    assert f"{path} cannot be decoded: image file is truncated" in error.problem
    assert error.hint == "It is damaged or truncated."


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("factor", [1.5, 3.0])  # where Pillow only warns, and where it raises
def test_a_decompression_bomb_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    path = tmp_path / "bomb.png"
    Image.new("RGB", (100, 100)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(10_000 / factor))
    error = refusal(path)
    assert f"{path} is refused" in error.problem
    assert "Scale it down first" in error.hint


@pytest.mark.parametrize("frame", [None, 5, b"\xff\xd8", [[0, 0, 0]]])
def test_what_is_no_frame_at_all_is_refused(frame: Any) -> None:
    error = refusal(frame)
    assert error.problem == f"a frame cannot be a {type(frame).__name__}."
    assert "uint8 RGB array" in error.hint


def encoded(frame: np.ndarray, form: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@BOUNDED
@given(data=st.data())
def test_damaged_files_are_read_or_refused_but_never_crash(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    rng = np.random.default_rng(0)
    content = bytearray(
        encoded(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8), data.draw(st.sampled_from(FORMATS)))
    )
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    with contextlib.suppress(ImageError):
        assert np.isfinite(pixels_of(path)).all()
