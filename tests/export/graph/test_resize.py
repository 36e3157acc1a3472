"""A frame resized in the graph is Pillow's, to the byte."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import onnxruntime
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from PIL import Image

from vla_edge.export.graph.resize import resize_matrix, write_frame
from vla_edge.export.graph.writer import GraphWriter
from vla_edge.runtime.bundle.manifest import Channels, Preprocessing
from vla_edge.runtime.preprocess import Preprocessor

Kind = Literal["bilinear", "bicubic", "lanczos"]
KINDS = get_args(Kind)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
EXACT = 1e-4  # of a level of 255: what float32 loses in normalising, and undoing it
SIZES = st.integers(1, 90)
CONTENTS = ("noise", "extremes", "edges", "flat", "ramp", "grid")


def spec(height: int, width: int, kind: Kind) -> Preprocessing:
    return Preprocessing(
        height=height,
        width=width,
        color="rgb",
        fit="squash",
        resample=kind,
        antialias=True,
        scale=1 / 255,
        mean=CLIP_MEAN,
        std=CLIP_STD,
    )


def in_graph(frames: np.ndarray, preprocessing: Preprocessing, channels: Channels = "rgb") -> np.ndarray:
    """What the nodes make of uint8 [B, H, W, 3], by ONNX Runtime."""
    graph = GraphWriter()
    pixels = write_frame(
        graph, graph.input("frame", "uint8", frames.shape), preprocessing, channels, "pixels"
    )
    graph.output("out", pixels)
    model = graph.model("0", "frame")
    model.graph.initializer.extend(
        numpy_helper.from_array(weight.load(), weight.value.name) for weight in graph.weights
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(["out"], {"frame": frames})[0]


def levels(pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Normalised values as levels of 255 again, not rounded."""
    std, mean = (np.reshape(values, (3, 1, 1)) for values in (preprocessing.std, preprocessing.mean))
    return (pixels * std + mean) / preprocessing.scale


def difference(frames: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """By how many levels of 255 each pixel of RGB frames is off what Pillow makes of them."""
    size = (preprocessing.width, preprocessing.height)
    kind = getattr(Image.Resampling, preprocessing.resample.upper())
    pillow = np.stack([np.asarray(Image.fromarray(frame).resize(size, kind)) for frame in frames])
    return np.abs(levels(in_graph(frames, preprocessing), preprocessing) - pillow.transpose(0, 3, 1, 2))


def picture(content: str, height: int, width: int, seed: int) -> np.ndarray:
    """uint8 [1, height, width, 3]."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((height, width))
    if content == "noise":
        return rng.integers(0, 256, (1, height, width, 3), np.uint8)
    if content == "extremes":
        return rng.choice(np.array([0, 255], np.uint8), (1, height, width, 3))
    if content == "flat":
        plane = np.full((height, width), rng.integers(0, 256))
    elif content == "ramp":
        plane = rows * rng.integers(1, 9) + columns * rng.integers(1, 9)
    else:
        period = rng.integers(1, 9) if content == "grid" else max(height, width)
        at = rng.integers(0, max(height, width), 2)
        plane = ((rows + at[0]) // period + (columns + at[1]) // period) % 2 * 255
    return np.repeat((plane % 256).astype(np.uint8)[None, :, :, None], 3, axis=3)


@pytest.mark.parametrize("kind", KINDS)
@given(
    size=st.tuples(SIZES, SIZES),
    target=st.tuples(SIZES, SIZES),
    content=st.sampled_from(CONTENTS),
    seed=st.integers(0, 2**32 - 1),
)
@example(size=(2, 30), target=(6, 17), content="ramp", seed=1)  # FP32's own sums: two levels off
@example(size=(1, 1), target=(90, 90), content="noise", seed=0)
@example(size=(90, 90), target=(1, 1), content="noise", seed=0)
@example(size=(1, 600), target=(40, 3), content="extremes", seed=0)
@example(size=(500, 1), target=(7, 33), content="extremes", seed=0)
@example(size=(37, 53), target=(37, 53), content="noise", seed=0)
@example(size=(37, 53), target=(37, 20), content="extremes", seed=0)
@example(size=(37, 53), target=(60, 53), content="extremes", seed=0)
@settings(max_examples=120, deadline=None)
def test_any_frame_of_any_size_is_resized_to_the_byte_as_by_pillow(
    kind: Kind, size: tuple[int, int], target: tuple[int, int], content: str, seed: int
) -> None:
    frames = picture(content, *size, seed)
    assert difference(frames, spec(*target, kind)).max() < EXACT


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(480, 640), (720, 1280), (1080, 1920), (479, 641), (1280, 720)])
def test_frames_of_cameras_are_resized_to_the_byte(kind: Kind, size: tuple[int, int]) -> None:
    for content in CONTENTS:
        assert difference(picture(content, *size, seed=0), spec(224, 224, kind)).max() < EXACT


def test_a_frame_of_the_target_s_size_is_left_to_the_byte() -> None:
    assert difference(picture("noise", 31, 17, seed=1), spec(31, 17, "bicubic")).max() < EXACT


@pytest.mark.parametrize("channels", get_args(Channels))
def test_pixels_are_those_of_a_robot_that_prepares_them_itself(channels: Channels) -> None:
    preprocessing = spec(31, 17, "bilinear")  # no pass, so that all that is left is normalisation
    frame = picture("noise", 31, 17, seed=2)[0]
    expected = np.empty((1, 3, 31, 17), np.float32)
    Preprocessor(preprocessing, channels)(frame, expected)
    np.testing.assert_allclose(in_graph(frame[None], preprocessing, channels), expected, atol=1e-6)


def test_a_frame_of_another_order_gives_the_same_pixels() -> None:
    frames = picture("noise", 48, 64, seed=2)
    preprocessing = spec(32, 32, "bilinear")
    swapped = np.ascontiguousarray(frames[..., ::-1])
    np.testing.assert_array_equal(
        in_graph(swapped, preprocessing, "bgr"), in_graph(frames, preprocessing, "rgb")
    )


def test_each_frame_of_a_batch_is_resized_by_itself() -> None:
    frames = np.concatenate([picture(content, 48, 64, seed=3) for content in CONTENTS])
    preprocessing = spec(32, 20, "lanczos")
    together = in_graph(frames, preprocessing)
    assert together.shape == (len(CONTENTS), 3, 32, 20)
    for frame, pixels in zip(frames, together, strict=True):
        np.testing.assert_allclose(in_graph(frame[None], preprocessing)[0], pixels, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("size", "target"), [(1280, 224), (64, 224), (17, 5), (5, 17), (3, 1), (1, 3)])
def test_weights_are_what_pillow_answers_to_single_pixels(kind: Kind, size: int, target: int) -> None:
    """A white pixel on black, one a row, resized along rows only: each result is 255 times a weight."""
    lit = Image.fromarray(np.eye(size, dtype=np.uint8) * 255)
    answers = np.asarray(lit.resize((target, size), getattr(Image.Resampling, kind.upper()))).T
    expected = np.floor(resize_matrix(kind, size, target).astype(np.float64) * 255 + 0.5)
    np.testing.assert_array_equal(expected.clip(0, 255), answers)


@pytest.mark.parametrize("kind", KINDS)
@given(size=SIZES, target=SIZES)
@settings(max_examples=50, deadline=None)
def test_sums_of_high_bits_fit_float32(kind: Kind, size: int, target: int) -> None:
    assert np.abs(resize_matrix(kind, size, target)).sum(axis=1).max() < 2


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_exact_in_float32(kind: Kind) -> None:
    matrix = resize_matrix(kind, 1920, 224).astype(np.float64) * (1 << 22)
    np.testing.assert_array_equal(matrix, np.round(matrix))
    np.testing.assert_allclose(matrix.sum(axis=1), 1 << 22, atol=60)


def test_the_result_has_the_name_that_is_asked_for() -> None:
    graph = GraphWriter()
    frame = graph.input("frame", "uint8", (1, 48, 64, 3))
    assert write_frame(graph, frame, spec(32, 32, "bilinear"), "rgb", "seen").name == "seen"
