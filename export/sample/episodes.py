"""Generated episodes in the format of the policies' recordings, one HDF5 file each.

They are for trying and testing what takes episodes: the scene is drawn, and each file says so itself
(`vla_sample`). The same seed gives the same frames and actions.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from vla_edge.runtime.episodes.scenarios import SCENARIOS
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.files.atomic import sync_folder
from vla_edge.runtime.files.exchange import exchange
from vla_edge.runtime.files.renaming import rename_new
from vla_edge.runtime.files.staging import staging_folder

from .scene import STEP_S, plan_drive, render

MARK = "vla_sample"
_VERSION = "0.1.0"
_EVENTS = ("episode_start", "start_action", "stop_action")


@dataclass(frozen=True)
class EpisodeSamples:
    """What to generate.

    Attributes:
        count: of episodes, which go through the scenarios in turn.
        frames: of each.
        height, width: of a frame, pixels.
        seed: the same gives the same.
    """

    count: int
    frames: int
    height: int
    width: int
    seed: int

    @property
    def description(self) -> str:
        size = f"{self.height}x{self.width}"
        return f"episodes={self.count} frames={self.frames} size={size} seed={self.seed}"


def write_episodes(
    folder: Path,
    samples: EpisodeSamples,
    advance: Callable[[int], None] = lambda frames: None,
    replace: bool = False,
) -> list[Path]:
    """Write a folder of episodes; it appears when all are complete.

    Args:
        folder: to appear; its parent must exist.
        samples: what to generate.
        advance: called with numbers of frames written.
        replace: an earlier folder of generated episodes, and nothing else.

    Returns:
        The files, in order.

    Raises:
        InputError: something has this name, and is not to be replaced or was not written here.
        OSError: the disk is full or the folder cannot be written.
    """
    refuse_existing(folder, replace)
    names = [_file_name(number, samples.count) for number in range(samples.count)]
    with staging_folder(folder) as staging:
        for number, name in enumerate(names):
            _write(staging / name, number, samples, advance)
            with (staging / name).open("rb") as file:
                os.fsync(file.fileno())
        if os.path.lexists(folder):
            refuse_existing(folder, replace)  # what came while it was written
            exchange(staging, folder)
        else:
            rename_new(staging, folder)
    sync_folder(folder.parent)
    return [folder / name for name in names]


def refuse_existing(folder: Path, replace: bool) -> None:
    """Refuse what is not to be replaced: recordings cannot be had again.

    Raises:
        InputError: as `write_episodes`.
    """
    if not os.path.lexists(folder):
        return
    if not replace:
        raise InputError(
            f"{folder} exists.", "Give another folder, or --force to replace generated episodes."
        )
    held = sorted(folder.iterdir()) if folder.is_dir() else [folder]
    foreign = next((path for path in held if not _is_ours(path)), None)
    if foreign is not None:
        raise InputError(
            f"{foreign} was not written by vla-sample, so it is not replaced.", "Give another folder."
        )


def _is_ours(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    try:
        with h5py.File(path, "r", locking=False) as file:
            return MARK in file.attrs
    except OSError:  # no HDF5
        return False


def _scenario(number: int) -> str:
    return SCENARIOS[number % len(SCENARIOS)]


def _file_name(number: int, count: int) -> str:
    return f"episode_{number:0{max(3, len(str(count - 1)))}d}_{_scenario(number)}.h5"


def _write(path: Path, number: int, samples: EpisodeSamples, advance: Callable[[int], None]) -> None:
    drive = plan_drive(_scenario(number), samples.frames, np.random.default_rng([samples.seed, number]))
    frame = (samples.height, samples.width, 3)
    with h5py.File(path, "x") as file:
        images = file.create_dataset(
            "images", (samples.frames, *frame), np.uint8, chunks=(1, *frame), compression=1
        )
        for step in range(samples.frames):
            images[step] = render(drive, step, samples.height, samples.width)
            advance(1)
        file["actions"] = drive.actions
        file["action_event_types"] = [_event(step, samples.frames).encode() for step in range(samples.frames)]
        file.attrs["episode_name"] = path.stem
        file.attrs["num_frames"] = samples.frames
        file.attrs["total_duration"] = samples.frames * STEP_S
        file.attrs[MARK] = f"vla-sample {_VERSION} {samples.description}"


def _event(step: int, frames: int) -> str:
    return _EVENTS[0] if step == 0 else _EVENTS[2] if step == frames - 1 else _EVENTS[1]
