"""What a page shows of the episodes, gathered while they are replayed: a few small frames, and the velocities.

A frame is looked at once and let go: of an episode at most eight stay, and the one of its worst step, each made small
at once. So memory does not grow with the length of an episode.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from vla_edge.runtime.bundle.manifest import ActionSpec
from vla_edge.runtime.replay.against import Other, predicted
from vla_edge.runtime.replay.steps import Replayed, Step
from vla_edge.runtime.replay.summary import Kept

MAX_DRAWN = 80  # episodes: the owner's 72, in a page of 4 MB
MAX_STRIP = 8  # frames of an episode
STRIP_PX, WORST_PX = 160, 360  # the longer side
QUALITY = 70  # of JPEG


@dataclass(frozen=True)
class Picture:
    """A small frame: its step, and the JPEG as a `data:` address."""

    step: int
    source: str


@dataclass(frozen=True, eq=False)
class Worst:
    """The step of an episode that is furthest off, and its frame; values in the components' units."""

    episode: str
    picture: Picture
    recorded: tuple[float, ...]
    predicted: tuple[float, ...]
    largest: float

    @staticmethod
    def in_words(values: tuple[float, ...]) -> str:
        """The components with two digits; what rounds to zero has no sign."""
        return ", ".join(f"{round(value, 2) + 0.0:.2f}" for value in values)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Of an episode.

    Attributes:
        name, instruction: of it.
        strip: some of its frames in their order.
        times_s: float64 [T], None where the recording does not tell.
        recorded, predicted, against: float64 [T, size]; None where there is none.
    """

    name: str
    instruction: str | None
    strip: tuple[Picture, ...]
    times_s: np.ndarray | None
    recorded: np.ndarray | None
    predicted: np.ndarray
    against: np.ndarray | None


@dataclass
class Pictures:
    """Gathers them; `see` is for `replay_episode`, `episode` is called when one is through.

    Attributes:
        spec: of the policy's actions.
        drawn: at most `MAX_DRAWN`, the first of all.
        worst: of every episode with recorded actions, at most `MAX_DRAWN`, in no order.
    """

    spec: ActionSpec
    drawn: list[Drawn] = field(default_factory=list)
    worst: list[Worst] = field(default_factory=list)
    _strip: dict[int, Image.Image] = field(default_factory=dict)
    _every: int = 1
    _furthest: tuple[float, Step, Image.Image] | None = None

    def see(self, step: Step, frame: np.ndarray) -> None:
        """Look at one step's frame, uint8 RGB [H, W, 3]."""
        if step.step == 0:
            self._strip, self._every, self._furthest = {}, 1, None
        if step.step % self._every == 0 and len(self.drawn) < MAX_DRAWN:
            self._strip[step.step] = _small(frame, STRIP_PX)
            if len(self._strip) > MAX_STRIP:  # every second one goes
                self._every *= 2
                self._strip = {at: kept for at, kept in self._strip.items() if at % self._every == 0}
        if step.error is not None:
            largest = max(map(abs, step.error))
            if self._furthest is None or largest > self._furthest[0]:
                self._furthest = (largest, step, _small(frame, WORST_PX))

    def episode(self, replayed: Replayed, kept: Kept, other: Other | None) -> None:
        """An episode is through."""
        steps = replayed.steps
        if self._furthest is not None:
            largest, step, image = self._furthest
            picture = Picture(step.step, _jpeg(image))
            self.worst.append(Worst(kept.name, picture, step.recorded or (), step.predicted, largest))
            self.worst = sorted(self.worst, key=lambda each: -each.largest)[:MAX_DRAWN]
        if len(self.drawn) == MAX_DRAWN:
            return
        times = [step.time_s for step in steps if step.time_s is not None]
        recorded = [step.recorded for step in steps if step.recorded is not None]
        against = None if other is None or kept.apart is None else other[kept.name]
        self.drawn.append(
            Drawn(
                name=kept.name,
                instruction=steps[0].instruction,
                strip=tuple(Picture(at, _jpeg(image)) for at, image in self._strip.items()),
                times_s=np.array(times) if times else None,
                recorded=np.array(recorded) if recorded else None,
                predicted=predicted(steps),
                against=against,
            )
        )


def _small(frame: np.ndarray, longest_px: int) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(frame))
    image.thumbnail((longest_px, longest_px))
    return image


def _jpeg(image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
