"""A replay as a recording for the Rerun viewer: frames and velocities on one timeline, an entity an episode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vla_edge.runtime.bundle.manifest import ActionSpec
from vla_edge.runtime.errors import ResourceError
from vla_edge.runtime.files.atomic import staging_file, sync_folder
from vla_edge.runtime.printable import one_line
from vla_edge.runtime.replay.against import Other
from vla_edge.runtime.replay.steps import Seen, Step
from vla_edge.runtime.show.jpeg import jpeg

from .rerun_layout import replay_layout

if TYPE_CHECKING:
    import rerun

LONGEST_PX = 640  # of a frame's sides: 72 episodes of 18 frames make some 40 MB
QUALITY = 80  # of JPEG
FLUSH_S = 30  # for what is not on the disk yet, a few megabytes
_COLORS = {"driven": (150, 150, 150), "predicted": (70, 150, 255), "against": (255, 150, 50)}


@contextmanager
def rerun_file(path: Path, spec: ActionSpec, other: Other | None) -> Iterator[Seen]:
    """Yields what looks on while episodes are replayed; at the end the file appears, whole.

    Args:
        path: of the recording.
        spec: of the policy's actions.
        other: what another policy commanded, shown beside it.

    Raises:
        OSError: the folder cannot be written.
        ResourceError: the disk is full.
    """
    import rerun

    with staging_file(path) as (staged, _):
        recording = rerun.RecordingStream("vla-replay")
        recording.save(staged)  # by its name: the stream writes from a thread of its own
        log = _Log(recording, spec, other)
        try:
            yield log.see
            recording.send_blueprint(replay_layout(log.episodes, spec))
            _flush(recording, path)
        finally:
            recording.disconnect()
        staged.replace(path)
    sync_folder(path.parent)


def _flush(recording: rerun.RecordingStream, path: Path) -> None:
    """Wait for the thread that writes; where the disk was full it has ended, and an answer may never come."""
    try:
        recording.flush(timeout_sec=FLUSH_S)
    except RuntimeError as error:  # that thread has logged the disk's own word
        raise ResourceError(
            f"{path} cannot be written: the disk is full, or does not answer.",
            "Free some of it, or give another place.",
        ) from error


class _Log:
    """Sends each step to a recording."""

    def __init__(self, recording: rerun.RecordingStream, spec: ActionSpec, other: Other | None) -> None:
        self._recording, self._spec, self._other = recording, spec, other or {}
        self.episodes: list[str] = []

    def see(self, step: Step, frame: np.ndarray) -> None:
        import rerun

        recording, episode = self._recording, one_line(step.episode)
        recording.set_time("step", sequence=step.step)
        if step.time_s is not None:
            recording.set_time("time", duration=step.time_s)
        if step.step == 0:
            self._begin(episode)
        if step.step == 0 and step.instruction:
            recording.log([episode, "instruction"], rerun.TextDocument(one_line(step.instruction)))
        image = rerun.EncodedImage(contents=jpeg(frame, LONGEST_PX, QUALITY), media_type="image/jpeg")
        recording.log([episode, "camera"], image)
        against = self._against(step)
        for what, values in (("driven", step.recorded), ("predicted", step.predicted), ("against", against)):
            for name, value in zip(self._spec.names, values or (), strict=False):
                recording.log([episode, one_line(name), what], rerun.Scalars([value]))

    def _begin(self, episode: str) -> None:
        """Name its series, the same everywhere."""
        import rerun

        self.episodes.append(episode)
        for name in self._spec.names:
            for what, color in _COLORS.items():
                style = rerun.SeriesLines(names=what, colors=color)
                self._recording.log([episode, one_line(name), what], style, static=True)

    def _against(self, step: Step) -> tuple[float, ...] | None:
        theirs = self._other.get(step.episode)
        return None if theirs is None or step.step >= len(theirs) else tuple(theirs[step.step].tolist())
