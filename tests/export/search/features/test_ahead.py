"""Episodes are computed in groups, and read one group ahead."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from vla_edge.export.search.features.ahead import Opened, grouped, opened_ahead


def test_a_group_has_one_instruction_and_at_most_so_many_frames() -> None:
    texts = ["left", "right", "left", "left", "right", "left"]
    counts = [18, 18, 11, 18, 18, 7]
    groups = grouped(texts, counts, 36)
    assert sorted(at for group in groups for at in group) == list(range(6))
    assert groups == [[0, 2], [3, 5], [1, 4]]


def test_episodes_stay_alone_where_two_do_not_fit() -> None:
    assert grouped(["a"] * 3, [18, 18, 2], 18) == [[0], [1], [2]]


def opened(at: int) -> Opened:
    return Opened(at, [np.zeros((1, 1, 3), np.uint8)], str(at))


def test_the_next_group_is_read_while_one_is_computed() -> None:
    second = threading.Event()

    def read(at: int) -> Opened:
        if at == 1:
            second.set()
        assert at < 2 or following.is_set()
        return opened(at)

    following = threading.Event()
    groups = opened_ahead([[0], [1], [2]], read)
    assert [each.at for each in next(groups)] == [0]
    assert second.wait(10)
    following.set()
    assert [each.at for group in groups for each in group] == [1, 2]


def test_what_cannot_be_read_is_raised_when_its_turn_comes() -> None:
    def read(at: int) -> Opened:
        if at == 1:
            raise OSError("gone")
        return opened(at)

    groups = opened_ahead([[0], [1]], read)
    assert len(next(groups)) == 1
    with pytest.raises(OSError, match="gone"):
        next(groups)
