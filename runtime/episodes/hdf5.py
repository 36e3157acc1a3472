"""One HDF5 file an episode, as the policies' own robot recorded them.

`images` uint8 [T, H, W, 3] RGB, `actions` float [T, 2 or 3] in m/s and rad/s, attributes `num_frames` and
`total_duration`. What was to be done stands in the file's name (`scenarios`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from vla_edge.runtime.errors import EpisodeError
from vla_edge.runtime.images.reading import check_size

from .episode import Actions, Episode, check_frame_count, checked_actions
from .hdf5_checks import MAX_CHUNK_BYTES, CheckedRows, open_dataset
from .reading import reading, require_file
from .scenarios import instruction_of

NAMES = ("linear_x", "linear_y", "angular_z")
UNITS = ("m/s", "m/s", "rad/s")
_FEWEST_COMPONENTS = 2  # a recording without turning


def open_hdf5(path: Path, name: str) -> Episode:
    """The episode in a file; its frames stay there.

    Raises:
        EpisodeError: not such a file, or it is damaged; names what is amiss.
    """
    with _opened(path) as (file, size_bytes):
        count = _image_rows(file, path, size_bytes)[1]
        actions = _actions(file, path, size_bytes, count)
        told = _number(file, "num_frames")
        if told is not None and told != count:
            raise EpisodeError(
                f"{path} says that it has {told:g} frames, and holds {count}.",
                "The recording was cut short: record it again, or leave it out.",
            )
        duration_s = _number(file, "total_duration")
    times_s = None
    if duration_s is not None and math.isfinite(duration_s) and duration_s > 0:
        times_s = np.arange(count) * (duration_s / count)

    def read(start: int) -> Iterator[np.ndarray]:
        with _opened(path) as (file, size_bytes):
            rows, held = _image_rows(file, path, size_bytes)
            for at in range(start, min(held, count)):
                yield rows[at]

    return Episode(name, path, instruction_of(path.stem), count, times_s, actions, read)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[h5py.File, int]]:
    size_bytes = require_file(path)
    with (
        reading(path, "HDF5"),
        # without a lock: recordings lie on shares and read-only disks that have none
        h5py.File(path, "r", locking=False, rdcc_nbytes=MAX_CHUNK_BYTES) as file,
    ):
        yield file, size_bytes


def _image_rows(file: h5py.File, path: Path, size_bytes: int) -> tuple[CheckedRows, int]:
    images = open_dataset(file, "images", path)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise EpisodeError(
            f"{path} has images of {images.dtype} {list(images.shape)} instead of uint8 [T, H, W, 3].",
            "Save the frames as 8-bit RGB.",
        )
    count = check_frame_count(images.shape[0], path)
    check_size(images.shape[2], images.shape[1], f"a frame of {path}")
    return CheckedRows(images, path, size_bytes), count


def _actions(file: h5py.File, path: Path, size_bytes: int, count: int) -> Actions:
    actions = open_dataset(file, "actions", path)
    fits = actions.ndim == 2 and _FEWEST_COMPONENTS <= actions.shape[1] <= len(NAMES)
    if actions.dtype.kind not in "fiu" or not fits:
        raise EpisodeError(
            f"{path} has actions of {actions.dtype} {list(actions.shape)} instead of float [T, 2 or 3].",
            f"They are {', '.join(NAMES)}.",
        )
    if actions.shape[0] != count:
        raise EpisodeError(
            f"{path} has {count} images, but {actions.shape[0]} actions.",
            "The recording was cut short: record it again, or leave it out.",
        )
    values = CheckedRows(actions, path, size_bytes)[0:count]
    components = actions.shape[1]
    return checked_actions(values, NAMES[:components], UNITS[:components], path)


def _number(file: h5py.File, name: str) -> float | None:
    """An attribute that is one number; None for anything else, which is not read."""
    if not h5py.h5a.exists(file.id, name.encode()):
        return None
    attribute = h5py.h5a.open(file.id, name.encode())
    if attribute.shape not in ((), (1,)) or attribute.dtype.kind not in "fiu":
        return None
    return float(np.asarray(file.attrs[name]).reshape(-1)[0])
