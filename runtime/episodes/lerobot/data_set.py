"""The episodes of a LeRobot data set: rows of its tables, frames of its videos or of the tables themselves.

Frames lie in a video at the time of their row: of version 3, where one video holds many episodes, after the
moment at which the episode begins there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from vla_edge.runtime.episodes.episode import Episode, check_frame_count, checked_actions, checked_times
from vla_edge.runtime.episodes.episodes import Source
from vla_edge.runtime.episodes.reading import inside, reading, require_file
from vla_edge.runtime.errors import EpisodeError
from vla_edge.runtime.images.reading import MAX_FILE_BYTES, decode_image

from .info import (
    MAX_EPISODES,
    MAX_INFO_BYTES,
    Info,
    chosen_camera,
    component_names,
    file_of,
    read_info,
)
from .tables import check_columns, groups_with, numbers, opened_table, read_groups, read_table

_HALF_A_FRAME = 0.5
_ROWS_AT_ONCE = 4  # of frames that lie in a table


@dataclass(frozen=True)
class _Told:
    """What the data set says of one episode, before its own files are opened.

    Attributes:
        index: its number.
        tasks: that it follows.
        length: its frames.
        data: the table with its rows.
        video: with its frames, and the moment at which it begins there; None where they lie in the table.
    """

    index: int
    tasks: tuple[str, ...]
    length: int
    data: Path
    video: tuple[Path, float] | None


def lerobot_sources(root: Path, view: str | None) -> list[Source]:
    """The episodes of a data set, in its order; none is opened yet.

    Args:
        root: with `meta/info.json`.
        view: a feature, such as "observation.images.front"; None for the only one.

    Raises:
        EpisodeError: the data set's own account is damaged, or the camera is not told.
    """
    info = read_info(root)
    key = chosen_camera(info, view, root)
    names = component_names(info, root)
    rows = _episodes_v3(root, info, key) if info.version == 3 else _episodes_v2(root)
    told = len(rows) if info.total_episodes is None else info.total_episodes
    different = len({row["episode_index"] for row in rows})
    if not rows or different < max(len(rows), told):
        raise EpisodeError(
            f"{root} tells of {told} episodes and lists {different}.", "It is not whole: copy it again."
        )
    return [
        Source(f"episode_{row['episode_index']}", partial(_open, root, info, key, names, row)) for row in rows
    ]


def _open(root: Path, info: Info, key: str, names: tuple[str, ...], row: dict[str, Any]) -> Episode:
    told = _told(root, info, key, row)
    name = f"episode_{told.index}"
    count = check_frame_count(told.length, told.data)
    with opened_table(told.data) as table:
        groups = groups_with(table, "episode_index", told.index, told.data)
        columns = ["episode_index", "timestamp", "action"]
        found = read_groups(table, groups, columns, told.data)
        mine = numbers(found, "episode_index", told.data) == told.index
        values = numbers(found, "action", told.data)[mine]
        times_s = checked_times(numbers(found, "timestamp", told.data)[mine], told.data)
    if len(times_s) != count:
        raise EpisodeError(
            f"{told.data} has {len(times_s)} rows of episode {told.index}, which has {count} frames.",
            "The data set is not whole: copy it again.",
        )
    if len(told.tasks) > 1:
        raise EpisodeError(
            f"episode {told.index} of {root} has {len(told.tasks)} tasks; a policy follows one.",
            "Split it, or leave it out.",
        )

    def read(start: int) -> Iterator[np.ndarray]:
        if told.video is None:
            return _frames_in_table(told, key, start)
        from vla_edge.runtime.episodes.video import frames_at

        path, begins_s = told.video
        return frames_at(path, begins_s + times_s[start:], _HALF_A_FRAME / info.fps)

    # its units are not told by LeRobot
    actions = checked_actions(values if values.ndim == 2 else values[:, None], names, None, told.data)
    return Episode(name, root, next(iter(told.tasks), None), count, times_s, actions, read)


def _told(root: Path, info: Info, key: str, row: dict[str, Any]) -> _Told:
    index = row["episode_index"]
    in_video = info.features[key].dtype == "video"
    if in_video and info.video_path is None:
        raise EpisodeError(f"{root} does not say where its videos are.", "Mend video_path in info.json.")
    if info.version == 3:
        place = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
        seen = {name: row.get(f"videos/{key}/{name}", 0) for name in ("chunk_index", "file_index")}
        begins_s = float(row.get(f"videos/{key}/from_timestamp", 0.0))
    else:
        place = {"episode_chunk": index // info.chunks_size, "episode_index": index}
        seen, begins_s = place, 0.0
    video = None
    if in_video:
        video = (file_of(root, info.video_path or "", video_key=key, **seen), begins_s)
    data = file_of(root, info.data_path, **place)
    return _Told(index, tuple(row["tasks"]), row["length"], data, video)


def _frames_in_table(told: _Told, key: str, start: int) -> Iterator[np.ndarray]:
    """Frames that are stored as image files in a column, a few rows at a time."""
    with opened_table(told.data) as table:
        groups = groups_with(table, "episode_index", told.index, told.data)
        check_columns(table, ["episode_index", key], told.data)
        at = 0
        for batch in table.iter_batches(
            _ROWS_AT_ONCE, row_groups=groups, columns=["episode_index", key], use_threads=False
        ):
            for row in batch.to_pylist():
                if row["episode_index"] != told.index:
                    continue
                if at >= start:
                    yield _decoded(row[key], f"frame {at} of episode {told.index} in {told.data}")
                at += 1


def _decoded(stored: Any, name: str) -> np.ndarray:
    data = stored.get("bytes") if isinstance(stored, dict) else stored
    if not isinstance(data, bytes) or len(data) > MAX_FILE_BYTES:
        raise EpisodeError(
            f"{name} is not stored as an image file.", "Write the data set again with LeRobot."
        )
    return np.asarray(decode_image(data, name))


def _episodes_v3(root: Path, info: Info, key: str) -> list[dict[str, Any]]:
    columns = ["episode_index", "tasks", "length", "data/chunk_index", "data/file_index"]
    if info.features[key].dtype == "video":
        columns += [f"videos/{key}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]
    rows: list[dict[str, Any]] = []
    for path in sorted((root / "meta/episodes").glob("*/*.parquet")):
        rows += [_checked(row, path) for row in read_table(inside(root, path), columns).to_pylist()]
        if len(rows) > MAX_EPISODES:
            raise EpisodeError(f"{root} has more than {MAX_EPISODES} episodes.", "Split the data set.")
    return rows


class _Line(msgspec.Struct):
    """Of version 2.1's `meta/episodes.jsonl`."""

    episode_index: int
    tasks: tuple[str, ...]
    length: int


def _episodes_v2(root: Path) -> list[dict[str, Any]]:
    path = inside(root, root / "meta/episodes.jsonl")
    if require_file(path) > MAX_INFO_BYTES:
        raise EpisodeError(f"{path} has more than {MAX_INFO_BYTES >> 20} MiB.", "Split the data set.")
    with reading(path, "JSON Lines"):
        lines = msgspec.json.Decoder(_Line).decode_lines(path.read_bytes())
    return [_checked(msgspec.to_builtins(line), path) for line in lines]


def _checked(row: dict[str, Any], path: Path) -> dict[str, Any]:
    """A row whose numbers are numbers and whose tasks are texts.

    Raises:
        EpisodeError: shows what is there instead.
    """
    tasks = row["tasks"]
    whole = all(
        isinstance(value, int if not name.endswith("from_timestamp") else (int, float)) and value >= 0
        for name, value in row.items()
        if name != "tasks"
    )
    if not whole or not isinstance(tasks, (list, tuple)) or not all(isinstance(task, str) for task in tasks):
        shown = json.dumps(row, default=str)[:200]
        raise EpisodeError(
            f"{path} has an episode that is not told whole: {shown}", "Copy the data set again."
        )
    return row
