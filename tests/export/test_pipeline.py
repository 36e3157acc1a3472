"""From a checkpoint to a checked bundle, and everything that must leave nothing behind."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest
import torch
from known_layouts import LAYOUTS

from vla_edge.export import resources
from vla_edge.export.bundle.parity import measure_bundle, measure_graph
from vla_edge.export.kosmos2.settings_rules import RULES
from vla_edge.export.pipeline import ExportOptions, export_bundle
from vla_edge.export.screen.reporter import Silent
from vla_edge.runtime.bundle.bundle import Bundle, load_golden
from vla_edge.runtime.errors import (
    CheckpointError,
    EngineError,
    ImageError,
    InputError,
    ParityError,
    ResourceError,
)
from vla_edge.runtime.policy import Policy


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize(("layout", "form"), LAYOUTS)
def test_every_layout_becomes_a_bundle_whose_actions_are_the_policys(bundle_of, layout, form) -> None:
    bundle = Bundle.open(bundle_of(layout, form, "fp16"))
    manifest, golden = bundle.manifest, load_golden(bundle)
    assert manifest.source.layout == layout
    assert manifest.precision.achieved == "fp16"
    assert manifest.parity.samples == len(golden["names"]) >= 8
    photographs = [name for name in golden["names"] if name.endswith(".jpg")]
    assert len(photographs) >= 4
    assert np.ptp(golden["actions"], axis=0).max() > 1e-3, "different images must give different actions"
    with Policy.load(bundle.folder, backend="onnxruntime") as policy:
        for at in range(3):
            text = manifest.instructions[int(golden["instruction_index"][at])].text
            action = policy.act_preprocessed(golden["pixel_values"][at : at + 1], text)
            np.testing.assert_allclose(np.ravel(action.raw), golden["actions"][at][0], atol=0.01)


def test_an_fp32_bundle_is_a_thousand_times_closer_than_an_fp16_bundle(bundle_of) -> None:
    single, half = (measure_bundle(Bundle.open(bundle_of("pure", "none", name))) for name in ("fp32", "fp16"))
    for a, b in zip(single.errors, half.errors, strict=True):
        assert a.relative_l2 < 1e-4 < b.relative_l2 < 0.03


def test_the_data_file_holds_no_more_than_the_policy_uses(bundle_of) -> None:
    folder = bundle_of("pure", "none", "fp16")
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    width = {onnx.TensorProto.FLOAT16: 2, onnx.TensorProto.FLOAT: 4}
    used = sum(
        int(np.prod(tensor.dims)) * width[tensor.data_type]
        for tensor in model.graph.initializer
        if tensor.external_data
    )
    assert (folder / "model.onnx.data").stat().st_size <= 1.01 * used + 4096


def test_both_precisions_come_from_one_call_and_share_the_reference(tmp_path: Path, checkpoint_of) -> None:
    results = export_bundle(
        ExportOptions(checkpoint_of("pure"), tmp_path, precisions=("fp16", "fp32"), name="robot")
    )
    assert leftovers(tmp_path) == ["robot-fp16", "robot-fp32"]
    assert "reference" in results[0].seconds
    assert "reference" not in results[1].seconds
    digests = {
        entry.sha256 for result in results for entry in result.manifest.files if entry.path == "golden.npz"
    }
    assert len(digests) == 1


def test_the_manifest_tells_what_was_chosen_and_by_whom(tmp_path: Path, checkpoint_of) -> None:
    options = ExportOptions(checkpoint_of("pure"), tmp_path, settings={"pooling": "mean"})
    manifest = export_bundle(options)[0].manifest
    assert manifest.settings["pooling"].origin == "option"
    assert manifest.settings["frame"].origin == "default"
    assert RULES.from_manifest(manifest).pooling == "mean"
    assert manifest.source.weights_origin.startswith("sample: ")
    assert manifest.source.sha256 is not None
    assert manifest.source.epoch == 4


@pytest.mark.parametrize("lstm", ["carried", "window"])
def test_recurrent_policies_are_checked_from_states_that_are_not_zero(
    tmp_path: Path, checkpoint_of, lstm: str
) -> None:
    result = export_bundle(
        ExportOptions(checkpoint_of("pure"), tmp_path, precisions=("fp32",), settings={"lstm": lstm})
    )[0]
    golden = load_golden(Bundle.open(result.folder))
    if lstm == "carried":
        assert np.abs(golden["h_in"][1::2]).max() > 0.1
        assert {"h_out", "c_out"} <= {gate.stage for gate in result.manifest.parity.gates}
        assert result.manifest.runtime.state == (("h_in", "h_out"), ("c_in", "c_out"))


def test_a_missed_gate_leaves_nothing_behind_and_names_the_stage(tmp_path: Path, checkpoint_of) -> None:
    with pytest.raises(ParityError, match=r"differs too much.*text .* relative, gate 1e-09"):
        export_bundle(ExportOptions(checkpoint_of("pure"), tmp_path, gates=("text=1e-9",)))
    assert leftovers(tmp_path) == []


def test_a_graph_with_one_wrong_weight_misses_its_gates(tmp_path: Path, bundle_of) -> None:
    import shutil

    folder = tmp_path / "broken"
    shutil.copytree(bundle_of("pure", "none", "fp16"), folder)
    bundle = Bundle.open(folder)
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.name.endswith("layers.0.self_attn.qkv.weight"))
    place = {entry.key: entry.value for entry in tensor.external_data}
    data = np.memmap(
        folder / "model.onnx.data", np.float16, "r+", int(place["offset"]), (int(place["length"]) // 2,)
    )
    data[: len(data) // 3] *= -1
    data.flush()
    manifest = bundle.manifest
    errors = measure_graph(folder, load_golden(bundle), manifest.stages, (), manifest.action.scale).errors
    assert max(error.relative_l2 for error in errors) > 0.03


@contextmanager
def _explode(name: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    if "comparing" in name:
        raise KeyboardInterrupt
    yield lambda advance: None


def test_an_interrupt_leaves_nothing_half_written(tmp_path: Path, checkpoint_of) -> None:
    reporter = Silent()
    reporter.stage = _explode  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        export_bundle(ExportOptions(checkpoint_of("pure"), tmp_path), reporter)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("action_mean", [math.nan, 0.0], r"action_mean is \[nan, 0.0\]"),
        ("action_std", "wide", "action_std is wide"),
    ],
)
def test_a_normalisation_that_no_manifest_can_hold_is_refused(
    tmp_path: Path, rewritten, key: str, value: object, words: str
) -> None:
    path = rewritten(lambda container: container.update({key: value}))
    with pytest.raises(CheckpointError, match=words):
        export_bundle(ExportOptions(path, tmp_path / "out"))
    assert leftovers(tmp_path / "out") == []


def test_a_manifest_that_cannot_be_read_back_is_not_published(tmp_path: Path, checkpoint_of) -> None:
    """The name of the checkpoint's file is the only value here that nothing checked before."""
    source = checkpoint_of("pure")
    path = tmp_path / f"{'x' * 200}.pth"
    path.symlink_to(source)
    options = ExportOptions(path, tmp_path / "out", name="short", tokenizer=str(source.parent / "tokenizer"))
    with pytest.raises(InputError, match=r"short-fp16 would be .* cannot be opened: .*`\$.source.file`"):
        export_bundle(options)
    assert leftovers(tmp_path / "out") == []


def test_a_name_too_long_for_a_bundle_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    options = ExportOptions(tmp_path / f"{'x' * 196}.pth", tmp_path / "out")
    with pytest.raises(InputError, match=r"xxx-fp16 has 201 bytes, at most 200 are possible.\n.*--name"):
        export_bundle(options)
    assert leftovers(tmp_path / "out") == []


def test_a_place_where_no_bundle_can_be_written_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=rf"{tmp_path / 'file'} is not a folder.*\n.*with -o"):
        export_bundle(ExportOptions(Path("missing.pth"), tmp_path / "file" / "engines"))
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(InputError, match=rf"the folder {tmp_path} is not writable.*\n.*with -o"):
        export_bundle(ExportOptions(Path("missing.pth"), tmp_path / "engines"))


def test_an_existing_bundle_is_refused_unless_forced(tmp_path: Path, checkpoint_of) -> None:
    options = ExportOptions(checkpoint_of("pure"), tmp_path)
    first = export_bundle(options)[0].manifest.created_utc
    with pytest.raises(InputError, match=r"exists already.*\n.*--force"):
        export_bundle(options)
    again = export_bundle(_forced(options))[0]
    assert again.manifest.created_utc >= first
    assert leftovers(tmp_path) == [again.folder.name]


def _forced(options: ExportOptions) -> ExportOptions:
    return dataclasses.replace(options, force=True)


def test_force_does_not_replace_what_is_no_bundle(tmp_path: Path, checkpoint_of) -> None:
    target = tmp_path / "best_simple_lstm_model-fp16"
    target.mkdir()
    (target / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="is not a bundle, so --force does not replace it"):
        export_bundle(_forced(ExportOptions(checkpoint_of("pure"), tmp_path)))
    assert (target / "thesis.tex").read_text() == "years of work"


def test_nan_weights_are_refused_by_name_and_nothing_is_left(tmp_path: Path, checkpoint_of) -> None:
    source = checkpoint_of("pure")
    content = torch.load(source, weights_only=False)
    content["model_state_dict"]["actions.mlp.0.weight"][0, 0] = float("nan")
    path = tmp_path / "diverged.pth"
    torch.save(content, path)
    options = ExportOptions(path, tmp_path / "out", tokenizer=str(source.parent / "tokenizer"))
    with pytest.raises(
        CheckpointError, match=r"actions.mlp.0.weight holds 1 values that are NaN or infinite"
    ):
        export_bundle(options)
    assert leftovers(tmp_path / "out") == []


def test_too_little_disk_is_refused_with_figures(tmp_path: Path) -> None:
    figures = r"needs .* GiB of disk, .* GiB free; needs .* GiB of memory, .* GiB available"
    with pytest.raises(ResourceError, match=f"not enough disk.*{figures}"):
        resources.check(resources.Needs(disk=1 << 60, memory=1), tmp_path / "not" / "yet")


def test_a_camera_s_frames_are_counted_before_an_export_runs() -> None:
    plain, seeing = resources.estimate(100, 10), resources.estimate(100, 10, call_bytes=30, golden_bytes=300)
    assert seeing.disk - plain.disk == 300
    assert seeing.memory - plain.memory == 300 + 30 * resources.RESIZE_FACTOR


@pytest.mark.parametrize(
    ("memory", "ignore", "warns"), [(1 << 60, False, True), (1 << 60, True, False), (1, False, False)]
)
def test_too_little_memory_is_a_warning_with_what_would_help(
    tmp_path: Path, memory: int, ignore: bool, warns: bool
) -> None:
    figures, *more = resources.check(resources.Needs(disk=1, memory=memory), tmp_path, ignore)
    assert "GiB of memory" in figures
    assert bool(more) == warns
    if warns:
        assert "add swap" in more[0]
        assert "--ignore-memory" in more[0]


def test_a_disk_that_fills_up_leaves_nothing_behind(
    tmp_path: Path, checkpoint_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from vla_edge.export.graph import weights

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(weights.os, "fsync", full)
    with pytest.raises(ResourceError, match=r"filled up while .* was written; nothing was kept"):
        export_bundle(ExportOptions(checkpoint_of("pure"), tmp_path))
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_checkpoint_saved_in_half_is_compared_in_single(tmp_path: Path, checkpoint_of, dtype) -> None:
    source = checkpoint_of("pure")
    content = torch.load(source, weights_only=False)
    content["model_state_dict"] = {
        name: value.to(dtype) for name, value in content["model_state_dict"].items()
    }
    path = tmp_path / "half.pth"
    torch.save(content, path)
    tokenizer = str(source.parent / "tokenizer")
    result = export_bundle(ExportOptions(path, tmp_path, precisions=("fp32",), tokenizer=tokenizer))[0]
    assert result.manifest.parity.max_abs < 1e-3


def test_kept_vocabulary_lets_the_robot_take_a_new_instruction(tmp_path: Path, checkpoint_of) -> None:
    result = export_bundle(ExportOptions(checkpoint_of("pure"), tmp_path, keep_vocabulary=True))[0]
    declared = result.manifest.instructions[1]
    with Policy.load(result.folder, backend="onnxruntime") as policy:
        frame = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        assert len(policy.act(frame, declared.text).raw) == len(policy.act(frame, "go to the red cup").raw)


def test_frames_of_the_users_own_become_golden_samples(tmp_path: Path, checkpoint_of) -> None:
    from PIL import Image

    frames = tmp_path / "frames"
    frames.mkdir()
    rng = np.random.default_rng(1)
    for at in range(7):
        Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(frames / f"{at}.png")
    options = ExportOptions(checkpoint_of("pure"), tmp_path / "out", images=frames)
    with pytest.raises(InputError, match="holds 7 images; golden samples need at least eight"):
        export_bundle(options)
    Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(frames / "7.png")
    golden = load_golden(Bundle.open(export_bundle(options)[0].folder))
    assert list(golden["names"]) == [f"{at}.png" for at in range(8)]


def test_golden_frames_are_what_the_robot_sees(tmp_path: Path, bundle_of) -> None:
    from PIL import Image

    from vla_edge.export.bundle.samples.frames import image_frames
    from vla_edge.runtime.preprocess import Preprocessor

    spec = Bundle.open(bundle_of("pure", "none", "fp16")).manifest.preprocessing
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera turned
    pixels = np.random.default_rng(2).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    for at in range(8):
        Image.fromarray(pixels).save(tmp_path / f"{at}.png", exif=exif)
    upright = np.empty((3, spec.height, spec.width), np.float32)
    Preprocessor(spec)(np.ascontiguousarray(np.rot90(pixels, -1)), upright)
    np.testing.assert_array_equal(image_frames(tmp_path, spec).pixels[3], upright)


@pytest.mark.parametrize(
    ("mode", "words"), [("RGBA", "partly transparent"), ("I;16", "mode 'I;16'"), (None, "is not an image")]
)
def test_a_frame_that_the_robot_would_refuse_is_refused_by_name(
    tmp_path: Path, checkpoint_of, mode: str | None, words: str
) -> None:
    from PIL import Image

    for at in range(8):
        Image.new("RGB", (60, 40)).save(tmp_path / f"{at}.png")
    broken = tmp_path / "5.png"
    Image.new(mode, (60, 40)).save(broken) if mode else broken.write_bytes(b"no image")
    with pytest.raises(ImageError, match=rf"{broken} .*{words}"):
        export_bundle(ExportOptions(checkpoint_of("pure"), tmp_path / "out", images=tmp_path))
    assert leftovers(tmp_path / "out") == []


def test_the_command_prints_json_and_help_is_instant(tmp_path: Path, checkpoint_of) -> None:
    command = [sys.executable, "-m", "vla_edge.export.cli"]
    done = subprocess.run(
        [
            *command,
            "--ckpt",
            str(checkpoint_of("pure")),
            "--fp16",
            "-o",
            str(tmp_path),
            "--json",
            "--no-build",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(done.stdout)[0]
    assert Path(result["folder"]).is_dir()
    assert set(result["seconds"]) >= {"weights", "reference", "parity"}
    heavy = "{'torch', 'onnx', 'transformers'}"
    code = f"import sys; from vla_edge.export.cli import command; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def run_command_in(folder: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    from vla_edge.export.cli import main

    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["vla-export", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    assert isinstance(left.value.code, int)
    return left.value.code


def test_the_command_shows_errors_by_stage_and_how_to_build_on_the_robot(
    tmp_path: Path, checkpoint_of, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run_command_in(tmp_path, ["--ckpt", str(checkpoint_of("hybrid-a")), "--fp16"], monkeypatch)
    shown = capsys.readouterr()
    assert code == 0
    for words in (
        "vision",
        "text",
        "clip",
        "fusion",
        "m/s of 0.02 m/s allowed, ",
        "10 images\ngenerated weights: vla-sample",
        "next: vla-run engines/best_simple_clip_lstm_model-fp16 IMAGE\non the robot: vla-build engines/",
        "5 guesses that no checkpoint settles and no gate can see:",
        "frame=current ",
        "one image predicted the whole sequence",
        "seconds: read",
    ):
        assert words in shown.out
    assert shown.out.startswith("engines/best_simple_clip_lstm_model-fp16  ")
    for words in (" GiB of disk, ", "writing weights\n", "running PyTorch FP32\n", "comparing fp16\n"):
        assert words in shown.err
    built = (tmp_path / "engines" / "best_simple_clip_lstm_model-fp16" / "plans").is_dir()
    assert built or "build the plan on the robot: vla-build " in shown.err


@pytest.mark.parametrize(
    ("gates", "marked"),
    [
        (["action=1e-6"], {"action"}),
        (["vision=1e-9", "text=1e-9"], {"vision", "text"}),
        (["text=1e-5"], {"text"}),
    ],
)
def test_a_missed_gate_is_marked_in_the_table_of_all_stages(
    tmp_path: Path,
    checkpoint_of,
    gates: list[str],
    marked: set[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = [part for gate in gates for part in ("--gate", gate)]
    code = run_command_in(tmp_path, ["--ckpt", str(checkpoint_of("pure")), *options], monkeypatch)
    shown = capsys.readouterr()
    assert code == 1
    rows = {line.split()[0]: line for line in shown.out.splitlines() if line}
    assert {stage for stage in ("vision", "text", "action") if "MISSED" in rows[stage]} == marked
    assert all("x" in rows[stage] for stage in ("vision", "text", "action"))
    assert shown.out.startswith("best_simple_lstm_model-fp16: gates missed\n")
    assert shown.err.count("error: ") == 1
    assert leftovers(tmp_path / "engines") == []


def test_a_missed_gate_is_in_the_json_too(
    tmp_path: Path, checkpoint_of, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--ckpt", str(checkpoint_of("pure")), "--fp16", "--fp32", "--gate", "action=1e-9", "--json"]
    assert run_command_in(tmp_path, arguments, monkeypatch) == 1
    (result,) = json.loads(capsys.readouterr().out)
    assert (result["folder"], result["passed"]) == (None, False)
    action = result["gates"][-1]
    assert (action["stage"], action["unit"], action["passed"]) == ("action", "m/s", False)
    assert action["measured"] == result["parity"]["max_abs"] > action["limit"] == 1e-9


def test_who_insists_on_a_plan_is_told_before_the_export_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from vla_edge.export import build_hook

    monkeypatch.setattr(build_hook, "is_installed", lambda name: False)
    assert run_command_in(tmp_path, ["--ckpt", "missing.pth", "--build"], monkeypatch) == 1
    assert "tensorrt is not installed here" in capsys.readouterr().err


def test_the_settings_are_listed_with_their_standing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_in(tmp_path, ["--list-settings"], monkeypatch) == 0
    shown = capsys.readouterr().out
    assert "pooling" in shown
    assert "depend on the layout" in shown


def test_insisting_on_a_plan_says_what_is_missing(bundle_of, monkeypatch: pytest.MonkeyPatch) -> None:
    from vla_edge.export import build_hook

    monkeypatch.setattr(build_hook, "is_installed", lambda name: False)
    folder = bundle_of("pure", "none", "fp16")
    with pytest.raises(EngineError, match=r"tensorrt is not installed here.*\n.*JetPack 6.1"):
        build_hook.build_here(folder, wanted=True)
    build_hook.build_here(folder, wanted=False)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--ckpt", "missing.pth"], 2, "missing.pth"),
        (["--ckpt", "CKPT", "--set", "pooling=median"], 2, "Choices for pooling"),
        (
            ["--ckpt", "CKPT", "--set", "instructions=5"],
            2,
            "setting instructions cannot be 5: it takes a list.",
        ),
        (["--ckpt", "CKPT", "--gate", "vision=1e-12"], 1, "differs too much"),
        (["--ckpt", "CKPT", "--gate", "nose=1"], 2, "--gate 'nose=1': unknown stage 'nose'."),
        (["--ckpt", "CKPT", "--gate", "vision=-1"], 2, "-1 is no limit: it must be positive and finite."),
        (
            ["--ckpt", "CKPT", "--gate", "action=0.1", "--gate", "action=0.2"],
            2,
            "--gate action is given twice.",
        ),
        (
            ["--ckpt", "CKPT", "--gate", "vision=1", "--gate", "action=1", "--gate", "vision=1.0"],
            2,
            "--gate vision is given twice.",
        ),
        (["--ckpt", "CKPT", "--tokenizer", "./nowhere"], 2, "there is no tokenizer at ./nowhere"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_command_explains_itself_and_leaves_nothing(
    tmp_path: Path,
    checkpoint_of,
    arguments,
    code,
    words,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    filled = [str(checkpoint_of("pure")) if part == "CKPT" else part for part in arguments]
    assert run_command_in(tmp_path, [*filled, "-o", str(tmp_path / "out")], monkeypatch) == code
    shown = capsys.readouterr().err
    assert words in shown
    assert "Traceback" not in shown
    assert leftovers(tmp_path / "out") == []


@pytest.mark.parametrize("asked", [None, "ema_state_dict"])
def test_the_manifest_and_a_note_tell_which_of_two_sets_of_weights_was_taken(
    tmp_path: Path, checkpoint_of, asked: str | None
) -> None:
    original = checkpoint_of("pure")
    content = torch.load(original, weights_only=False)
    content["ema_state_dict"] = {name: weight * 0.5 for name, weight in content["model_state_dict"].items()}
    torch.save(content, tmp_path / "both.pth")
    (tmp_path / "tokenizer").symlink_to(original.parent / "tokenizer")

    class Notes(Silent):
        said: ClassVar[list[str]] = []

        def note(self, text: str) -> None:
            self.said.append(text)

    (exported,) = export_bundle(
        ExportOptions(tmp_path / "both.pth", tmp_path / "out", weights=asked), Notes()
    )
    taken, other = ("ema_state_dict", "model_state_dict")[:: 1 if asked else -1]
    source = exported.manifest.source
    assert (source.weights_key, source.other_weights) == (taken, (other,))
    assert f"weights: {taken}, not {other} (--weights KEY takes others)" in Notes.said
    bias = next(
        tensor
        for tensor in onnx.load(exported.folder / "model.onnx").graph.initializer
        if tensor.name.endswith("actions.mlp.6.bias")
    )
    wanted = content[taken]["actions.mlp.6.bias"].numpy()
    np.testing.assert_allclose(onnx.numpy_helper.to_array(bias).ravel(), wanted, rtol=1e-3)
