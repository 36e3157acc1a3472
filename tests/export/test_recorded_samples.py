"""`vla-export --episodes`: a bundle whose gates were judged on recorded frames, with all that goes with them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from foreign_export import export_foreign
from known_layouts import LAYOUTS

from vla_edge.export.build.progress import Silent as SilentBuild
from vla_edge.export.build.verify import judge, run_samples
from vla_edge.export.bundle.samples.recorded import RecordedSamples
from vla_edge.export.cli import main
from vla_edge.export.kosmos2.sample.tokenizer import write_tokenizer
from vla_edge.export.pipeline import ExportOptions, export_bundle
from vla_edge.export.sample.episodes import EpisodeSamples, write_episodes
from vla_edge.export.screen.reporter import Silent
from vla_edge.runtime.bundle.bundle import Bundle, load_golden
from vla_edge.runtime.engines.choice import open_session
from vla_edge.runtime.episodes.opening import open_episodes
from vla_edge.runtime.episodes.scenarios import LEFT, OTHER, RIGHT
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.policy import Policy

CheckpointOf = Callable[..., Path]


class Collecting(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded") / "kitchen"
    write_episodes(folder, EpisodeSamples(count=12, frames=9, height=48, width=64, seed=0))
    return folder


@pytest.mark.parametrize(("layout", "form"), LAYOUTS)
def test_each_sample_is_a_recorded_frame_with_the_instruction_of_its_episode(
    tmp_path: Path, checkpoint_of: CheckpointOf, recordings: Path, layout: str, form: str
) -> None:
    """What the bundle keeps is what the robot's own policy answers on these frames, by their instruction."""
    reporter = Collecting()
    options = ExportOptions(
        checkpoint_of(layout, form), tmp_path, ("fp32",), episodes=RecordedSamples(recordings)
    )
    result = export_bundle(options, reporter)[0]
    golden = load_golden(Bundle.open(result.folder))
    assert result.manifest.parity.reference == "PyTorch FP32 policy on frames of 10 of 12 episodes in kitchen"
    episodes = {episode.name: episode for episode in open_episodes(recordings)}
    with Policy.load(result.folder, backend="onnxruntime") as policy:
        for name, actions in zip(golden["names"], golden["actions"], strict=True):
            episode, _, frame = name.partition(" frame ")
            action = policy.act(next(episodes[episode].frames(int(frame))), episodes[episode].instruction)
            np.testing.assert_allclose(np.ravel(action.raw), actions[0], atol=1e-3)
    assert f"not compared, since no recorded frame has it: {OTHER!r}" in reporter.notes


def test_new_instructions_are_declared_where_the_vocabulary_is_kept(
    tmp_path: Path, checkpoint_of: CheckpointOf, recordings: Path
) -> None:
    reporter = Collecting()
    options = ExportOptions(
        checkpoint_of("pure"),
        tmp_path,
        settings={"instructions": ["go left"]},
        keep_vocabulary=True,
        episodes=RecordedSamples(recordings),
    )
    manifest = export_bundle(options, reporter)[0].manifest
    assert [each.text for each in manifest.instructions] == ["go left", LEFT, RIGHT]
    assert manifest.default_instruction == "go left"
    assert list(manifest.settings["instructions"].value) == ["go left", LEFT, RIGHT]
    assert f"declared, since recorded: {LEFT!r}, {RIGHT!r}" in reporter.notes


@pytest.fixture(scope="module")
def carried(checkpoint_of: CheckpointOf, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that carries its LSTM's state, two frames a call, its samples recorded."""
    options = ExportOptions(
        checkpoint_of("pure"),
        tmp_path_factory.mktemp("carried"),
        settings={"lstm": "carried"},
        batch=2,
        episodes=RecordedSamples(recordings),
    )
    return export_bundle(options)[0].folder


def test_carried_state_is_what_the_robot_has_after_the_frames_before(
    tmp_path: Path, checkpoint_of: CheckpointOf, recordings: Path
) -> None:
    options = ExportOptions(
        checkpoint_of("pure"),
        tmp_path,
        ("fp32",),
        settings={"lstm": "carried"},
        episodes=RecordedSamples(recordings),
    )
    folder = export_bundle(options)[0].folder
    golden = load_golden(Bundle.open(folder))
    episodes = {episode.name: episode for episode in open_episodes(recordings)}
    with Policy.load(folder, backend="onnxruntime") as policy:
        for name, actions in zip(golden["names"], golden["actions"], strict=True):
            episode, _, frame = name.partition(" frame ")
            start = max(0, int(frame) - 4)
            policy.reset()
            frames = episodes[episode].frames(start)
            for _ in range(start, int(frame) + 1):
                action = policy.act(next(frames), episodes[episode].instruction)
            np.testing.assert_allclose(np.ravel(action.raw), actions[0], atol=1e-3)
    starts = [name.endswith(" frame 0") for name in golden["names"]]
    assert any(starts)
    for state in ("h_in", "c_in"):
        assert [bool(np.any(value)) for value in golden[state]] == [not start for start in starts]


def double(output: str, nodes: Any) -> None:
    node = next(node for node in nodes if output in node.output)
    node.CopyFrom(onnx.helper.make_node("Add", [node.input[0]] * 2, [output], name=node.name))


def ignore(source: str, nodes: Any) -> None:
    for node in nodes:
        node.input[:] = ["nothing" if name == source else name for name in node.input]
    nodes.insert(0, onnx.helper.make_node("Sub", [source, source], ["nothing"], name="/nothing/Sub"))


@pytest.mark.parametrize(
    ("plant", "stage"),
    [
        (partial(double, "h_out"), "h_out"),
        (partial(double, "c_out"), "c_out"),
        (partial(ignore, "h_in"), "h_out"),
        (partial(ignore, "c_in"), "c_out"),
    ],
)
def test_a_fault_in_the_state_is_seen_from_real_states_too(
    tmp_path: Path, carried: Path, plant: Callable[[Any], None], stage: str
) -> None:
    folder = Path(shutil.copytree(carried, tmp_path / "faulty"))
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    plant(model.graph.node)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    bundle = Bundle.unchecked(folder)
    golden, manifest = load_golden(bundle), bundle.manifest
    session = open_session(bundle, "onnxruntime", threads=1)
    try:
        measures = run_samples(session.inputs, session.outputs, session.run, golden, manifest, SilentBuild())
    finally:
        session.close()
    checked = judge(manifest.parity.gates, golden["names"].tolist(), measures, "", manifest.action.unit)
    assert stage in {check.stage for check in checked.checks if not check.passed}


def test_where_no_state_is_ever_carried_it_is_drawn_as_before(
    tmp_path: Path, checkpoint_of: CheckpointOf, recordings: Path
) -> None:
    """First frames alone would leave every state at zero, and a fault in how it enters unseen."""
    options = ExportOptions(
        checkpoint_of("pure"),
        tmp_path,
        settings={"lstm": "carried", "frame": "first"},
        episodes=RecordedSamples(recordings),
    )
    golden = load_golden(Bundle.open(export_bundle(options)[0].folder))
    assert all(name.endswith(" frame 0") for name in golden["names"])
    assert np.any(golden["h_in"][1])


@pytest.fixture
def export_mine(
    install: Callable[..., None], toy: None, tmp_path: Path, recordings: Path
) -> Callable[[str], dict[str, np.ndarray]]:
    """Exports a policy of a foreign family without text, which carries state, from recordings."""

    def export(body: str = "") -> dict[str, np.ndarray]:
        return export_foreign(install, tmp_path, body, episodes=RecordedSamples(recordings))

    return export


def test_a_foreign_family_without_text_has_real_states_too(
    export_mine: Callable[[str], dict[str, np.ndarray]],
) -> None:
    golden = export_mine("")
    assert [bool(np.any(value)) for value in golden["memory"]] == [
        not name.endswith(" frame 0") for name in golden["names"]
    ]


def test_a_state_that_a_foreign_family_does_not_return_is_told_by_name(
    export_mine: Callable[[str], object],
) -> None:
    body = (
        "    def assign(self, policy, tensors):\n"
        "        found = super().assign(policy, tensors)\n"
        "        run = found.forward\n"
        "        found.forward = lambda **given: {'actions': run(**given)['actions']}\n"
        "        return found"
    )
    with pytest.raises(InputError, match=r"'mine' .*: its reference does not return 'memory_out'"):
        export_mine(body)


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["vla-export", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    assert isinstance(left.value.code, int)
    return left.value.code


def test_the_command_says_where_its_frames_are_from(
    tmp_path: Path,
    checkpoint_of: CheckpointOf,
    recordings: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ["--ckpt", str(checkpoint_of("pure")), "-o", str(tmp_path / "out"), "--no-build"]
    assert run([*asked, "--episodes", str(recordings), "--samples", "12"], monkeypatch) == 0
    shown = capsys.readouterr()
    text = " ".join(shown.out.split())
    assert "against PyTorch FP32 policy on frames of 12 of 12 episodes in kitchen, 12 images" in text
    assert "opening episodes\n" in shown.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--samples", "9"], "--samples is about recordings: give them with --episodes."),
        (["--view", "front"], "--view is about recordings"),
        (["--skip-broken"], "--skip-broken is about recordings"),
        (["--episodes", ".", "--images", "."], "--images and --episodes both say"),
        (["--episodes", ".", "--samples", "7"], "7 is not in the range 8<=x<=250"),
        (["--episodes", "gone"], "Path 'gone' does not exist"),
    ],
)
def test_options_about_recordings_stand_together(
    checkpoint_of: CheckpointOf,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    assert run(["--ckpt", str(checkpoint_of("pure")), *arguments], monkeypatch) == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_trained_checkpoint_with_the_samples_tokenizer_is_refused(
    tmp_path: Path, checkpoint_of: CheckpointOf
) -> None:
    container = torch.load(checkpoint_of("pure", "none"), weights_only=False)
    write_tokenizer(tmp_path / "tokenizer")
    torch.save(container, tmp_path / "sample.pth")
    export_bundle(ExportOptions(tmp_path / "sample.pth", tmp_path / "out", ("fp32",)))
    del container["args"].vla_sample
    torch.save(container, tmp_path / "policy.pth")
    with pytest.raises(InputError, match=r"the tokenizer is that of vla-sample.*\n.*--tokenizer"):
        export_bundle(ExportOptions(tmp_path / "policy.pth", tmp_path / "out", ("fp32",)))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sample-fp32"]
