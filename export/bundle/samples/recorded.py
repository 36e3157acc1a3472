"""Golden samples from recorded episodes: gates are then judged on what the robot sees where it drives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vla_edge.export.screen.reporter import Reporter
from vla_edge.runtime.bundle.manifest import Camera, Preprocessing
from vla_edge.runtime.episodes.episode import Episode
from vla_edge.runtime.episodes.episodes import Episodes
from vla_edge.runtime.episodes.opening import Choice, open_episodes
from vla_edge.runtime.errors import EpisodeError, ImageError, InputError
from vla_edge.runtime.printable import one_line

from .followed import Instructions
from .frames import FEWEST, Frame, GoldenFrames, Taken, require_room
from .spread import Place, spread

USUAL_SAMPLES = 10  # as many as there are packaged frames
# Frames that run before a sample where state is carried: as on a robot that was reset so many frames ago.
RUN_IN = 4


@dataclass(frozen=True)
class RecordedSamples:
    """What was asked for.

    Attributes:
        path: a recording, or a folder of them.
        count: of samples.
        choice: of a camera and a topic of velocities, where a recording has several.
        skip_broken: leave out what cannot be read, and say so.
    """

    path: Path
    count: int = USUAL_SAMPLES
    choice: Choice = field(default_factory=Choice)
    skip_broken: bool = False


@dataclass(frozen=True, eq=False)
class _Clip:
    """A chosen frame with those that run before it.

    Attributes:
        pixels: float32 [k + 1, 3, H, W], the chosen one's last.
        frame: the chosen one as the camera gives it, uint8 [height, width, 3], or None.
        resized: as of `Taken`.
    """

    pixels: np.ndarray
    frame: np.ndarray | None
    resized: str


@dataclass(frozen=True)
class Use:
    """How a policy takes frames.

    Attributes:
        preprocessing: of each.
        first_frames: it acts on an episode's first frame alone.
        carries: state goes from a frame to the next.
        camera: whose frames it takes as they are; None: it takes pixels.
    """

    preprocessing: Preprocessing
    first_frames: bool
    carries: bool
    camera: Camera | None = None


def recorded_frames(
    asked: RecordedSamples, use: Use, instructions: Instructions, reporter: Reporter
) -> GoldenFrames:
    """Frames of all instructions, episodes and times; the same ones for the same recordings.

    Raises:
        EpisodeError, ImageError: a recording is broken and not to be left out; names it.
        InputError: too few frames, or none with an instruction that the bundle holds.
        MissingPackageError: the library of the recordings' format is not installed.
    """
    episodes = open_episodes(asked.path, choice=asked.choice, skip_broken=asked.skip_broken)
    found = []
    with reporter.stage("opening episodes", len(episodes), "episodes") as advance:
        for episode in episodes:
            found.append(episode)
            advance(1)
    usable = instructions.followed(found, reporter.note)
    clips: list[_Clip] | None = None
    while clips is None:
        places = _choose(usable, asked, use, instructions)
        require_room(len(places), use.camera)
        clips = _read(usable, places, use, episodes)
    for error in episodes.broken.values():
        reporter.note(f"left out: {error.problem}")
    of = len({place.episode for place in places})
    return GoldenFrames(
        names=tuple(one_line(f"{usable[at].name} frame {frame}") for at, frame in places),
        pixels=np.stack([clip.pixels[-1] for clip in clips]),
        before=tuple(clip.pixels[:-1] for clip in clips) if use.carries else (),
        instructions=tuple(usable[at].instruction for at, _ in places) if instructions.texts else (),
        origin=f"frames of {of} of {len(episodes)} episodes in {asked.path.resolve().name}",
        frames=np.stack([clip.frame for clip in clips if clip.frame is not None]) if use.camera else None,
        resized=next((clip.resized for clip in clips if clip.resized), ""),
    )


def _choose(
    episodes: Sequence[Episode], asked: RecordedSamples, use: Use, instructions: Instructions
) -> list[Place]:
    total = sum(episode.frame_count for episode in episodes)
    if total < FEWEST:
        raise InputError(
            f"{asked.path} holds {total} usable frames; golden samples need at least eight.",
            "Give more episodes.",
        )
    kinds = [instructions.kind(episode) for episode in episodes]
    counts = [episode.frame_count for episode in episodes]
    return spread(counts, kinds, asked.count, use.first_frames)


def _read(episodes: list[Episode], places: Sequence[Place], use: Use, opened: Episodes) -> list[_Clip] | None:
    """Each chosen frame with those that run before it.

    None where an episode turned out to be broken and was left out of `episodes`.
    """
    clips = []
    for at, frame in places:
        run_in = min(frame, RUN_IN) if use.carries and not use.first_frames else 0
        try:
            clips.append(_clip(episodes[at], frame - run_in, run_in + 1, use))
        except (EpisodeError, ImageError) as error:
            opened.pass_over(episodes[at].name, error)
            del episodes[at]
            return None
    return clips


def _clip(episode: Episode, start: int, count: int, use: Use) -> _Clip:
    taken = Taken(count, use.preprocessing, use.camera)
    # an episode has all the frames that it said, or raises
    for _, image in zip(range(count), episode.frames(start), strict=False):
        taken.add(Frame(episode.name, image))
    return _Clip(taken.pixels, None if taken.frames is None else taken.frames[-1].copy(), taken.resized)
