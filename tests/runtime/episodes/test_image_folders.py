"""Folders of images as episodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from episode_files import FRAMES, frames_of, write_hdf5
from PIL import Image

from vla_edge.runtime.episodes.opening import open_episodes
from vla_edge.runtime.errors import EpisodeError, ImageError


def write_images(folder: Path, seed: int = 0) -> Path:
    folder.mkdir()
    for at, frame in enumerate(frames_of(seed)):
        Image.fromarray(frame).save(folder / f"frame{2 * at}.png")
    return folder


def test_images_come_in_the_order_in_which_people_count(tmp_path: Path) -> None:
    (episode,) = open_episodes(write_images(tmp_path / "drive"))
    assert (episode.name, episode.frame_count, episode.times_s, episode.actions) == (
        "drive",
        FRAMES,
        None,
        None,
    )
    np.testing.assert_array_equal(np.stack(list(episode.frames())), frames_of())
    np.testing.assert_array_equal(next(episode.frames(5)), frames_of()[5])


def test_a_csv_in_the_folder_has_its_actions(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "drive")
    (folder / "actions.csv").write_text("linear_x [m/s],linear_y [m/s]\n" + "0.5,-0.5\n" * FRAMES)
    (episode,) = open_episodes(folder)
    assert episode.actions is not None
    assert episode.actions.values.tolist() == FRAMES * [[0.5, -0.5]]


def test_each_folder_in_a_folder_is_an_episode(tmp_path: Path) -> None:
    for number in (10, 2):
        write_images(tmp_path / f"drive{number}", number)
    episodes = open_episodes(tmp_path)
    assert episodes.names == ("drive2", "drive10")
    np.testing.assert_array_equal(next(next(iter(episodes)).frames()), frames_of(2)[0])


def test_images_beside_folders_of_images_are_the_episode(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "drive")
    write_images(folder / "thumbnails")
    assert open_episodes(folder).names == ("drive",)


def test_a_metadata_file_alone_makes_no_bag(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "drive")
    (folder / "metadata.yaml").write_text("camera: front")
    (episode,) = open_episodes(folder)
    assert episode.frame_count == FRAMES


def test_recordings_beside_folders_of_images_are_all_there(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "a.h5")
    write_images(tmp_path / "b")
    episodes = open_episodes(tmp_path)
    assert episodes.names == ("a.h5", "b")
    assert episodes.kind == "HDF5 and folders of images"


def test_a_damaged_image_is_told_by_name(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "drive")
    (folder / "frame4.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    taken = next(iter(open_episodes(folder))).frames()
    next(taken), next(taken)
    with pytest.raises(ImageError, match=r"frame4\.png"):
        next(taken)


def test_an_image_that_is_gone_is_told_by_name(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "drive")
    (episode,) = open_episodes(folder)
    (folder / "frame2.png").unlink()
    with pytest.raises(EpisodeError, match=r"frame2\.png is gone"):
        list(episode.frames())


def test_folders_without_recordings_are_named(tmp_path: Path) -> None:
    (tmp_path / "one/deeper").mkdir(parents=True)
    write_images(tmp_path / "one/deeper/drive")
    with pytest.raises(EpisodeError, match=rf"Give one of its folders: {tmp_path}/one\."):
        open_episodes(tmp_path)
