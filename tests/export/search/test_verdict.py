"""Found is said only where chance does not explain it; what cannot be told apart is said to be so."""

from __future__ import annotations

import numpy as np
import pytest

from vla_edge.export.search.fifth import fifths, judged_by_fifths
from vla_edge.export.search.protocol import Protocol
from vla_edge.export.search.scan import Scores
from vla_edge.export.search.verdict import EXPLAINED, Verdict, expected_by_chance, judged
from vla_edge.runtime.replay.trainer import batch_weights

WANTED = 0.222
PROTOCOL = Protocol("all", "", np.ones(1))


def verdict_of(values: np.ndarray, **options: object) -> Verdict:
    scores = Scores(values[:, None].copy(), np.zeros((len(values), 1)))
    return judged(scores, [PROTOCOL], WANTED, 1e-4, **options)  # type: ignore[arg-type]


def spread(count: int, seed: int = 0) -> np.ndarray:
    """Wrong errors, none of them within 1e-4."""
    values = np.random.default_rng(seed).uniform(0.2, 0.3, count)
    return values[np.abs(values - WANTED) > 1e-4]


@pytest.mark.parametrize(
    ("others", "kind", "count"),
    [
        ([WANTED + 1e-9], "found", 1),
        ([WANTED + 1e-9, WANTED + 3e-5], "found", 1),  # 30,000 times as far
        ([WANTED + 1e-9, WANTED - 4e-9], "several", 2),
        ([WANTED + 5e-8, WANTED - 9e-7], "several", 2),  # eighteen times as far: rounding might be it
        ([WANTED + 3e-5], "several", 1),  # as near as that some wrong one would come by chance
        ([WANTED + 1.1e-4], "none", 0),
        ([np.nan], "none", 0),
    ],
)
def test_the_verdict_goes_by_distance_and_chance(others: list[float], kind: str, count: int) -> None:
    found = verdict_of(np.array([*spread(3000), *others]))
    assert (found.kind, found.count) == (kind, count)
    if kind == "found":
        (best,) = found.fits
        assert best.mae == others[0]
        assert found.next_distance is not None
        assert found.next_distance > 20 * best.distance


def test_two_that_answer_the_same_are_several_whichever_comes_nearer() -> None:
    values = np.array([*spread(3000), WANTED + 1e-9, WANTED + 3e-6])
    last = len(values) - 1
    assert verdict_of(values).kind == "found"
    found = verdict_of(values, alike=lambda one, other: other == last)
    assert (found.kind, found.count) == ("several", 2)


def test_a_wrong_one_is_found_no_more_often_than_promised() -> None:
    """Where the right settings are not among those tried, chance alone decides."""
    wrong = 0
    for seed in range(2000):
        values = np.random.default_rng(seed).uniform(0.2, 0.25, 1000)
        wrong += verdict_of(values).kind == "found"
    assert wrong <= 2000 * 0.015


def test_what_fits_by_chance_ends_in_a_file_no_more_often_than_promised() -> None:
    """Where the right settings are not among those tried."""
    rare = 0
    for seed in range(2000):
        values = np.random.default_rng(seed).uniform(0.2, 0.25, 1000)
        rare += verdict_of(values).by_chance < EXPLAINED
    assert rare <= 2000 * EXPLAINED * 1.3


def test_what_is_expected_by_chance_is_the_density_of_the_errors() -> None:
    values = np.linspace(0.2, 0.3, 10_001)[:, None]  # one every 1e-5
    expected, count = expected_by_chance(values, WANTED, 1e-4)
    assert count == 10_001
    assert expected == pytest.approx(20, rel=0.1)


def test_a_random_fifth_ranks_and_leaves_open() -> None:
    rng = np.random.default_rng(3)
    errors = rng.uniform(0.1, 0.3, (40, 72)) + np.linspace(0, 0.4, 40)[:, None]
    drawn = rng.permutation(72)[:14]
    val_mae = float(batch_weights(np.ones(72), drawn, 2) @ errors[5])
    protocol = Protocol("all", "", np.full(72, 1 / 72))
    scores = Scores(errors.mean(axis=1)[:, None], errors.std(axis=1, ddof=1)[:, None])
    found = judged_by_fifths(scores, [protocol], val_mae, 2, lambda at, steps: errors[at])
    assert found.kind == "several"
    assert 5 in found.fitting
    assert found.count < 20
    assert all(fit.likelihood is not None and fit.likelihood >= 0.05 for fit in found.fits)
    nothing = judged_by_fifths(scores, [protocol], 2.0, 2, lambda at, steps: errors[at])
    assert (nothing.kind, nothing.count) == ("none", 0)
    assert len(nothing.fits) == 10


def test_fifths_are_of_fourteen_or_fifteen_of_seventy_two() -> None:
    weights = fifths(72, 2, draws=50)
    assert set((weights > 0).sum(axis=1).tolist()) == {14, 15}
    assert np.allclose(weights.sum(axis=1), 1)
