"""A few frames that stand for all recordings: every instruction, many episodes, all times."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_edge.export.bundle.samples.spread import spread

recordings = st.lists(st.tuples(st.integers(1, 30), st.sampled_from("abc")), min_size=1, max_size=40)


@given(recordings, st.integers(1, 60), st.booleans())
def test_as_many_different_frames_as_asked_or_all(
    recorded: list[tuple[int, str]], count: int, first: bool
) -> None:
    frame_counts, kinds = [each[0] for each in recorded], [each[1] for each in recorded]
    places = spread(frame_counts, kinds, count, first)
    assert len(set(places)) == len(places) == min(count, sum(frame_counts))
    assert places == sorted(places)
    assert all(0 <= frame < frame_counts[episode] for episode, frame in places)
    assert places[0].frame == 0
    assert places == spread(frame_counts, kinds, count, first)


@given(recordings, st.integers(1, 60))
def test_no_kind_and_no_episode_is_left_out_while_another_has_more_than_its_share(
    recorded: list[tuple[int, str]], count: int
) -> None:
    frame_counts, kinds = [each[0] for each in recorded], [each[1] for each in recorded]
    places = spread(frame_counts, kinds, count)
    of_kind = Counter(kinds[place.episode] for place in places)
    of_episode = Counter(place.episode for place in places)
    for kind in set(kinds):
        room = sum(frames for frames, each in recorded if each == kind)
        assert of_kind[kind] == room or of_kind[kind] >= max(of_kind.values()) - 1
        shares = [of_episode[at] for at, each in enumerate(kinds) if each == kind]
        for at, each in enumerate(kinds):
            if each == kind:
                assert of_episode[at] == frame_counts[at] or of_episode[at] >= max(shares) - 1


def test_scenarios_that_alternate_are_both_there_from_their_first_frames_to_their_last() -> None:
    places = spread([18] * 72, ["left", "right"] * 36, 10)
    for side in (0, 1):
        mine = [place for place in places if place.episode % 2 == side]
        assert [place.frame for place in mine] == [0, 4, 8, 12, 17]
        assert len({place.episode for place in mine}) == 5


def test_a_policy_that_acts_on_first_frames_is_judged_on_them() -> None:
    assert {place.frame for place in spread([18] * 72, ["left", "right"] * 36, 10, True)} == {0}


@pytest.mark.parametrize(
    ("frame_counts", "kinds", "frames"),
    [
        ([18], "a", [0, 1, 3, 5, 7, 9, 11, 13, 15, 17]),  # one recording
        ([18] * 12, "abcdefghijkl", [0, 1, 3, 5, 7, 9, 11, 13, 15, 17]),  # an instruction each
    ],
)
def test_all_times_are_there_however_few_or_many_there_are(
    frame_counts: list[int], kinds: str, frames: list[int]
) -> None:
    assert [place.frame for place in spread(frame_counts, kinds, 10)] == frames
