"""LeRobot's data sets, as LeRobot wrote them, and damaged ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vla_edge.runtime.episodes.opening import Choice, open_episodes
from vla_edge.runtime.errors import EpisodeError, ImageError

KEPT = Path(__file__).parent / "kept"
DATA_SETS = ("lerobot-2.1-image", "lerobot-2.1-video", "lerobot-3-image", "lerobot-3-video")
CODEC_ERROR = 3  # of a colour that AV1 kept


@pytest.mark.parametrize("name", DATA_SETS)
def test_a_data_set_that_lerobot_wrote_is_read_as_it_was_recorded(name: str) -> None:
    episodes = open_episodes(KEPT / name)
    assert episodes.names == ("episode_0", "episode_1", "episode_2")
    for number, episode in enumerate(episodes):
        count = 8 + number
        assert episode.frame_count == count
        assert episode.instruction == ("turn left", "turn right", "turn left")[number]
        np.testing.assert_allclose(episode.times_s, np.arange(count) / 10, atol=1e-6)
        assert episode.actions is not None
        assert (episode.actions.names, episode.actions.units) == (("linear_x", "linear_y"), None)
        np.testing.assert_allclose(
            episode.actions.values, [(number, step / 10) for step in range(count)], atol=1e-6
        )
        colours = [float(frame[:, 50:].mean()) for frame in episode.frames()]
        expected = [60 * number + 5 * step for step in range(count)]
        np.testing.assert_allclose(colours, expected, atol=CODEC_ERROR if "video" in name else 0)


@pytest.mark.parametrize("name", DATA_SETS)
def test_frames_may_begin_anywhere(name: str) -> None:
    episode = list(open_episodes(KEPT / name))[1]
    colours = [float(frame[:, 50:].mean()) for frame in episode.frames(7)]
    np.testing.assert_allclose(colours, [95, 100], atol=CODEC_ERROR if "video" in name else 0)


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(KEPT / name, tmp_path / name))


def change_info(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = root / "meta/info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


INFOS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another version": (lambda info: info.update(codebase_version="v1.6"), "of version 'v1.6'"),
    "no rate": (lambda info: info.update(fps=0), "cannot be read as JSON"),
    "no actions": (lambda info: info["features"].pop("action"), "no feature 'action'"),
    "other names": (lambda info: info["features"]["action"].update(names=["x"]), "for 2 components"),
    "no camera": (lambda info: info["features"].pop("observation.images.front"), "has 0 cameras"),
    "a path to elsewhere": (
        lambda info: info.update(data_path="../../{chunk_index}.parquet"),
        "leads out of the data set",
    ),
    "an absolute path": (lambda info: info.update(data_path="/etc/passwd"), "leads out of the data set"),
    "an unknown field": (lambda info: info.update(data_path="{root}"), "the unknown field 'root'"),
    "no field, but code": (
        lambda info: info.update(data_path="data/{0.__class__}.parquet"),
        r"\{0\.__class__\}\.parquet cannot be read: No such file",
    ),
    "a zero byte": (lambda info: info.update(data_path="a\0b"), "a path that cannot be one"),
}


@pytest.mark.parametrize(("change", "words"), INFOS.values(), ids=INFOS)
def test_an_account_that_cannot_be_is_refused_in_words(
    copied: Callable[[str], Path], change: Callable[[dict[str, Any]], object], words: str
) -> None:
    root = copied("lerobot-3-video")
    change_info(root, change)
    with pytest.raises(EpisodeError, match=words):
        list(open_episodes(root))


def test_one_of_two_cameras_is_asked_for(copied: Callable[[str], Path]) -> None:
    root = copied("lerobot-2.1-video")
    change_info(root, lambda info: info["features"].update(wrist={"dtype": "video", "shape": [48, 64, 3]}))
    with pytest.raises(
        EpisodeError, match=r"2 cameras; it has: observation\.images\.front, wrist\..*\n.*--view"
    ):
        open_episodes(root)
    episodes = open_episodes(root, choice=Choice(view="observation.images.front"))
    assert len(list(next(iter(episodes)).frames())) == 8


def test_a_link_out_of_the_data_set_is_not_followed(copied: Callable[[str], Path], tmp_path: Path) -> None:
    root = copied("lerobot-3-image")
    path = root / "data/chunk-000/file-000.parquet"
    path.rename(tmp_path / "elsewhere.parquet")
    path.symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(EpisodeError, match="leads out of the data set"):
        list(open_episodes(root))


def test_links_in_a_circle_end_in_words(copied: Callable[[str], Path]) -> None:
    root = copied("lerobot-3-image")
    path = root / "data/chunk-000/file-000.parquet"
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(EpisodeError, match=r"file-000\.parquet"):
        list(open_episodes(root))


def test_a_broken_episode_leaves_the_others(copied: Callable[[str], Path]) -> None:
    root = copied("lerobot-2.1-video")
    path = root / "data/chunk-000/episode_000001.parquet"
    path.write_bytes(path.read_bytes()[:1000])
    episodes = open_episodes(root, skip_broken=True)
    assert [episode.name for episode in episodes] == ["episode_0", "episode_2"]
    assert "episode_000001.parquet cannot be read as Parquet" in episodes.broken["episode_1"].problem


def test_a_video_that_is_cut_short_is_told_at_its_frame(copied: Callable[[str], Path]) -> None:
    root = copied("lerobot-2.1-video")
    shutil.copy(
        root / "videos/chunk-000/observation.images.front/episode_000000.mp4",
        root / "videos/chunk-000/observation.images.front/episode_000002.mp4",
    )
    last = list(open_episodes(root))[2]
    with pytest.raises(EpisodeError, match=r"episode_000002\.mp4 has no frame at 0\.800 s"):
        list(last.frames())


def rewrite(root: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    path = root / "data/chunk-000/file-000.parquet"
    pq.write_table(change(pq.read_table(path)), path)


def with_column(name: str, values: list[Any]) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.schema.get_field_index(name), name, pa.array(values))


TABLES: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "a row less": (lambda table: table.slice(1), "has 7 rows of episode 0, which has 8 frames"),
    "no actions": (lambda table: table.drop_columns("action"), "lacks the columns action"),
    "actions of many lengths": (
        with_column("action", [[1.0] * (1 + at % 2) for at in range(27)]),
        "not equally long everywhere",
    ),
    "actions of text": (with_column("action", ["left"] * 27), "holds string, or not a number in each row"),
    "an action that is missing": (with_column("action", [None, *[[1.0, 2.0]] * 26]), "not equally long"),
    "an action that is NaN": (with_column("action", [[float("nan"), 2.0]] * 27), "not finite, at step 0"),
    "time that goes back": (with_column("timestamp", [-0.1 * at for at in range(27)]), "go back"),
    "frames as text": (
        with_column("observation.images.front", ["frame.png"] * 27),
        "not stored as an image file",
    ),
    "frames that are no images": (
        with_column("observation.images.front", [{"bytes": b"GIF89a", "path": "/etc/passwd"}] * 27),
        "frame 0 of episode 0 in .* is a GIF",
    ),
    "frames elsewhere": (
        with_column("observation.images.front", [{"bytes": None, "path": "/etc/passwd"}] * 27),
        "not stored as an image file",
    ),
}


@pytest.mark.parametrize(("change", "words"), TABLES.values(), ids=TABLES)
def test_a_table_that_cannot_be_is_refused_in_words(
    copied: Callable[[str], Path], change: Callable[[pa.Table], pa.Table], words: str
) -> None:
    root = copied("lerobot-3-image")
    rewrite(root, change)
    with pytest.raises((EpisodeError, ImageError), match=words):
        list(next(iter(open_episodes(root))).frames())


def test_an_action_of_one_component_may_be_a_plain_column(copied: Callable[[str], Path]) -> None:
    root = copied("lerobot-3-image")
    rewrite(root, with_column("action", [at / 10 for at in range(27)]))
    change_info(root, lambda info: info["features"]["action"].update(names=["speed"], shape=[1]))
    actions = list(open_episodes(root))[1].actions
    assert actions is not None
    np.testing.assert_allclose(actions.values, [[(8 + at) / 10] for at in range(9)])


def test_a_few_bytes_do_not_become_a_gigabyte(copied: Callable[[str], Path]) -> None:
    """One value again and again takes nothing in a dictionary page."""
    root = copied("lerobot-3-image")
    rows = 21_000_000
    table = pa.table({"episode_index": pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), [0])})
    pq.write_table(table, root / "data/chunk-000/file-000.parquet")
    with pytest.raises(EpisodeError, match="has more than 20000000 rows"):
        next(iter(open_episodes(root)))


def test_an_episode_of_two_tasks_is_not_guessed(copied: Callable[[str], Path]) -> None:
    root = copied("lerobot-2.1-image")
    path = root / "meta/episodes.jsonl"
    path.write_text(path.read_text().replace('["turn right"]', '["turn right", "turn left"]'))
    with pytest.raises(EpisodeError, match=r"episode 1 of .* has 2 tasks"):
        list(open_episodes(root))


LINES = {
    "no JSON": ("nothing", "cannot be read as JSON Lines"),
    "a number below zero": ('{"episode_index": -1, "tasks": [], "length": 8}', "not told whole"),
    "no length": ('{"episode_index": 1, "tasks": []}', "cannot be read as JSON Lines"),
    "empty": ("\n", "tells of 3 episodes and lists 0"),
    "one too few": (
        '{"episode_index": 0, "tasks": [], "length": 8}\n{"episode_index": 1, "tasks": [], "length": 9}',
        "tells of 3 episodes and lists 2",
    ),
    "one twice": ('{"episode_index": 0, "tasks": [], "length": 8}\n' * 3, "tells of 3 episodes and lists 1"),
    "more frames than can be": (
        '{"episode_index": 0, "tasks": [], "length": 99999999}',
        "has 99999999 frames",
    ),
}


@pytest.mark.parametrize(("text", "words"), LINES.values(), ids=LINES)
def test_a_list_of_episodes_that_cannot_be_is_refused(
    copied: Callable[[str], Path], text: str, words: str
) -> None:
    root = copied("lerobot-2.1-image")
    (root / "meta/episodes.jsonl").write_text(text)
    if "99999999" in text:
        change_info(root, lambda info: info.pop("total_episodes"))
    with pytest.raises(EpisodeError, match=words):
        list(open_episodes(root))
