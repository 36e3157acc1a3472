"""Recordings, damaged: each is opened, and every frame that it still gives is taken."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
from fuzz_mutate import mutate_bytes, mutate_json
from fuzz_reader import Reader

KEPT = Path(__file__).parents[1] / "runtime/episodes/kept"


def take_all(path: Path) -> None:
    """Read a recording to its end.

    Raises:
        VlaError: refused.
    """
    from vla_edge.runtime.episodes.opening import open_episodes

    for episode in open_episodes(path):
        for frame in episode.frames():
            frame.sum()


class Hdf5(Reader):
    """An episode's file: contiguous, packed by the frame, and in chunks that h5py chose."""

    def prepare(self) -> None:
        from episode_files import write_hdf5

        options = ({}, {"chunks": (1, 24, 32, 3), "compression": 4}, {"chunks": True, "compression": "lzf"})
        self.examples = [
            write_hdf5(self.folder / f"{at}.h5", **each).read_bytes() for at, each in enumerate(options)
        ]

    def mutate(self, rng: random.Random, data: bytes) -> bytes:
        """Mostly in its first KiB, where its tables are: frames themselves have nothing to break."""
        head = 4096
        if rng.random() < 0.2:
            return mutate_bytes(rng, data)
        return mutate_bytes(rng, data[:head]) + data[head:]

    def read(self, data: bytes) -> None:
        path = self.folder / "case.h5"
        path.write_bytes(data)
        take_all(path)


class OfDataSet(Reader):
    """One file of a LeRobot data set."""

    data_set, name = "lerobot-3-image", ""

    def prepare(self) -> None:
        self.root = self.folder / "data-set"
        shutil.copytree(KEPT / self.data_set, self.root)
        self.examples = [(self.root / self.name).read_bytes()]

    def read(self, data: bytes) -> None:
        (self.root / self.name).write_bytes(data)
        take_all(self.root)


class LerobotInfo(OfDataSet):
    """What a data set says of itself."""

    name = "meta/info.json"

    def mutate(self, rng: random.Random, data: bytes) -> bytes:
        return mutate_bytes(rng, data) if rng.random() < 0.1 else mutate_json(rng, data)


class Tables(OfDataSet):
    """A table with actions and frames; its footer stands at its end."""

    name = "data/chunk-000/file-000.parquet"

    def mutate(self, rng: random.Random, data: bytes) -> bytes:
        if rng.random() < 0.4:
            return mutate_bytes(rng, data)
        begins = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
        footer = mutate_bytes(rng, data[begins:-8])
        return data[:begins] + footer + len(footer).to_bytes(4, "little") + data[-4:]


class Bags(Reader):
    """MCAP with and without chunks, and SQLite."""

    def prepare(self) -> None:
        from bag_files import CMD_VEL, Said, compressed_image, raw_image, twist, write_bag
        from episode_files import frames_of

        said = [Said("/camera", 0.1 * at, raw_image(frames_of()[at])) for at in range(4)]
        said += [Said("/camera", 1.0, raw_image(frames_of()[4], 9.0)), Said(CMD_VEL, 0.2, twist(1, 2, 3))]
        small = [
            Said("/camera", 0.1, compressed_image(frames_of()[0])),
            Said(CMD_VEL, 0.2, twist(1, 2, 3, 4.0)),
        ]
        self.examples = [
            write_bag(self.folder / "a", said).read_bytes(),
            write_bag(self.folder / "b", small).read_bytes(),
            write_bag(self.folder / "c", said, "sqlite3").read_bytes(),
            write_bag(self.folder / "d", said, packed=True).read_bytes(),
        ]

    def read(self, data: bytes) -> None:
        path = self.folder / "case.mcap"
        path.write_bytes(data)
        take_all(path)


class Videos(Reader):
    """MP4, Matroska and AVI."""

    def prepare(self) -> None:
        from episode_files import even_frames, write_video

        frames = np.concatenate(
            [even_frames(4), np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), np.uint8)]
        )
        kinds = (
            (".mp4", "libx264", "yuv420p"),
            (".webm", "libvpx-vp9", "yuv420p"),
            (".avi", "mjpeg", "yuvj420p"),
        )
        self.examples = [
            write_video(self.folder / f"case{suffix}", frames, codec=codec, pixels=pixels).read_bytes()
            for suffix, codec, pixels in kinds
        ]

    def read(self, data: bytes) -> None:
        path = self.folder / "case.bin"
        path.write_bytes(data)
        take_all(path)
