"""Bags of ROS 2: which action belongs to which frame, and what a hostile bag is answered with."""

from __future__ import annotations

import sqlite3
import struct
import tracemalloc
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import zstandard
from bag_files import CAMERA, CMD_VEL, Said, compressed_image, raw_image, twist, write_bag
from episode_files import FRAMES, frames_of
from mcap.writer import CompressionType, Writer

from vla_edge.runtime.episodes.episode import Episode
from vla_edge.runtime.episodes.opening import Choice, open_episodes
from vla_edge.runtime.errors import EpisodeError, ImageError

STORAGES = ("mcap", "sqlite3")


def only(path: Path, choice: Choice | None = None) -> Episode:
    (episode,) = open_episodes(path, choice=choice)
    return episode


def a_drive(stamped: bool) -> list[Said]:
    """A frame each 0.1 s from 100.0 on; two commands between frames 1 and 2, none before frame 1."""
    frames = [
        Said(CAMERA, 100 + 0.1 * at, compressed_image(frames_of()[at], 50 + 0.1 * at if stamped else None))
        for at in range(FRAMES)
    ]
    commands = [(0.15, 1.0), (0.19, 0.5), (0.30, -0.25), (0.52, 0.75), (9.0, 99.0)]
    driven = [
        Said(CMD_VEL, 100 + after, twist(x, -x, 0.1, 50 + after if stamped else None))
        for after, x in commands
    ]
    return sorted([*frames, *driven], key=lambda said: said.log_s)


# After frame 0 nothing until frame 1; the last command before frame 2; that at frame 3's own time is before it.
DRIVEN = [0.0, 0.5, -0.25, -0.25, -0.25, 0.75]


@pytest.mark.parametrize("stamped", [False, True], ids=["log time", "header's stamp"])
@pytest.mark.parametrize("storage", STORAGES)
def test_a_frames_action_is_the_last_command_before_the_next_frame(
    tmp_path: Path, storage: str, stamped: bool
) -> None:
    write_bag(tmp_path / "bag_2box_hori_right", a_drive(stamped), storage)
    episode = only(tmp_path / "bag_2box_hori_right")
    assert episode.instruction is not None
    assert episode.frame_count == FRAMES
    np.testing.assert_allclose(episode.times_s, 0.1 * np.arange(FRAMES), atol=1e-6)
    np.testing.assert_array_equal(np.stack(list(episode.frames())), frames_of())
    np.testing.assert_array_equal(next(episode.frames(4)), frames_of()[4])
    assert episode.actions is not None
    np.testing.assert_array_equal(episode.actions.values[:, 0], DRIVEN)
    assert episode.actions.names == ("linear_x", "linear_y", "angular_z")
    assert episode.actions.units == ("m/s", "m/s", "rad/s")


@pytest.mark.parametrize("hours", [0, 5])
def test_stamps_of_another_clock_do_not_separate_frames_from_commands(tmp_path: Path, hours: int) -> None:
    """The camera stamps by its own clock, a Twist has no stamp."""
    said = [
        Said(CAMERA, 100 + 0.1 * at, compressed_image(frames_of()[at], 99.98 + 0.1 * at + 3600 * hours))
        for at in range(FRAMES)
    ]
    said += [Said(CMD_VEL, 100.15, twist(0.5, 0, 0)), Said(CMD_VEL, 100.45, twist(-0.5, 0, 0))]
    write_bag(tmp_path / "bag", sorted(said, key=lambda each: each.log_s))
    actions = only(tmp_path / "bag").actions
    assert actions is not None
    assert actions.values[:, 0].tolist() == [0, 0.5, 0.5, 0.5, -0.5, -0.5]


@pytest.mark.parametrize("storage", STORAGES)
def test_the_file_alone_is_an_episode_too(tmp_path: Path, storage: str) -> None:
    file = write_bag(tmp_path / "bag", a_drive(False), storage)
    assert only(file).frame_count == FRAMES


@pytest.mark.parametrize("storage", STORAGES)
def test_frames_come_by_their_stamps_whatever_the_order_of_writing(tmp_path: Path, storage: str) -> None:
    order = [2, 0, 1, 5, 3, 4]
    said = [
        Said(CAMERA, 100 + late, raw_image(frames_of()[at], 50 + 0.1 * at)) for late, at in enumerate(order)
    ]
    write_bag(tmp_path / "bag", said, storage)
    np.testing.assert_array_equal(np.stack(list(only(tmp_path / "bag").frames())), frames_of())


ENCODINGS = {
    "rgb8": frames_of()[0],
    "bgr8": frames_of()[0][..., ::-1],
    "rgba8": np.dstack([frames_of()[0], np.full((24, 32), 255, np.uint8)]),
    "bgra8": np.dstack([frames_of()[0][..., ::-1], np.full((24, 32), 255, np.uint8)]),
}


@pytest.mark.parametrize(("encoding", "pixels"), ENCODINGS.items())
def test_raw_images_become_rgb(tmp_path: Path, encoding: str, pixels: np.ndarray) -> None:
    write_bag(tmp_path / "bag", [Said("/image", 1, raw_image(pixels, encoding=encoding, padding=5))])
    np.testing.assert_array_equal(next(only(tmp_path / "bag").frames()), frames_of()[0])


def test_grey_stays_grey_in_rgb(tmp_path: Path) -> None:
    grey = frames_of()[0][..., 0]
    write_bag(tmp_path / "bag", [Said("/image", 1, raw_image(grey[..., None], encoding="mono8"))])
    frame = next(only(tmp_path / "bag").frames())
    assert all((frame[..., channel] == grey).all() for channel in range(3))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_frames_that_one_thread_began_another_ends(tmp_path: Path, storage: str) -> None:
    write_bag(tmp_path / "bag", [Said("/front", at, raw_image(frames_of()[at])) for at in range(3)], storage)
    frames = cast("Generator[np.ndarray, None, None]", only(tmp_path / "bag").frames())
    with ThreadPoolExecutor(1) as camera:
        np.testing.assert_array_equal(camera.submit(next, frames).result(), frames_of()[0])
    frames.close()


def test_the_camera_is_asked_for_where_there_are_two(tmp_path: Path) -> None:
    said = [Said("/left", 1, raw_image(frames_of()[0])), Said("/right", 1, raw_image(frames_of()[1]))]
    write_bag(tmp_path / "bag", said)
    with pytest.raises(EpisodeError, match=r"several topics: /left, /right.\n.*--view TOPIC"):
        only(tmp_path / "bag")
    with pytest.raises(EpisodeError, match=r"no images on /middle.\nIt has them on: /left, /right"):
        only(tmp_path / "bag", Choice(view="/middle"))
    found = only(tmp_path / "bag", Choice(view="/right"))
    np.testing.assert_array_equal(next(found.frames()), frames_of()[1])
    assert found.actions is None


def test_a_bag_without_images_says_so(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", [Said(CMD_VEL, 1, twist(1, 0, 0))])
    with pytest.raises(EpisodeError, match="bag has no images"):
        only(tmp_path / "bag")


@pytest.mark.parametrize("compression", [CompressionType.NONE, CompressionType.LZ4, CompressionType.ZSTD])
@pytest.mark.parametrize("chunks", [True, False], ids=["chunks", "no chunks"])
def test_chunks_of_every_compression_are_read(
    tmp_path: Path, compression: CompressionType, chunks: bool
) -> None:
    """Written by mcap's own writer, with the messages that rosbags made."""
    from bag_files import STORE

    with (tmp_path / "a.mcap").open("wb") as file:
        writer = Writer(file, chunk_size=3000, compression=compression, use_chunking=chunks)
        writer.start("ros2")
        schema = writer.register_schema("sensor_msgs/msg/Image", "ros2msg", b"")
        channel = writer.register_channel("/image", "cdr", schema)
        for at in range(FRAMES):
            message = raw_image(frames_of()[at])
            data = bytes(STORE.serialize_cdr(message, message.__msgtype__))
            writer.add_message(channel, at * 10**8, data, at * 10**8)
        writer.finish()
    episode = only(tmp_path / "a.mcap")
    np.testing.assert_array_equal(np.stack(list(episode.frames())), frames_of())
    np.testing.assert_array_equal(next(episode.frames(3)), frames_of()[3])


def test_a_time_that_no_clock_shows_is_refused(tmp_path: Path) -> None:
    file = write_bag(tmp_path / "bag", [Said("/image", 1, raw_image(frames_of()[0]))], "sqlite3")
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE messages SET timestamp = ?", ((1 << 63) - 1,))
    connection.close()
    with pytest.raises(EpisodeError, match="is of no possible time"):
        only(file)


def mcap_of(chunk: bytes) -> bytes:
    """A file of one record."""
    magic = b"\x89MCAP0\r\n"
    head = struct.pack("<BQ", 1, 8) + bytes(8)
    return magic + head + struct.pack("<BQ", 6, len(chunk)) + chunk


def chunk_of(data: bytes, told: int, compression: bytes = b"zstd") -> bytes:
    name = struct.pack("<I", len(compression)) + compression
    return struct.pack("<QQQI", 0, 0, told, 0) + name + struct.pack("<Q", len(data)) + data


BOMB = zstandard.ZstdCompressor().compress(bytes(1 << 30))
HOSTILE = {
    "a chunk that unpacks to more": (chunk_of(BOMB, 1000), "does not unpack to its size"),
    "a chunk that says it is huge": (chunk_of(BOMB, 1 << 30), "a chunk of 1024 MiB"),
    "another compression": (chunk_of(b"", 0, b"snappy"), "is packed by 'snappy'"),
    "no zstd": (chunk_of(b"nothing", 9), "cannot be read as a bag"),
    "a message of no channel": (chunk_of(struct.pack("<BQ", 5, 22) + bytes(22), 31, b""), "of no channel"),
    "a record that leaves its chunk": (
        chunk_of(struct.pack("<BQ", 5, 1 << 40), 9, b""),
        "middle of a record",
    ),
    "a record without end": (b"", "cannot be read|middle of a record"),
}


@pytest.mark.parametrize(("chunk", "words"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_mcap_is_refused_in_little_memory(tmp_path: Path, chunk: bytes, words: str) -> None:
    (tmp_path / "bad.mcap").write_bytes(mcap_of(chunk))
    tracemalloc.start()
    try:
        with pytest.raises(EpisodeError, match=rf"(?s)bad\.mcap.*({words})"):
            only(tmp_path / "bad.mcap")
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


def test_a_record_of_a_terabyte_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "bad.mcap").write_bytes(mcap_of(b"")[:17] + struct.pack("<BQ", 6, 1 << 40))
    with pytest.raises(EpisodeError, match=r"bad\.mcap"):
        only(tmp_path / "bad.mcap")


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.97])
@pytest.mark.parametrize("storage", STORAGES)
def test_a_truncated_bag_is_refused_by_name(tmp_path: Path, storage: str, kept: float) -> None:
    file = write_bag(tmp_path / "bag", a_drive(False), storage)
    data = file.read_bytes()
    file.write_bytes(data[: int(kept * len(data))])
    with pytest.raises((EpisodeError, ImageError), match="bag"):
        list(only(tmp_path / "bag").frames())


class TestAStrangersSqlite:
    def changed(self, tmp_path: Path, *statements: str) -> Path:
        file = write_bag(tmp_path / "bag", a_drive(False), "sqlite3")
        with sqlite3.connect(file) as connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()
        return file

    def test_a_view_in_the_place_of_a_table_is_not_asked(self, tmp_path: Path) -> None:
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT i, i, i, i FROM n"
        file = self.changed(
            tmp_path, "ALTER TABLE messages RENAME TO kept", f"CREATE VIEW messages AS {endless}"
        )
        with pytest.raises(EpisodeError, match="no plain table 'messages'"):
            only(file)

    def test_a_column_that_is_computed_is_not_asked(self, tmp_path: Path) -> None:
        columns = "id INTEGER PRIMARY KEY, topic_id INT, timestamp INT, data BLOB AS (zeroblob(1000000000))"
        file = self.changed(
            tmp_path,
            "ALTER TABLE messages RENAME TO kept",
            f"CREATE TABLE messages ({columns})",
            "INSERT INTO messages(id, topic_id, timestamp) SELECT id, topic_id, timestamp FROM kept",
        )
        with pytest.raises(EpisodeError, match="no plain table 'messages'"):
            only(file)

    def test_a_database_of_something_else_is_named(self, tmp_path: Path) -> None:
        with sqlite3.connect(tmp_path / "other.db3") as connection:
            connection.execute("CREATE TABLE notes (text TEXT)")
        connection.close()
        with pytest.raises(EpisodeError, match=r"other\.db3 is no rosbag2 file"):
            only(tmp_path / "other.db3")

    def test_a_message_that_is_no_bytes_is_refused(self, tmp_path: Path) -> None:
        file = self.changed(tmp_path, "UPDATE messages SET data = 'text' WHERE id = 2")
        with pytest.raises(EpisodeError, match="a message that is not there"):
            only(file)

    def test_a_huge_message_is_refused_before_it_is_read(self, tmp_path: Path) -> None:
        file = self.changed(tmp_path, f"UPDATE messages SET data = zeroblob({(64 << 20) + 1}) WHERE id = 2")
        with pytest.raises(EpisodeError, match="a message of 67108865 bytes"):
            only(file)

    def test_a_bag_that_was_not_closed_is_named(self, tmp_path: Path) -> None:
        file = self.changed(tmp_path)
        file.with_name(file.name + "-wal").write_bytes(b"left")
        with pytest.raises(EpisodeError, match="was not closed"):
            only(file)

    def test_nothing_is_written_beside_it(self, tmp_path: Path) -> None:
        file = self.changed(tmp_path, "PRAGMA user_version = 1")
        before = sorted(file.parent.iterdir())
        list(only(file).frames())
        assert sorted(file.parent.iterdir()) == before


def test_a_folder_of_bags_and_files_gives_each(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag2", a_drive(False))
    write_bag(tmp_path / "bag10", a_drive(False), "sqlite3")
    write_bag(tmp_path / "elsewhere/bag", a_drive(False)).rename(tmp_path / "bag1.mcap")
    (tmp_path / "notes").mkdir()
    episodes = open_episodes(tmp_path)
    assert episodes.names == ("bag1.mcap", "bag2", "bag10")
    assert [episode.frame_count for episode in episodes] == 3 * [FRAMES]


def test_a_files_packed_form_says_what_to_do(tmp_path: Path) -> None:
    file = write_bag(tmp_path / "bag", a_drive(False))
    file.rename(file.with_name(file.name + ".zstd"))
    with pytest.raises(EpisodeError, match="unpack them first"):
        only(tmp_path / "bag")
