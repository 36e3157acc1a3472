"""Generated episodes: honest in what they say, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from vla_edge.export.sample.cli import main
from vla_edge.export.sample.episodes import EpisodeSamples, write_episodes
from vla_edge.export.sample.scene import TOP_SPEED_MPS, plan_drive, render
from vla_edge.runtime.episodes.opening import open_episodes
from vla_edge.runtime.episodes.scenarios import LEFT, RIGHT, SCENARIOS
from vla_edge.runtime.errors import InputError

SMALL = EpisodeSamples(count=3, frames=4, height=48, width=64, seed=0)


def test_episodes_are_read_back_as_they_were_drawn(tmp_path: Path) -> None:
    written = write_episodes(tmp_path / "recordings", SMALL)
    episodes = list(open_episodes(tmp_path / "recordings"))
    assert [episode.path for episode in episodes] == written
    assert [episode.instruction for episode in episodes] == [LEFT, RIGHT, LEFT]
    for number, episode in enumerate(episodes):
        drive = plan_drive(SCENARIOS[number], 4, np.random.default_rng([0, number]))
        assert episode.actions is not None
        np.testing.assert_array_equal(episode.actions.values, drive.actions.astype(np.float64))
        for step, frame in enumerate(episode.frames()):
            np.testing.assert_array_equal(frame, render(drive, step, 48, 64))


def test_the_same_seed_gives_the_same_and_another_another(tmp_path: Path) -> None:
    def first_frame(name: str, seed: int) -> np.ndarray:
        write_episodes(tmp_path / name, EpisodeSamples(1, 4, 48, 64, seed))
        (episode,) = open_episodes(tmp_path / name)
        return next(episode.frames())

    np.testing.assert_array_equal(first_frame("a", 0), first_frame("b", 0))
    assert (first_frame("a2", 0) != first_frame("c", 1)).any()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_who_drives_past_on_the_left_sees_the_box_on_the_right(scenario: str) -> None:
    drive = plan_drive(scenario, 18, np.random.default_rng(3))
    assert np.abs(drive.actions).max() <= TOP_SPEED_MPS
    box = drive.things[-1]
    seen = render(drive, 5, 90, 160) == box.colour
    columns = np.flatnonzero(seen.all(axis=2).any(axis=0))
    assert (columns.mean() > 80) == scenario.endswith("left")
    assert np.sign(drive.actions[0, 1]) == (1 if scenario.endswith("left") else -1)


def test_what_was_not_written_here_is_never_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    write_episodes(folder, SMALL)
    with pytest.raises(InputError, match="recordings exists"):
        write_episodes(folder, SMALL)
    write_episodes(folder, EpisodeSamples(1, 4, 48, 64, 0), replace=True)
    assert len(list(folder.iterdir())) == 1
    with h5py.File(folder / "real.h5", "w") as file:
        file["images"] = np.zeros((1, 48, 64, 3), np.uint8)
    with pytest.raises(InputError, match=r"real\.h5 was not written by vla-sample"):
        write_episodes(folder, SMALL, replace=True)
    assert len(list(folder.iterdir())) == 2


def test_an_end_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(frames: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_episodes(tmp_path / "recordings", SMALL, interrupt)
    assert list(tmp_path.iterdir()) == []


class TestTheCommand:
    def run(self, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["vla-sample", *arguments])
        with pytest.raises(SystemExit) as ending:
            main()
        return int(ending.value.code or 0)

    def test_writes_a_folder_and_says_that_it_was_drawn(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = ("--count", "2", "--frames", "3", "--frame-size", "90x160")
        assert self.run(monkeypatch, "--episodes", str(tmp_path / "new/recordings"), *options) == 0
        out = capsys.readouterr().out
        assert "2 episodes of 3 frames" in out
        assert "for trying and testing only" in out
        first, _ = open_episodes(tmp_path / "new/recordings")
        assert [frame.shape for frame in first.frames()] == 3 * [(90, 160, 3)]

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--episodes", "x", "--layout", "pure"), "--episodes writes no checkpoint"),
            (("--layout", "pure"), "Missing option '-o'"),
            (("-o", "x"), "Missing option '--layout'"),
        ],
    )
    def test_wrong_use_is_told(
        self,
        arguments: tuple[str, ...],
        words: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert self.run(monkeypatch, *arguments) == 2
        assert words in capsys.readouterr().err
