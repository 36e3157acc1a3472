"""A policy on an episode: what is compared, and how it is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from vla_edge.runtime import Policy
from vla_edge.runtime.bundle.manifest import ActionSpec
from vla_edge.runtime.episodes.episode import Actions, Episode
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.replay.against import MAX_POINTS, Apart, apart_in_words, difference_of
from vla_edge.runtime.replay.driven import driven_of, normalised
from vla_edge.runtime.replay.steps import angle_deg, drives_back, replay_episode
from vla_edge.runtime.replay.trainer import maes_by_order, trainer_mae

Make = Callable[..., Path]
SPEC = ActionSpec(
    names=("linear_x", "linear_y"),
    units=("m/s", "m/s"),
    scale=(2.0, 2.0),
    offset=(0.0, 0.0),
    limit=(1.15, 1.15),
)


def an_episode(
    count: int = 20, names: tuple[str, ...] = ("linear_y", "linear_x"), **changes: object
) -> Episode:
    """Frames of noise; its components stand in another order than the policy's."""
    frames = np.random.default_rng(3).integers(0, 256, (count, 24, 32, 3), np.uint8)
    values = np.random.default_rng(4).uniform(-1.15, 1.15, (count, len(names)))

    def read(start: int) -> Iterator[np.ndarray]:
        yield from frames[start:]

    fields = {"instruction": None, "actions": Actions(values, names, None), "times_s": None, **changes}
    return Episode("drive", Path("drive.h5"), frame_count=count, read=read, **fields)  # type: ignore[arg-type]


def test_components_are_matched_by_name() -> None:
    episode = an_episode()
    assert episode.actions is not None
    np.testing.assert_array_equal(driven_of(episode, SPEC), episode.actions.values[:, ::-1])


def test_a_component_that_is_missing_or_in_another_unit_is_refused() -> None:
    with pytest.raises(InputError, match="no action component 'linear_y'; it has linear_x"):
        driven_of(an_episode(names=("linear_x",)), SPEC)
    other = Actions(np.zeros((20, 2)), SPEC.names, ("m/s", "km/h"))
    with pytest.raises(InputError, match="linear_y in km/h, the policy gives m/s"):
        driven_of(an_episode(actions=other), SPEC)


def test_targets_are_those_of_training() -> None:
    np.testing.assert_allclose(normalised(np.array([1.15, -3.0]), SPEC), [0.575, -1.0])


@pytest.mark.parametrize(
    ("one", "other", "degrees"),
    [((1.0, 0.0), (0.0, 1.0), 90), ((1.0, 1.0), (-1.0, -1.0), 180), ((0.3, 0.0), (0.9, 0.0), 0)],
)
def test_the_angle_between_two_velocities(
    one: tuple[float, ...], other: tuple[float, ...], degrees: float
) -> None:
    assert angle_deg(one, other, SPEC) == pytest.approx(degrees, abs=1e-5)


def test_standing_has_neither_direction_nor_sign() -> None:
    assert angle_deg((0.01, 0.0), (1.0, 0.0), SPEC) is None
    assert drives_back(np.array([0.01, -1.0]), np.array([-1.0, 1.0])).tolist() == [False, True]


def test_each_frame_is_acted_on_as_a_robot_would(make_bundle: Make) -> None:
    """Also a carried state: it begins anew with each episode."""
    with Policy.load(make_bundle(carried=True)) as policy:
        episode = an_episode()
        for _ in range(2):
            found = replay_episode(policy, episode, None)
            policy.reset()
            expected = [policy.act(frame).values for frame in episode.frames()]
            assert [step.predicted for step in found.steps] == expected
        driven = driven_of(episode, policy.manifest.action)
        assert driven is not None
        np.testing.assert_array_equal([step.recorded for step in found.steps], driven)
        np.testing.assert_allclose([step.error for step in found.steps], np.array(expected) - driven)


@pytest.mark.parametrize("count", [5, 18, 25])
def test_an_episode_of_another_length_is_filled_up_or_cut_as_in_training(
    make_bundle: Make, count: int
) -> None:
    with Policy.load(make_bundle()) as policy:
        episode = an_episode(count)
        found = replay_episode(policy, episode, None)
        frames = list(episode.frames())
        shown = [*frames, *[frames[-1]] * 18][:18]
        policy.reset()
        np.testing.assert_array_equal(found.raw, [policy.act(frame).raw for frame in shown])
        driven = driven_of(episode, policy.manifest.action)
        assert driven is not None
        assert found.targets is not None
        filled = np.concatenate([driven, np.zeros((18, 2))])[:18]
        np.testing.assert_array_equal(found.targets, normalised(filled, policy.manifest.action))
        assert len(found.steps) == count


def test_a_policy_that_holds_its_first_action_is_told_so(make_bundle: Make) -> None:
    with Policy.load(make_bundle(frame="first")) as policy:
        found = replay_episode(policy, an_episode(), None)
    assert [step.held for step in found.steps] == [False, *[True] * 19]
    assert len({step.predicted for step in found.steps}) == 1


def test_without_recorded_actions_there_is_nothing_to_compare(make_bundle: Make) -> None:
    with Policy.load(make_bundle()) as policy:
        found = replay_episode(policy, an_episode(actions=None), None)
    assert found.targets is None
    step = found.steps[0]
    assert (step.recorded, step.error, step.normalised_error, step.angle_deg, step.flips) == (None,) * 5


@pytest.mark.parametrize("episodes", [1, 2, 5])
def test_the_trainers_error_is_a_mean_over_batches(episodes: int) -> None:
    """Written out once more, value by value."""
    rng = np.random.default_rng(episodes)
    pairs = [(rng.normal(size=(18, 2)), rng.uniform(-1, 1, (18, 2))) for _ in range(episodes)]

    def by_hand(first: bool) -> float:
        batch_errors = []
        for start in range(0, episodes, 2):
            values = []
            for raw, target in pairs[start : start + 2]:
                for step in range(18):
                    for component in range(2):
                        predicted = raw[0 if first else step][component]
                        values.append(abs(predicted - target[step][component]))
            batch_errors.append(sum(values) / len(values))
        return sum(batch_errors) / len(batch_errors)

    found = trainer_mae(pairs)
    assert found.every_frame == pytest.approx(by_hand(False), rel=1e-12)
    assert found.first_frame == pytest.approx(by_hand(True), rel=1e-12)


def test_a_drift_of_long_episodes_takes_steps_together() -> None:
    long, short = np.arange(250.0), np.full(100, 7.0)
    found = difference_of([Apart(each, np.zeros(len(each), bool)) for each in (long, short)])
    assert found is not None
    drift = found.drift
    assert drift.steps_a_point == 3
    assert len(drift.mean) == len(drift.max) == 84 <= MAX_POINTS
    assert drift.mean[0] == pytest.approx(np.mean([0, 1, 2, 7, 7, 7]))
    assert drift.max[-1] == 249.0


def test_the_same_error_in_other_orders_is_told_once() -> None:
    rng = np.random.default_rng(0)
    pairs = [(rng.normal(size=(18, 2)), rng.uniform(-1, 1, (18, 2))) for _ in range(5)]
    orders = {"sorted": range(5), "again": range(5), "reversed": range(4, -1, -1)}
    found = maes_by_order(pairs, orders)
    assert list(found) == ["sorted", "reversed"]
    assert found["reversed"].every_frame == pytest.approx(trainer_mae(pairs[::-1]).every_frame, rel=1e-12)
    assert list(maes_by_order(pairs[:4], {"sorted": range(4), "reversed": range(3, -1, -1)})) == ["sorted"]


@pytest.mark.parametrize(("value", "words"), [(0.0, "0.0000"), (3.78e-5, "3.8e-05"), (0.0115, "0.0115")])
def test_a_small_difference_is_not_told_as_none(value: float, words: str) -> None:
    assert apart_in_words(value) == words
