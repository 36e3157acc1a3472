"""A drive's updates as Rerun logs them: an entity for each thing, on the timelines `time` and `frame`."""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
from pathlib import Path

from vla_edge.runtime.printable import one_line

from .layout import CAMERA, COMMAND, DEADLINE, LATENCY, LOG, LOOP, POLICY, STATE, component, drive_layout
from .messages import Beginning, Told, Update

_FLUSH_S = 5.0
_ROOM_BYTES = 1 << 20  # a disk with less is full
_LEVELS = {"moving": "INFO", "fault": "ERROR"}


def partial_of(path: Path) -> Path:
    """The file while it grows: the viewer opens it, too."""
    return path.with_name(f"{path.stem}.partial{path.suffix}")


class Recording:
    """Logs a drive to where it is shown.

    Args:
        beginning: of the drive.

    Raises:
        RuntimeError: from Rerun: the viewer or the file cannot be had.
    """

    def __init__(self, beginning: Beginning) -> None:
        import rerun

        self._beginning = beginning
        self._said = ("", "")
        self._figures_s = float("-inf")
        self._paths = [component(*each) for each in zip(beginning.names, beginning.units, strict=True)]
        self._to = rerun.RecordingStream(
            "vla-drive", recording_id=beginning.recording, batcher_config=rerun.ChunkBatcherConfig.DEFAULT()
        )
        self._open()
        self._to.send_blueprint(drive_layout(beginning))
        self._name_series()

    def _open(self) -> None:
        place = self._beginning.place
        if place.kind == "file":
            path = partial_of(Path(place.where))
            path.unlink(missing_ok=True)  # somebody may still look at it
            # the footer is a list of all that was written, which grows in memory
            self._to.save(path, write_footer=False)
        elif place.kind == "address":
            self._to.connect_grpc(place.where)
        else:
            _find_viewer()
            self._to.spawn(memory_limit="1GiB", hide_welcome_screen=True)

    def _name_series(self) -> None:
        import rerun

        for path, name in zip(self._paths, self._beginning.names, strict=True):
            self._to.log([COMMAND, path], rerun.SeriesLines(names=name), static=True)
            self._to.log([POLICY, path], rerun.SeriesLines(names=f"{name}, as the policy said"), static=True)
        self._to.log([LATENCY, "of each frame [ms]"], rerun.SeriesLines(names="latency"), static=True)
        red = rerun.SeriesLines(names="deadline", colors=[220, 60, 60], widths=1.0)
        self._to.log([LATENCY, f"{DEADLINE} [ms]"], red, static=True)

    def add(self, update: Update) -> None:
        """Log what happened."""
        import rerun

        for told in update.commands:
            self._tell(told)
        if update.frame is not None:
            self._at(update.frame.time_s, update.frame.number)
            image = rerun.EncodedImage(contents=update.frame.jpeg, media_type="image/jpeg")
            self._to.log(CAMERA, image)
        self._at(update.time_s)
        self._state(update)

    def _at(self, time_s: float, frame: int = 0) -> None:
        self._to.set_time("time", duration=time_s)
        if frame:
            self._to.set_time("frame", sequence=frame)
        else:
            self._to.disable_timeline("frame")

    def _tell(self, told: Told) -> None:
        import rerun

        self._at(told.time_s, told.frame)
        for kind, values in ((COMMAND, told.values), (POLICY, told.said or ())):
            for path, value in zip(self._paths, values, strict=False):
                self._to.log([kind, path], rerun.Scalars([value]))
        if told.latency_ms is not None:
            self._to.log([LATENCY, "of each frame [ms]"], rerun.Scalars([told.latency_ms]))
            self._to.log([LATENCY, f"{DEADLINE} [ms]"], rerun.Scalars([self._beginning.deadline_ms]))

    def _state(self, update: Update) -> None:
        """The state as text: in the log where it changed, as a document each second as well."""
        import rerun

        said = (update.state, update.reason)
        if said != self._said:
            self._said, self._figures_s = said, float("-inf")
            text = f"{update.state}: {update.reason}" if update.reason else update.state
            self._to.log(LOG, rerun.TextLog(one_line(text), level=_LEVELS.get(update.state, "WARN")))
        if update.time_s - self._figures_s < 1.0:
            return
        self._figures_s = update.time_s
        self._to.log(STATE, rerun.TextDocument(self._document(update), media_type="text/markdown"))
        for name, value in update.figures.items():
            self._to.log([LOOP, name], rerun.Scalars([value]))

    def _document(self, update: Update) -> str:
        moving = update.state == "moving"
        lines = ["# MOVING" if moving else f"# STOPPED ({update.state})"]
        if update.reason:
            lines.append(f"**{_plain(update.reason)}**")
        if update.instruction:
            lines.append(f"instruction: {_plain(update.instruction)}")
        lines.append(", ".join(f"{_plain(name)} {value:g}" for name, value in update.figures.items()))
        lines += [_plain(line) for line in self._beginning.about]
        return "\n\n".join(lines)

    def flush(self) -> None:
        """See to it that all of it is in the file, or at the viewer.

        Raises:
            RuntimeError: from Rerun: it is not, within seconds.
            OSError: the disk is full, of which Rerun says no more than that.
        """
        try:
            self._to.flush(timeout_sec=_FLUSH_S)
        except RuntimeError:
            place = self._beginning.place
            if place.kind == "file" and shutil.disk_usage(Path(place.where).parent).free < _ROOM_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
            raise

    def end(self) -> None:
        """Flush, and give a file its name."""
        self.flush()
        self._to.disconnect()
        place = self._beginning.place
        if place.kind == "file":
            path = Path(place.where)
            partial_of(path).replace(path)


def _find_viewer() -> None:
    """Have Rerun find its own viewer though nobody has put this installation's programs into the path."""
    wheel = importlib.util.find_spec("rerun_cli")
    folders = [*(wheel.submodule_search_locations or ())] if wheel else []
    os.environ["PATH"] = os.pathsep.join([*folders, os.environ.get("PATH", os.defpath)])


def _plain(text: str) -> str:
    """A text that says nothing in Markdown."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|!~" else letter for letter in one_line(text))
