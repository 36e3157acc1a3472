"""PyTorch FP32 in the place of an engine: on frames of recordings it answers as the exported FP32 graph does."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from known_layouts import LAYOUTS

from vla_edge.export.libraries import gpu_memory_explained
from vla_edge.export.pipeline import ExportOptions, export_bundle
from vla_edge.export.replay.cli import main
from vla_edge.export.replay.reference import torch_device
from vla_edge.export.sample.episodes import EpisodeSamples, write_episodes
from vla_edge.runtime.bundle.manifest import Camera
from vla_edge.runtime.errors import InputError, ResourceError

CheckpointOf = Callable[..., Path]
FRAMES = 5


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two instructions, so that the prompt changes from one episode to the next."""
    folder = tmp_path_factory.mktemp("recorded") / "kitchen"
    write_episodes(folder, EpisodeSamples(count=2, frames=FRAMES, height=48, width=64, seed=0))
    return folder


def replayed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, list[dict[str, Any]], str]:
    monkeypatch.setattr(sys, "argv", ["vla-replay", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr()
    return int(ended.value.code or 0), [json.loads(line) for line in shown.out.splitlines()], shown.err


def exported(checkpoint: Path, folder: Path, **settings: object) -> Path:
    return export_bundle(ExportOptions(checkpoint, folder, ("fp32",), settings=settings))[0].folder


@pytest.mark.parametrize(("layout", "form"), LAYOUTS)
def test_every_layout_agrees(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    checkpoint_of: CheckpointOf,
    recordings: Path,
    layout: str,
    form: str,
) -> None:
    checkpoint = checkpoint_of(layout, form)
    bundle = exported(checkpoint, tmp_path)
    arguments = (bundle, recordings, "--against", "torch", "--checkpoint", checkpoint, "--json")
    code, (*steps, last), _ = replayed(monkeypatch, capsys, *arguments, "--max-difference", "1e-3")
    assert code == 0
    assert len({line["instruction"] for line in steps}) == 2
    assert len(steps) == 2 * FRAMES
    assert len(last["summary"]["difference"]["drift"]["mean"]) == FRAMES


@pytest.mark.parametrize("settings", [{"lstm": "carried"}, {"frame": "first"}], ids=str)
def test_state_and_a_held_first_frame_are_as_in_the_policy(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    checkpoint_of: CheckpointOf,
    recordings: Path,
    settings: dict[str, str],
) -> None:
    bundle = exported(checkpoint_of("pure"), tmp_path, **settings)
    arguments = (bundle, recordings, "--against", "torch", "--checkpoint", checkpoint_of("pure"), "--json")
    code, (*steps, _), _ = replayed(monkeypatch, capsys, *arguments, "--max-difference", "1e-3")
    assert code == 0
    held = "frame" in settings
    for start in (0, FRAMES):
        against = [tuple(line["against"].values()) for line in steps[start : start + FRAMES]]
        assert (len(set(against)) == 1) == held


def test_another_checkpoint_than_the_bundles_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    bundle_of: Callable[..., Path],
    checkpoint_of: CheckpointOf,
    recordings: Path,
) -> None:
    other = Path(shutil.copy(checkpoint_of("pure"), tmp_path / "other.pth"))
    container = torch.load(other, weights_only=False)
    container["epoch"] += 1
    torch.save(container, other)
    for path, words in ((other, "was not exported from"), (tmp_path / "none.pth", "there is no checkpoint")):
        code, _, err = replayed(
            monkeypatch, capsys, bundle_of("pure"), recordings, "--against", "torch", "--checkpoint", path
        )
        assert code == 2
        assert words in err


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_pytorch_gets_what_pillow_makes_of_the_frames_of_a_bundle_with_a_camera(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    checkpoint_of: CheckpointOf,
    recordings: Path,
    channels: str,
) -> None:
    checkpoint = checkpoint_of("pure")
    camera = Camera(height=48, width=64, channels=channels)  # type: ignore[arg-type]
    bundle = export_bundle(ExportOptions(checkpoint, tmp_path, ("fp32",), camera=camera))[0].folder
    arguments = (bundle, recordings, "--against", "torch", "--checkpoint", checkpoint, "--json")
    code, (*steps, _), _ = replayed(monkeypatch, capsys, *arguments, "--max-difference", "1e-3")
    assert code == 0
    assert len(steps) == 2 * FRAMES


def test_a_recording_of_another_size_than_the_camera_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    checkpoint_of: CheckpointOf,
    recordings: Path,
) -> None:
    camera = Camera(height=48, width=60, channels="rgb")
    bundle = export_bundle(ExportOptions(checkpoint_of("pure"), tmp_path, ("fp32",), camera=camera))[0].folder
    code, _, said = replayed(monkeypatch, capsys, bundle, recordings, "--json")
    assert code == 2
    assert "is 64 pixels wide and 48 high" in said
    assert "episode_000" in said


class TestWhereItRuns:
    @pytest.fixture(autouse=True)
    def two_gpus(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    def test_on_the_gpu_of_the_option_else_the_first(self) -> None:
        assert [torch_device(gpu) for gpu in (None, 0, 1)] == ["cuda:0", "cuda:0", "cuda:1"]

    def test_one_that_torch_does_not_see_is_refused(self) -> None:
        with pytest.raises(InputError, match="--device 2: torch sees 2 GPUs"):
            torch_device(2)

    def test_without_a_gpu_on_the_cpu_unless_one_was_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert torch_device(None) == "cpu"
        with pytest.raises(InputError, match="torch sees 0 GPUs"):
            torch_device(0)


def test_full_memory_says_what_to_do() -> None:
    with pytest.raises(ResourceError, match="memory full") as raised, gpu_memory_explained("End others."):
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert raised.value.hint == "End others."
