"""The training script's error as weights of the episodes, compared with its own loop over batches."""

from __future__ import annotations

import numpy as np
import pytest

from vla_edge.export.search.protocol import episode_errors, protocols
from vla_edge.runtime.replay.trainer import batch_weights

RNG = np.random.default_rng(0)
EPISODES, STEPS = 7, 18
DISTANCE = RNG.uniform(0, 1, (EPISODES, STEPS))


def as_trained(distance: np.ndarray, counts: np.ndarray, order: list[int], batch: int) -> float:
    """Batch after batch, the mean of all values in it."""
    means = []
    for start in range(0, len(order), batch):
        members = order[start : start + batch]
        means.append(np.concatenate([distance[at, : counts[at]] for at in members]).mean())
    return float(np.mean(means))


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
@pytest.mark.parametrize("kind", ["all", "valid", "first"])
def test_weights_give_the_mean_over_batches(batch: int, kind: str) -> None:
    lengths = np.array([18, 18, 11, 18, 3, 18, 18])
    valid = np.arange(STEPS) < lengths[:, None]
    orders = {"sorted": list(range(EPISODES)), "reversed": list(range(EPISODES))[::-1]}
    counts = {"all": np.full(EPISODES, STEPS), "valid": lengths, "first": np.ones(EPISODES, int)}[kind]
    errors = episode_errors(DISTANCE, valid)[kind]
    found = {
        each.order: float(each.weights @ errors)
        for each in protocols(valid, orders, batch)
        if each.steps == kind
    }
    wanted = {name: as_trained(DISTANCE, counts, order, batch) for name, order in orders.items()}
    assert found.get("", found.get("sorted")) == pytest.approx(wanted["sorted"], abs=1e-12)
    assert found.get("reversed", wanted["reversed"]) == pytest.approx(wanted["reversed"], abs=1e-12)


def test_orders_are_told_apart_only_where_the_last_batch_is_smaller() -> None:
    valid = np.ones((6, STEPS), bool)
    orders = {"sorted": list(range(6)), "reversed": list(range(6))[::-1]}
    assert [(each.steps, each.order) for each in protocols(valid, orders, 2)] == [("all", ""), ("first", "")]
    assert {each.order for each in protocols(valid, orders, 4)} == {"sorted", "reversed"}


def test_those_outside_a_fifth_weigh_nothing() -> None:
    weights = batch_weights(np.ones(5), [4, 1, 0], 2)
    assert weights.tolist() == [0.5, 0.25, 0.0, 0.0, 0.25]
