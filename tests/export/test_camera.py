"""An export with a camera: what was judged is what the robot's frames go through, whatever their size."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from foreign_export import export_foreign
from msgspec.structs import asdict, replace
from PIL import Image

from vla_edge.export.bundle.camera import parse_camera, put_camera
from vla_edge.export.bundle.gates import GatesMissedError
from vla_edge.export.bundle.samples.frames import GoldenFrames, image_frames, require_room
from vla_edge.export.cli import command
from vla_edge.export.graph.resize import write_frame
from vla_edge.export.graph.writer import GraphWriter, Value
from vla_edge.export.kosmos2.family import FAMILY
from vla_edge.export.pipeline import ExportOptions, export_bundle
from vla_edge.runtime import Policy
from vla_edge.runtime.batch import BatchPolicy
from vla_edge.runtime.bundle.bundle import Bundle, load_golden
from vla_edge.runtime.bundle.manifest import Camera, Preprocessing
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.preprocess import Preprocessor

Exports = Callable[..., Bundle]
LAYOUTS = [
    ("pure", "none"),
    ("hybrid-a", "open_clip"),
    ("hybrid-b", "transformers"),
    ("hybrid-c", "transformers"),
]
# Of the target of 28 x 28 itself, smaller on a side, and upright. The bytes of any size: graph/test_resize.py beside.
SIZES = [(28, 28), (9, 400), (131, 61)]


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory, checkpoint_of: Callable[..., Path]) -> Exports:
    """Exports a tiny policy with a camera, once."""
    made: dict[str, Bundle] = {}

    def export(
        height: int,
        width: int,
        channels: str = "rgb",
        layout: str = "pure",
        form: str = "none",
        precision: str = "fp16",
        **options: Any,
    ) -> Bundle:
        camera = Camera(height=height, width=width, channels=channels)  # type: ignore[arg-type]
        key = repr((camera, layout, form, precision, options))
        if key not in made:
            output = tmp_path_factory.mktemp("cameras")
            asked = ExportOptions(checkpoint_of(layout, form), output, (precision,), camera=camera, **options)
            made[key] = Bundle.open(export_bundle(asked)[0].folder)
        return made[key]

    return export


@pytest.mark.parametrize(("layout", "form"), LAYOUTS)
@pytest.mark.parametrize(("precision", "channels"), [("fp16", "rgb"), ("fp32", "bgr")])
def test_every_layout_keeps_its_gates_through_its_camera(
    exports: Exports, bundle_of: Callable[..., Path], layout: str, form: str, channels: str, precision: str
) -> None:
    bundle = exports(72, 128, channels, layout, form, precision)
    manifest = bundle.manifest
    plain = Bundle.open(bundle_of(layout, form, precision)).manifest
    assert [stage.name for stage in manifest.stages] == ["camera", *(stage.name for stage in plain.stages)]
    errors = {error.stage: error.relative_l2 for error in manifest.parity.errors}
    assert errors["camera"] < 1e-5  # Pillow's bytes
    assert (manifest.parity.gates[0].stage, manifest.parity.gates[0].limit) == ("camera", 1e-3)
    assert manifest.parity.max_abs == pytest.approx(plain.parity.max_abs, abs=5e-3)
    frame = np.random.default_rng(5).integers(0, 256, (72, 128, 3), dtype=np.uint8)
    with (
        Policy.load(bundle.folder, "onnxruntime") as seeing,
        Policy.load(bundle_of(layout, form, precision), "onnxruntime") as prepared,
    ):
        taken, wanted = seeing.act(seeing.in_order(frame)), prepared.act(frame)
    assert taken.raw == pytest.approx(wanted.raw, abs=1e-4)


@pytest.mark.parametrize(
    ("size", "resample"),
    [*((size, "bilinear") for size in SIZES), ((480, 641), "bicubic"), ((17, 23), "lanczos")],
)
def test_any_size_of_a_camera_gives_what_pillow_gives(
    exports: Exports, size: tuple[int, int], resample: str
) -> None:
    bundle = exports(*size, settings={"image_resample": resample})
    assert bundle.manifest.preprocessing.resample == resample
    errors = {error.stage: error.max_abs for error in bundle.manifest.parity.errors}
    level = bundle.manifest.preprocessing.scale / min(bundle.manifest.preprocessing.std)
    assert errors["camera"] < 0.01 * level


@pytest.mark.parametrize("fault", ["channels", "filter", "mean"])
def test_a_camera_that_is_written_wrongly_is_caught_by_its_gate(
    checkpoint_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def write_wrongly(
        graph: GraphWriter, frame: Value, spec: Preprocessing, channels: str, name: str
    ) -> Value:
        if fault == "filter":
            spec = replace(spec, resample="bicubic")
        if fault == "mean":
            spec = replace(spec, mean=(0.5, 0.5, 0.5))
        return write_frame(graph, frame, spec, "rgb", name)

    monkeypatch.setattr("vla_edge.export.graph.resize.write_frame", write_wrongly)
    camera = Camera(height=72, width=128, channels="bgr" if fault == "channels" else "rgb")
    with pytest.raises(GatesMissedError, match="camera"):
        export_bundle(ExportOptions(checkpoint_of(), tmp_path, camera=camera))
    assert not list(tmp_path.iterdir())


def test_golden_samples_are_frames_and_pytorch_saw_them_as_pillow_makes_them(exports: Exports) -> None:
    bundle = exports(60, 100, "bgr")
    golden = load_golden(bundle)
    assert golden["frame"].dtype == np.uint8
    assert golden["frame"].shape == (10, 60, 100, 3)
    with np.load(bundle.folder / "golden.npz") as archive:
        assert "pixel_values" not in archive
    spec = bundle.manifest.preprocessing
    out = np.empty((3, spec.height, spec.width), np.float32)
    for frame, pixels in zip(golden["frame"], golden["pixel_values"], strict=True):
        Preprocessor(spec, "bgr")(np.ascontiguousarray(frame), out)
        np.testing.assert_array_equal(out, pixels)
    assert len({frame.tobytes() for frame in golden["frame"]}) == 10


def test_the_rest_of_the_graph_is_that_without_a_camera(
    exports: Exports, bundle_of: Callable[..., Path]
) -> None:
    with_camera = onnx.load(exports(72, 128).folder / "model.onnx", load_external_data=False).graph
    without = onnx.load(bundle_of() / "model.onnx", load_external_data=False).graph
    first = len(with_camera.node) - len(without.node)
    assert with_camera.node[first - 1].output[0] == "pixel_values"
    for found, wanted in zip(with_camera.node[first:], without.node, strict=True):
        assert found == wanted
    names = [weight.name for weight in with_camera.initializer]
    assert {weight.name for weight in without.initializer} <= set(names)
    assert with_camera.input[0].name == "frame"


def test_a_cut_named_camera_ends_it_and_nothing_but_pixels_crosses(
    exports: Exports, bundle_of: Callable[..., Path]
) -> None:
    manifest, plain = exports(72, 128).manifest, Bundle.open(bundle_of()).manifest
    assert manifest.cuts[0].name == "camera"
    assert [tensor.name for tensor in manifest.cuts[0].tensors] == ["pixel_values"]
    assert manifest.cuts[1:] == plain.cuts


def test_a_camera_changes_no_key_of_what_follows(exports: Exports, bundle_of: Callable[..., Path]) -> None:
    """Nor does another camera: plans of the other parts are built once."""
    from vla_edge.export.parts.graph import read_graph
    from vla_edge.export.parts.keys import WeightHashes, key_of
    from vla_edge.export.parts.split import split

    def keys(folder: Path) -> dict[str, str]:
        bundle = Bundle.open(folder)
        graph = read_graph(bundle)
        cuts = [cut.name for cut in bundle.manifest.cuts]
        hashes = WeightHashes(graph, folder / "model.onnx.data")
        return {part.name: key_of(part, hashes).content_sha256 for part in split(graph, cuts)}

    plain, one, other = keys(bundle_of()), keys(exports(72, 128).folder), keys(exports(48, 64, "bgr").folder)
    assert one.pop("camera") != other.pop("camera")
    assert one == other == plain


def test_a_batch_of_frames_is_exported_and_compared(exports: Exports) -> None:
    bundle = exports(40, 50, batch=3)
    assert bundle.manifest.inputs[0].shape == (3, 40, 50, 3)
    frames = list(np.random.default_rng(4).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8))
    with BatchPolicy.load(bundle.folder, "onnxruntime") as policy:
        first, *_ = policy.act(frames)
        again = policy.act(frames[:1])
    assert first.raw == pytest.approx(again[0].raw, abs=1e-6)  # type: ignore[union-attr]


def test_a_batch_that_no_call_may_take_is_refused_before_it_runs(
    checkpoint_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object) -> None:
        raise AssertionError("ran")

    monkeypatch.setattr("vla_edge.export.bundle.samples.golden.run_reference", run)
    camera = Camera(height=4096, width=4096, channels="rgb")
    with pytest.raises(InputError) as raised:
        export_bundle(ExportOptions(checkpoint_of(), tmp_path, camera=camera, batch=11))
    assert "would take 553" in raised.value.problem
    assert "at most 536870912" in raised.value.problem
    assert "--batch" in raised.value.hint
    assert not list(tmp_path.iterdir())


def test_state_is_carried_behind_a_camera(exports: Exports) -> None:
    bundle = exports(40, 50, settings={"lstm": "carried"})
    frame = np.random.default_rng(4).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    with Policy.load(bundle.folder, "onnxruntime") as policy:
        first, second = policy.act(frame), policy.act(frame)
        policy.reset()
        assert policy.act(frame).raw == first.raw != second.raw


@pytest.mark.usefixtures("toy")
def test_a_family_of_another_package_gets_a_camera_without_knowing(
    install: Callable[..., None], tmp_path: Path
) -> None:
    golden = export_foreign(install, tmp_path, camera=Camera(height=30, width=40, channels="bgr"))
    assert golden["frame"].shape == (10, 30, 40, 3)
    assert golden["pixel_values"].shape[1] == 3


def test_own_images_are_resized_to_the_camera_and_the_note_names_one(tmp_path: Path) -> None:
    for at in range(8):
        size = (64, 48) if at else (32, 24)
        Image.effect_noise(size, 60 + at).convert("RGB").save(tmp_path / f"{at}.png")
    camera = Camera(height=48, width=64, channels="rgb")
    taken = images(tmp_path, camera)
    assert taken.frames is not None
    np.testing.assert_array_equal(taken.frames[1], np.asarray(Image.open(tmp_path / "1.png")))
    assert taken.resized == "0.png of 32x24"
    assert images(None, camera).resized == ""  # the packaged ones are, which is no news
    assert images(tmp_path, None).frames is None


def images(folder: Path | None, camera: Camera | None) -> GoldenFrames:
    from tiny_bundle import PREPROCESSING

    return image_frames(folder, PREPROCESSING, camera)


def test_more_frames_than_a_bundle_holds_are_refused_before_they_are_read() -> None:
    require_room(80, Camera(height=1080, width=1920, channels="rgb"))
    with pytest.raises(
        InputError, match=r"250 frames of 1920 by 1080 pixels take 1555200000 bytes"
    ) as raised:
        require_room(250, Camera(height=1080, width=1920, channels="rgb"))
    assert "--samples" in raised.value.hint


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("720x1280", (720, 1280)),
        ("480x640", (480, 640)),
        ("8x8", (8, 8)),
        ("4096x4096", (4096, 4096)),
        ("h1280xw720", (1280, 720)),
        ("h720xw1280", (720, 1280)),
    ],
)
def test_a_camera_is_height_by_width(text: str, size: tuple[int, int]) -> None:
    camera = parse_camera(text, bgr=False)
    assert (camera.height, camera.width, camera.channels) == (*size, "rgb")
    assert asdict(parse_camera(text, bgr=True))["channels"] == "bgr"


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("1280x720", "1280 high and only 720 wide", "Give --camera 720x1280;"),
        ("1280x720", "height x width", "--camera h1280xw720"),
        ("h1280x720", "1280 high and only 720 wide", "--camera h1280xw720"),
        ("0x640", "a side has 8 to 4096 pixels", "720x1280"),
        ("7x640", "a side has 8 to 4096 pixels", "720x1280"),
        ("480x4097", "a side has 8 to 4096 pixels", "720x1280"),
        ("480x0000000640", "is no size of frames", "720x1280"),
        ("720", "is no size of frames", "height x width"),
        ("720x", "is no size of frames", "height x width"),
        ("720×1280", "is no size of frames", "height x width"),
        ("-720x1280", "is no size of frames", "height x width"),
        ("7.5x9", "is no size of frames", "height x width"),
        ("/dev/video0\x1b[31m", "is no size of frames", "height x width"),
        ("", "is no size of frames", "height x width"),
    ],
)
def test_what_is_no_camera_is_refused_with_what_to_give(text: str, problem: str, hint: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_camera(text, bgr=False)
    assert problem in raised.value.problem
    assert hint in raised.value.hint


def test_bgr_alone_is_refused() -> None:
    found = CliRunner().invoke(command, ["--ckpt", "any.pth", "--bgr"])
    assert found.exit_code == 2
    assert "--bgr is about the frames of --camera" in found.output


def graph_of(stage: str = "", output: str = "actions") -> GraphWriter:
    graph = GraphWriter()
    pixels = graph.input("pixel_values", "float32", (1, 3, 16, 16))
    value: Value = graph.unary("Tanh", pixels)
    if stage:
        graph.stage(stage, value)
    graph.output(output, value)
    return graph


@pytest.mark.parametrize("fields", [{"stage": "camera"}, {"output": "frame"}])
def test_a_graph_that_has_these_names_already_is_refused(fields: dict[str, str]) -> None:
    from tiny_bundle import PREPROCESSING

    with pytest.raises(InputError, match="'kosmos2' cannot be exported with a camera"):
        put_camera(graph_of(**fields), FAMILY, Camera(height=9, width=9, channels="rgb"), PREPROCESSING)


def test_the_command_exports_with_a_camera_and_says_so(
    checkpoint_of: Callable[..., Path], tmp_path: Path
) -> None:
    asked = ["--ckpt", str(checkpoint_of()), "-o", str(tmp_path), "--camera", "48x64", "--bgr", "--no-build"]
    found = CliRunner().invoke(command, asked)
    assert found.exit_code == 0, found.output
    assert "takes a camera's frames as they are: 64 wide, 48 high, BGR" in " ".join(found.output.split())
    assert "IMAGE (64 by 48)" in " ".join(found.output.split())
    manifest = json.loads(next(tmp_path.glob("*/manifest.json")).read_bytes())
    assert manifest["camera"] == {"height": 48, "width": 64, "channels": "bgr"}
