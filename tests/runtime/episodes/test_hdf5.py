"""Episodes in HDF5: what a sound file gives, and what a broken or hostile one is answered with."""

from __future__ import annotations

import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from episode_files import FRAMES, HEIGHT, WIDTH, actions_of, frames_of, write_hdf5

from vla_edge.runtime.episodes.episode import Episode
from vla_edge.runtime.episodes.hdf5_checks import MAX_CHUNK_BYTES
from vla_edge.runtime.episodes.opening import open_episodes
from vla_edge.runtime.episodes.scenarios import LEFT
from vla_edge.runtime.errors import EpisodeError, ImageError


def only(path: Path) -> Episode:
    (episode,) = open_episodes(path)
    return episode


LAYOUTS = {
    "contiguous": {},
    "a frame a chunk, gzip": {"chunks": (1, HEIGHT, WIDTH, 3), "compression": 9},
    "chunks that h5py chose": {"chunks": True, "compression": "gzip", "shuffle": True, "fletcher32": True},
    "lzf": {"chunks": (2, 7, 5, 1), "compression": "lzf"},
    "all in one chunk": {"chunks": (FRAMES, HEIGHT, WIDTH, 3)},
}


@pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS)
def test_an_episode_gives_what_was_recorded(tmp_path: Path, options: dict[str, object]) -> None:
    path = write_hdf5(tmp_path / "episode_20250808_123136_1box_vert_left.h5", **options)
    episode = only(path)
    assert (episode.name, episode.path, episode.instruction) == (path.name, path, LEFT)
    assert episode.frame_count == FRAMES
    np.testing.assert_array_equal(np.stack(list(episode.frames())), frames_of())
    np.testing.assert_array_equal(np.stack(list(episode.frames(4))), frames_of()[4:])
    assert episode.actions is not None
    np.testing.assert_array_equal(episode.actions.values, actions_of().astype(np.float64))
    assert episode.actions.names == ("linear_x", "linear_y", "angular_z")
    assert episode.actions.units == ("m/s", "m/s", "rad/s")
    np.testing.assert_allclose(episode.times_s, 0.3 * np.arange(FRAMES))


def test_what_is_hdf5_is_told_by_content(tmp_path: Path) -> None:
    assert only(write_hdf5(tmp_path / "recording.bin")).frame_count == FRAMES
    with h5py.File(tmp_path / "block.dat", "w", userblock_size=1024) as file:
        file["images"], file["actions"] = frames_of(), actions_of()
    assert only(tmp_path / "block.dat").times_s is None


def absent(file: h5py.File) -> None:
    del file["images"]


def soft_link(file: h5py.File) -> None:
    file["other"] = file["images"]
    del file["images"]
    file["images"] = h5py.SoftLink("/other")


def external_link(file: h5py.File) -> None:
    del file["images"]
    file["images"] = h5py.ExternalLink("/etc/passwd", "images")


def raw_data_elsewhere(file: h5py.File) -> None:
    del file["images"]
    shape = (FRAMES, HEIGHT, WIDTH, 3)
    file.create_dataset("images", shape, np.uint8, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def virtual(file: h5py.File) -> None:
    del file["images"]
    layout = h5py.VirtualLayout(shape=(FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    layout[:] = h5py.VirtualSource("/tmp/elsewhere.h5", "images", shape=layout.shape)
    file.create_virtual_dataset("images", layout)


def objects(file: h5py.File) -> None:
    del file["images"]
    file.create_dataset("images", (FRAMES,), h5py.vlen_dtype(np.uint8), chunks=(1,))


def references(file: h5py.File) -> None:
    del file["actions"]
    file.create_dataset("actions", (FRAMES, 3), h5py.ref_dtype, chunks=(1, 3))


def a_group(file: h5py.File) -> None:
    del file["images"]
    file.create_group("images")


def replaced(name: str, **options: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, **options)

    return change


def not_finite(file: h5py.File) -> None:
    file["actions"][3, 1] = np.nan


def fewer_told(file: h5py.File) -> None:
    file.attrs["num_frames"] = 18


HUGE = (1 << 40, 720, 1280, 3)
BROKEN: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "no images": (absent, "holds no 'images'; it holds 'action_event_types', 'actions'"),
    "a soft link": (soft_link, "'images' is a link, which is not followed"),
    "an external link": (external_link, "'images' is a link, which is not followed"),
    "data in another file": (raw_data_elsewhere, "stored in other files"),
    "a virtual dataset": (virtual, "stored in other files"),
    "objects": (objects, r"images of object \[6\]"),
    "references": (references, r"actions of object \[6, 3\]"),
    "a group": (a_group, "'images' is not a dataset"),
    "grey": (replaced("images", data=frames_of()[..., 0]), r"uint8 \[6, 24, 32\] instead of"),
    "16 bits": (replaced("images", data=frames_of().astype(np.uint16)), "images of uint16"),
    "four components": (replaced("actions", data=np.zeros((FRAMES, 4))), r"float64 \[6, 4\]"),
    "fewer actions": (replaced("actions", data=np.zeros((5, 3))), "has 6 images, but 5 actions"),
    "no frames": (replaced("images", shape=(0, HEIGHT, WIDTH, 3), dtype="u1"), "has 0 frames"),
    "rows without number": (
        replaced("images", shape=HUGE, dtype="u1", chunks=(1, 720, 1280, 3)),
        "has 1099511627776 frames",
    ),
    "never written": (
        replaced("images", shape=(1 << 19, 720, 1280, 3), dtype="u1"),
        "'images' was never written whole",
    ),
    "large chunks": (
        replaced("images", shape=(64, 720, 1280, 3), dtype="u1", chunks=(32, 720, 1280, 3)),
        "chunks of 84 MiB, at most 64 are read",
    ),
    "many chunks": (
        replaced("images", shape=(6, 1000, 1000, 3), dtype="u1", chunks=(1, 2, 2, 1)),
        "very many small chunks",
    ),
    "a filter that is not of the list": (
        replaced("images", shape=frames_of().shape, dtype="u1", chunks=(1, HEIGHT, WIDTH, 3), scaleoffset=4),
        r"through the filters \[6\]",
    ),
    "NaN": (not_finite, "not finite, at step 3"),
    "another number of frames": (fewer_told, "says that it has 18 frames, and holds 6"),
}


@pytest.mark.parametrize(("change", "words"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused_by_name(
    tmp_path: Path, change: Callable[[h5py.File], None], words: str
) -> None:
    path = write_hdf5(tmp_path / "bad.h5")
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(EpisodeError, match=rf"bad\.h5.*{words}"):
        only(path)


def test_a_frame_of_too_many_pixels_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "bad.h5")
    with h5py.File(path, "r+") as file:
        replaced("images", shape=(6, 1 << 20, 1 << 20, 3), dtype="u1", chunks=(1, 1024, 1024, 3))(file)
    with pytest.raises((EpisodeError, ImageError), match=r"bad\.h5"):
        only(path)


def test_a_frame_that_was_never_written_is_not_black(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "cut.h5")
    with h5py.File(path, "r+") as file:
        del file["images"]
        images = file.create_dataset("images", (6, 24, 32, 3), "u1", chunks=(1, 24, 32, 3), compression=1)
        images[:4] = frames_of()[:4]
    taken = only(path).frames()
    for expected in frames_of()[:4]:
        np.testing.assert_array_equal(next(taken), expected)
    with pytest.raises(EpisodeError, match=r"cut\.h5: /images was never written from index 4 on"):
        next(taken)


def test_a_chunk_that_unpacks_without_end_is_refused(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "bomb.h5")
    bomb = zlib.compress(bytes(300 << 20), 9)
    with h5py.File(path, "r+") as file:
        del file["images"]
        images = file.create_dataset("images", (6, 24, 32, 3), "u1", chunks=(1, 24, 32, 3), compression=9)
        for at in range(6):
            images.id.write_direct_chunk((at, 0, 0, 0), bomb)
    episode = only(path)
    tracemalloc.start()
    try:
        with pytest.raises(EpisodeError, match=r"bomb\.h5: a chunk of /images unpacks to more than its size"):
            next(episode.frames())
        assert tracemalloc.get_traced_memory()[1] < 2 * MAX_CHUNK_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kept", [0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, kept: float) -> None:
    path = write_hdf5(tmp_path / "short.h5")
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(EpisodeError, match=r"short\.h5 cannot be read as HDF5.*truncated"):
        only(path)


def test_damage_in_packed_data_is_told_where_it_is_met(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "bad.h5", chunks=(1, HEIGHT, WIDTH, 3), compression=1)
    with h5py.File(path, "r+") as file:
        file["images"].id.write_direct_chunk((3, 0, 0, 0), b"no zlib stream")
    with pytest.raises(EpisodeError, match=r"bad\.h5 cannot be read as HDF5"):
        list(only(path).frames())


def test_a_file_that_is_exchanged_meanwhile_ends_in_words(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.h5")
    episode = only(path)
    with h5py.File(path, "w") as file:
        file["images"] = frames_of()[:2]
    with pytest.raises(EpisodeError, match=r"ends after 2 of the 6 frames of a\.h5"):
        list(episode.frames())
