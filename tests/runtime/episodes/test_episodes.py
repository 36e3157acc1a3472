"""Folders of episodes: what is one, and what happens to the others when one is broken."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from episode_files import FRAMES, frames_of, write_hdf5

from vla_edge.export.kosmos2 import settings
from vla_edge.runtime.episodes import scenarios
from vla_edge.runtime.episodes.opening import open_episodes
from vla_edge.runtime.errors import EpisodeError


def test_a_folder_gives_its_episodes_as_people_count(tmp_path: Path) -> None:
    for name in ("episode10.h5", "episode2.h5", "._episode2.h5", "notes.txt"):
        (tmp_path / name).write_text("notes")
    write_hdf5(tmp_path / "episode10.h5", 10)
    write_hdf5(tmp_path / "episode2.h5", 2)
    episodes = open_episodes(tmp_path)
    assert episodes.names == ("episode2.h5", "episode10.h5")
    assert [episode.name for episode in episodes] == ["episode2.h5", "episode10.h5"]


class TestABrokenEpisodeInTheMiddle:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for number in range(3):
            write_hdf5(tmp_path / f"{number}.h5", number)
        (tmp_path / "1.h5").write_bytes((tmp_path / "1.h5").read_bytes()[:9000])
        return tmp_path

    def test_is_an_error_in_its_place(self, folder: Path) -> None:
        taken = iter(open_episodes(folder))
        assert next(taken).name == "0.h5"
        with pytest.raises(EpisodeError, match=r"1\.h5 cannot be read as HDF5"):
            next(taken)

    def test_is_passed_over_and_named_on_request(self, folder: Path) -> None:
        episodes = open_episodes(folder, skip_broken=True)
        for _ in range(2):  # once more gives the same
            found = {episode.name: np.stack(list(episode.frames())) for episode in episodes}
            assert list(found) == ["0.h5", "2.h5"]
            np.testing.assert_array_equal(found["2.h5"], frames_of(2))
        assert len(episodes) == 3
        assert list(episodes.broken) == ["1.h5"]
        assert "1.h5 cannot be read" in episodes.broken["1.h5"].problem

    def test_that_begins_like_no_recording_is_not_left_out_silently(self, folder: Path) -> None:
        (folder / "1.h5").write_text("version https://git-lfs.github.com/spec/v1\n")
        episodes = open_episodes(folder, skip_broken=True)
        assert [episode.name for episode in episodes] == ["0.h5", "2.h5"]
        assert "not what its name says" in episodes.broken["1.h5"].problem

    def test_that_is_a_pipe_keeps_nobody_waiting(self, folder: Path) -> None:
        (folder / "1.h5").unlink()
        os.mkfifo(folder / "1.h5")
        episodes = open_episodes(folder, skip_broken=True)
        assert [episode.name for episode in episodes] == ["0.h5", "2.h5"]
        assert "not a regular file" in episodes.broken["1.h5"].problem


def test_a_damaged_frame_is_passed_over_by_whoever_meets_it(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "a.h5")
    error = EpisodeError("frame 3 is damaged.")
    with pytest.raises(EpisodeError, match="frame 3 is damaged"):
        open_episodes(tmp_path).pass_over("a.h5", error)
    episodes = open_episodes(tmp_path, skip_broken=True)
    episodes.pass_over("a.h5", error)
    assert episodes.broken == {"a.h5": error}


@pytest.mark.parametrize("name", ["nothing-here.h5", "empty.h5", "text.txt", "empty-folder"])
def test_what_holds_no_recording_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty.h5").touch()
    (tmp_path / "text.txt").write_text("no recording")
    (tmp_path / "empty-folder").mkdir()
    with pytest.raises(EpisodeError, match=name):
        open_episodes(tmp_path / name)


INSTRUCTIONS = {
    "episode_20250808_123136_1box_vert_left": scenarios.LEFT,
    "episode_20250808_123136_2box_hori_right": scenarios.RIGHT,
    "2BOX_HORI_RIGHT": scenarios.RIGHT,
    "episode_7": scenarios.OTHER,
    "leftover": scenarios.OTHER,
    "from_left_to_right": scenarios.OTHER,
}


@pytest.mark.parametrize(("name", "instruction"), INSTRUCTIONS.items())
def test_the_files_name_tells_the_instruction(name: str, instruction: str) -> None:
    assert scenarios.instruction_of(name) == instruction


def test_instructions_are_those_that_a_policy_is_exported_with() -> None:
    mine = (scenarios.OTHER, scenarios.LEFT, scenarios.RIGHT)
    assert mine == (settings.STRAIGHT, settings.LEFT, settings.RIGHT)


def test_frames_may_be_taken_twice_and_from_anywhere(tmp_path: Path) -> None:
    (episode,) = open_episodes(write_hdf5(tmp_path / "a.h5"))
    first, second = episode.frames(), episode.frames(FRAMES - 1)
    np.testing.assert_array_equal(next(first), frames_of()[0])
    np.testing.assert_array_equal(next(second), frames_of()[-1])
    np.testing.assert_array_equal(next(first), frames_of()[1])
