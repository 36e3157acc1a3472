"""The policy on an episode, frame after frame, as a robot would run it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_edge.runtime.action import Action
from vla_edge.runtime.bundle.manifest import ActionSpec
from vla_edge.runtime.episodes.episode import Episode
from vla_edge.runtime.errors import ImageError
from vla_edge.runtime.policy import Policy

from .driven import driven_of, normalised
from .trainer import TRAINED_STEPS

# Slower than this is standing still, of which a sign or an angle says nothing; in the component's own unit.
STANDING = 0.05
_SPEED_UNIT = "m/s"


@dataclass(frozen=True, slots=True)
class Step:
    """One frame: what was driven, and what the policy would have.

    Attributes:
        episode, step: the frame.
        time_s: since the episode began, None where the recording does not tell.
        instruction: that the policy followed.
        recorded: in each component's unit; None of a recording without actions, and so is all that needs it.
        predicted: as commanded, limits applied.
        error: predicted less recorded.
        normalised_error: |the graph's output less training's target|.
        angle_deg: between the two velocities; None where one stands still or there are no two components in m/s.
        flips: of each component, whether one drives and the other drives back.
        clamped, held: as `Action` has them.
        latency_ms: from frame to action.
    """

    episode: str
    step: int
    time_s: float | None
    instruction: str | None
    recorded: tuple[float, ...] | None
    predicted: tuple[float, ...]
    error: tuple[float, ...] | None
    normalised_error: tuple[float, ...] | None
    angle_deg: float | None
    flips: tuple[bool, ...] | None
    clamped: bool
    held: bool
    latency_ms: float


@dataclass(frozen=True, eq=False)
class Replayed:
    """An episode, replayed whole.

    Attributes:
        path: the file or folder that it was read from.
        steps: one a frame.
        raw: the graph's outputs for the steps of training, float64 [18, size]: a shorter episode's last frame is shown
            again, as it was in training.
        targets: what training took them for, float64 [18, size]; None of a recording without actions.
    """

    path: Path
    steps: tuple[Step, ...]
    raw: np.ndarray
    targets: np.ndarray | None


# What looks on while an episode is replayed: each step with its frame, uint8 RGB [H, W, 3], which is not to be kept.
Seen = Callable[[Step, np.ndarray], None]


def unseen(step: Step, frame: np.ndarray) -> None:
    """Nobody looks on."""


def replay_episode(
    policy: Policy, episode: Episode, instruction: str | None, seen: Seen = unseen
) -> Replayed:
    """All of an episode; what a policy carries begins anew.

    Args:
        policy: of batch 1.
        episode: its frames are read one at a time.
        instruction: for all of it; None for the bundle's default, and for a policy without text.
        seen: is called after each step.

    Raises:
        InputError: the recording's components are not the policy's, or a frame cannot be read.
        VlaError: whatever `Policy.act` raises.
    """
    spec = policy.manifest.action
    driven = driven_of(episode, spec)
    targets = None if driven is None else _targets(driven, spec)
    steps: list[Step] = []
    raw: list[tuple[float, ...]] = []
    for at, (frame, action) in enumerate(_actions(policy, episode, instruction)):
        raw.append(action.raw)
        if at < episode.frame_count:
            steps.append(_step(episode, at, action, driven, spec))
            seen(steps[-1], frame)
    return Replayed(episode.path, tuple(steps), np.array(raw[:TRAINED_STEPS]), targets)


def _actions(
    policy: Policy, episode: Episode, instruction: str | None
) -> Iterator[tuple[np.ndarray, Action]]:
    """For each frame, and for the last one again until an episode is as long as those of training."""
    policy.reset()
    frame = None
    for at, frame in enumerate(episode.frames()):
        try:
            action = policy.act(policy.in_order(frame), instruction)
        except ImageError as error:  # such as a size that is not the camera's
            raise ImageError(f"frame {at} of {episode.name}: {error.problem}", error.hint) from error
        yield frame, action
    for _ in range(episode.frame_count, TRAINED_STEPS):
        if frame is not None:
            yield frame, policy.act(policy.in_order(frame), instruction)


def _targets(driven: np.ndarray, spec: ActionSpec) -> np.ndarray:
    """Of the steps of training: a longer episode is cut, a shorter one stands still at its end."""
    standing = np.zeros((max(0, TRAINED_STEPS - len(driven)), len(spec.names)))
    return normalised(np.concatenate([driven[:TRAINED_STEPS], standing]), spec)


def _step(episode: Episode, at: int, action: Action, driven: np.ndarray | None, spec: ActionSpec) -> Step:
    recorded = None if driven is None else tuple(driven[at].tolist())
    predicted = action.values
    error = wrong = angle = flips = None
    if recorded is not None:
        error = tuple(mine - theirs for mine, theirs in zip(predicted, recorded, strict=True))
        target = normalised(np.array(recorded), spec)
        wrong = tuple(np.abs(np.array(action.raw) - target).tolist())
        angle = angle_deg(predicted, recorded, spec)
        flips = tuple(drives_back(np.array(predicted), np.array(recorded)).tolist())
    return Step(
        episode=episode.name,
        step=at,
        time_s=None if episode.times_s is None else float(episode.times_s[at]),
        instruction=action.instruction,
        recorded=recorded,
        predicted=predicted,
        error=error,
        normalised_error=wrong,
        angle_deg=angle,
        flips=flips,
        clamped=action.clamped,
        held=action.held,
        latency_ms=action.timings_ms["total"],
    )


def angle_deg(one: tuple[float, ...], other: tuple[float, ...], spec: ActionSpec) -> float | None:
    """Between two velocities, 0 to 180 degrees; None where one stands still, or of fewer than two components in m/s."""
    places = [at for at, unit in enumerate(spec.units) if unit == _SPEED_UNIT]
    mine, theirs = ([values[at] for at in places] for values in (one, other))
    if len(places) < 2 or min(math.hypot(*mine), math.hypot(*theirs)) < STANDING:
        return None
    along = sum(a * b for a, b in zip(mine, theirs, strict=True))
    cosine = along / (math.hypot(*mine) * math.hypot(*theirs))
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def drives_back(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of each component, whether the two drive opposite ways, neither of them standing; bool of the same shape."""
    back: np.ndarray = (one * other < 0) & (np.minimum(np.abs(one), np.abs(other)) >= STANDING)
    return back
