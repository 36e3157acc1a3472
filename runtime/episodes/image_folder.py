"""A folder of images as an episode, in the order in which people count, with a CSV of actions if there is one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vla_edge.runtime.errors import EpisodeError
from vla_edge.runtime.images.order import images_in
from vla_edge.runtime.images.reading import read_image

from .action_csv import actions_beside
from .episode import Episode, check_frame_count
from .scenarios import told_instruction

ACTIONS_NAME = "actions.csv"


def open_image_folder(path: Path, name: str) -> Episode:
    """The images of a folder; each is read when its turn comes.

    Raises:
        EpisodeError: no images, or an `actions.csv` that does not fit them.
    """
    files = images_in(path)
    count = check_frame_count(len(files), path)

    def read(start: int) -> Iterator[np.ndarray]:
        for file in files[start:]:
            if not file.exists():
                raise EpisodeError(f"{file} is gone.", "Copy the episode again.")
            yield np.asarray(read_image(file))

    actions = actions_beside(path / ACTIONS_NAME, count)
    return Episode(name, path, told_instruction(path.resolve().name), count, None, actions, read)
