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
from .kinds import ACTIONS_NAME
from .scenarios import told_instruction


def open_image_folder(path: Path, name: str, with_actions: bool = True) -> Episode:
    """The images of a folder, with the actions beside them where they are wanted; each is read when its turn comes.

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

    actions = actions_beside(path / ACTIONS_NAME, count) if with_actions else None
    return Episode(name, path, told_instruction(path.resolve().name), count, None, actions, read)
