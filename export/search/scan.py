"""The validation error of every combination."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vla_edge.export.family import Family
from vla_edge.export.family_search import Need, Search

from .features.features import Features
from .protocol import Protocol, episode_errors
from .recordings import Recordings

if TYPE_CHECKING:
    import torch


# Answers whose difference is rounding. In single precision, with the outlier features of trained backbones, the same
# settings computed in another order differ by 1e-5; no robot tells 1e-4 of 2 m/s apart.
ALIKE = 1e-4


AT_ONCE = 256  # episodes: of the LSTM's outputs, 150 MB at full size


@dataclass(frozen=True)
class Scores:
    """Errors of all combinations.

    Attributes:
        mae: float64 [N, P], by the protocols; NaN where a forward pass is not finite.
        spread: float64 [N, P], standard deviation of an episode's error, over the episodes.
    """

    mae: np.ndarray
    spread: np.ndarray


@dataclass
class Evaluator:
    """Runs what is behind the backbones.

    Attributes:
        family, architecture: of the policy.
        search: of the family.
        recordings: the episodes.
        features: of their frames.
    """

    family: Family
    architecture: Any
    search: Search
    recordings: Recordings
    features: Features

    def __post_init__(self) -> None:
        self._targets: dict[Any, torch.Tensor] = {}

    def scan(
        self,
        space: Sequence[Any],
        protocols: Sequence[Protocol],
        advance: Callable[[int], None] = lambda done: None,
        forecast: Callable[[float], None] = lambda seconds: None,
    ) -> Scores:
        """Every combination's error by every protocol; those of the same backbones' outputs are taken together.

        Args:
            space: the combinations.
            protocols: ways to take the error.
            advance: called with numbers of combinations done.
            forecast: called once, after the first of them, with the seconds that the others may take.
        """
        mae = np.full((len(space), len(protocols)), np.nan)
        spread = np.full((len(space), len(protocols)), np.nan)
        valid = self.recordings.valid()
        weights = {
            kind: [each.weights for each in protocols if each.steps == kind] for kind in _kinds(protocols)
        }
        groups = self.groups(space)
        for done, members in enumerate(groups):
            start = time.perf_counter()
            distances = self._distances([space[at] for at in members])
            errors = episode_errors(distances, valid)
            for kind, rows in weights.items():
                columns = [at for at, each in enumerate(protocols) if each.steps == kind]
                mae[np.ix_(members, columns)] = errors[kind] @ np.stack(rows, axis=1)
                spread[np.ix_(members, columns)] = errors[kind].std(
                    axis=1, ddof=1 if valid.shape[0] > 1 else 0
                )[:, None]
            advance(len(members))
            if done == min(1, len(groups) - 1):  # not the first, which warms up
                forecast((time.perf_counter() - start) * (len(groups) - done - 1))
        return Scores(mae, spread)

    def groups(self, space: Sequence[Any]) -> list[list[int]]:
        """Positions of combinations with the same needs, those of the same runs after each other."""
        found: dict[tuple[Need, ...], list[int]] = {}
        for at, settings in enumerate(space):
            found.setdefault(self.search.needs(settings), []).append(at)
        return [found[needs] for needs in sorted(found)]

    def answers(self, settings: Sequence[Any]) -> Iterator[torch.Tensor]:
        """What each of the settings answers at each step, [E, steps, size], before scale and offset."""
        import torch

        for each in settings:
            parts = [answer for _, found in self._decided([each]) for answer in found]
            yield torch.cat(parts)

    def alike(self, one: Any, other: Any) -> bool:
        """Whether two settings answer the same at every step, but for rounding; each in its own normalised units."""
        first, second = self.answers([one, other])
        return bool((first - second).abs().max() < ALIKE)

    def errors(self, settings: Any) -> dict[str, np.ndarray]:
        """The episodes' mean errors by kind of steps, float64 [E]."""
        distances = self._distances([settings])[0]
        return episode_errors(distances, self.recordings.valid())

    def _distances(self, settings: Sequence[Any]) -> np.ndarray:
        """Mean over the components of |answer - driven|, float64 [K, E, steps]; all settings of the same needs."""
        import torch

        with torch.inference_mode():
            parts = [
                torch.stack(
                    [
                        (answer - self._target(each)[part]).abs().double().mean(dim=-1)
                        for each, answer in zip(settings, found, strict=True)
                    ]
                )
                for part, found in self._decided(settings)
            ]
            return torch.cat(parts, dim=1).cpu().numpy()

    def _decided(self, settings: Sequence[Any]) -> Iterator[tuple[slice, Iterator[torch.Tensor]]]:
        """The answers of settings of the same needs, for some episodes at a time."""
        needs = self.search.needs(settings[0])
        features = {need: self.features.load(need) for need in needs}
        for start in range(0, self.recordings.count, AT_ONCE):
            part = slice(start, start + AT_ONCE)
            some = {need: values[part] for need, values in features.items()}
            yield part, self.features.backbones.decide(settings, some, self.recordings.steps)

    def _target(self, settings: Any) -> torch.Tensor:
        import torch

        action = self.family.surroundings(self.architecture, settings).action
        key = action.names, action.scale, action.offset
        if key not in self._targets:
            targets = self.recordings.targets(action, self.search.target_limit)
            self._targets[key] = torch.from_numpy(targets).to(self.features.device)
        return self._targets[key]


def _kinds(protocols: Sequence[Protocol]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each.steps for each in protocols))
