"""Which cuts are chosen: what fits, in few parts, with natural pieces by themselves."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from part_graphs import PartGraphs, policy_graph

from vla_edge.export.parts.choice import Choice, adopted, choose, most_parts
from vla_edge.export.parts.graph import Graph, read_graph
from vla_edge.export.parts.lanes import lanes
from vla_edge.export.parts.split import split
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.errors import InputError

SIZES = st.integers(1, 30)
BACKBONES = st.lists(SIZES, min_size=1, max_size=6)
BRANCHES = st.lists(SIZES, min_size=1, max_size=2)


def twice(weights: int) -> int:
    return 2 * weights + 1


def all_splits(graph: Graph, count: int) -> list[tuple[str, ...]]:
    return list(combinations(graph.cuts, count - 1))


def largest(graph: Graph, cuts: tuple[str, ...]) -> int:
    return max(segment.weights_bytes for segment in graph.between(cuts))


@given(BACKBONES, BRANCHES, SIZES, SIZES, st.integers(1, 400))
def test_auto_fits_in_the_fewest_parts_with_natural_pieces_apart(
    backbone: list[int], clip: list[int], fusion: int, head: int, limit: int
) -> None:
    graph = policy_graph(backbone, clip, fusion, head)
    choice = choose(graph, "auto", limit, twice)
    whole = graph.between(())[0].weights_bytes
    if twice(whole) <= limit:
        assert choice == Choice((), (whole,), True)
        return
    pieces = {f"b{len(backbone) - 1}", f"c{len(clip) - 1}"}
    assert pieces <= set(choice.boundaries)
    possible = [
        cuts
        for count in range(1, len(graph.segments) + 1)
        for cuts in all_splits(graph, count)
        if pieces <= set(cuts)
    ]
    fitting = [cuts for cuts in possible if twice(largest(graph, cuts)) <= limit]
    assert choice.fits == bool(fitting)
    assert max(choice.weights_bytes) == largest(graph, choice.boundaries)
    if fitting:
        assert len(choice.boundaries) == min(map(len, fitting))
    else:
        assert max(choice.weights_bytes) == min(largest(graph, cuts) for cuts in possible)


@given(BACKBONES, SIZES, st.integers(1, 400))
def test_auto_takes_what_is_trained_for_a_part_of_its_own(backbone: list[int], head: int, limit: int) -> None:
    choice = choose(policy_graph(backbone, head=head), "auto", limit, twice)
    assert not choice.boundaries or choice.boundaries[-1] == f"b{len(backbone) - 1}"


@given(BACKBONES, st.one_of(st.just([]), BRANCHES), SIZES, SIZES, st.integers(1, 400), st.data())
def test_a_number_of_parts_is_kept_and_fits_where_any_split_does(
    backbone: list[int], clip: list[int], fusion: int, head: int, limit: int, data: st.DataObject
) -> None:
    graph = policy_graph(backbone, clip, fusion, head)
    count = data.draw(st.integers(1, len(graph.segments)))
    choice = choose(graph, count, limit, twice)
    splits = all_splits(graph, count)
    assert choice.boundaries in splits
    assert choice.fits == any(twice(largest(graph, cuts)) <= limit for cuts in splits)
    if not choice.fits:
        assert max(choice.weights_bytes) == min(largest(graph, cuts) for cuts in splits)
        return
    last = {f"b{len(backbone) - 1}", f"c{len(clip) - 1}"} & set(graph.cuts)
    apart = [cuts for cuts in splits if last <= set(cuts)]
    apart = [cuts for cuts in apart if twice(largest(graph, cuts)) <= limit]
    if apart:  # all natural pieces can be parts of their own: they are, and the largest is as small as can be
        assert last <= set(choice.boundaries)
        assert max(choice.weights_bytes) == min(largest(graph, cuts) for cuts in apart)


@example([20, 14, 4, 15, 4, 29], [22], 27, 8, 156)
@settings(deadline=None)
@given(BACKBONES, BRANCHES, SIZES, SIZES, st.integers(1, 400))
def test_a_pure_and_a_hybrid_policy_share_the_parts_of_their_backbone(
    backbone: list[int], clip: list[int], fusion: int, head: int, limit: int
) -> None:
    pure, hybrid = policy_graph(backbone, head=head), policy_graph(backbone, clip, fusion, head)
    end = f"b{len(backbone) - 1}"

    def backbones(graph: Graph) -> list[tuple[str, ...]]:
        choices = [
            choose(graph, count, at, twice)
            for at in (None, limit)
            for count in range(1, len(graph.segments) + 1)
        ]
        choices += [choose(graph, "auto", limit, twice)]
        return [
            tuple(name for name in choice.boundaries if name.startswith("b"))
            for choice in choices
            if end in choice.boundaries
        ]

    by_count = {len(cuts): cuts for cuts in backbones(pure)}
    for cuts in backbones(hybrid):
        assert by_count.get(len(cuts), cuts) == cuts
    assert len(set(backbones(pure))) == len(by_count)


def test_without_a_limit_all_is_one_part() -> None:
    assert choose(policy_graph([5, 5], [3], 1, 1), "auto", None, twice) == Choice((), (15,), True)


def test_full_size_is_split_as_was_measured() -> None:
    """MiB of the full-size hybrid: vision, 24 text layers, CLIP, fusion and head."""
    graph = policy_graph([603, *[96] * 24], [170], 3, 39)
    limit = (1154 + 1) * 2

    def shape(parts: int) -> tuple[int, ...]:
        return choose(graph, parts, None, twice).weights_bytes

    assert choose(graph, "auto", limit, twice).weights_bytes == (987, 960, 960, 170, 42)
    assert shape(1) == (3119,)
    assert shape(4) == (1467, 1440, 170, 42)
    assert shape(28) == (603, *[96] * 24, 170, 3, 39)


def test_a_split_of_a_pure_policy_is_a_hybrids_with_clip_apart_and_the_reverse() -> None:
    pure, hybrid = policy_graph([10, 10, 10]), policy_graph([10, 10, 10], [3], 1, 1)
    assert adopted(hybrid, ("b0", "b2")) == (("b0", "b2", "c0"), ("b0", "b2"))
    assert adopted(pure, ("b0", "b2", "c0", "fusion")) == (("b0", "b2"),)
    assert adopted(hybrid, ("b1",)) == (("b1", "b2", "c0"), ("b1",))  # also as it is: its parts may be there
    assert adopted(hybrid, ("other",)) == adopted(hybrid, ()) == ()


def test_no_more_parts_than_a_side_file_takes() -> None:
    graph = policy_graph([10] * 64, head=10)
    assert most_parts(graph) == 64
    for parts in ("auto", 64):
        choice = choose(graph, parts, 0, int)  # type: ignore[arg-type]
        assert len(choice.weights_bytes) == 64
        assert not choice.fits
    with pytest.raises(InputError) as refused:
        choose(graph, 65, 0, int)
    assert refused.value.hint == "Choose a number from 1 to 64."
    assert adopted(graph, graph.cuts) == ()


@pytest.mark.parametrize("parts", [0, -1, 7, 1000])
def test_a_number_that_cannot_be_is_refused_with_the_largest_that_can(parts: int) -> None:
    graph = policy_graph([10, 10, 10], [3], 1, 1)
    with pytest.raises(InputError, match=f"cannot be cut into {parts} parts") as refused:
        choose(graph, parts, None, twice)
    assert refused.value.hint == "Choose a number from 1 to 6."


def test_a_bundle_without_cuts_is_built_whole_or_exported_again() -> None:
    made = PartGraphs()
    graph = made.graph(made.segment("all", ["pixels"], 10))
    assert choose(graph, 1, None, twice) == choose(graph, "auto", 100, twice) == Choice((), (10,), True)
    assert choose(graph, "auto", 5, twice) == Choice((), (10,), False)
    with pytest.raises(InputError, match="has no cuts, so it cannot be built in 2 parts") as refused:
        choose(graph, 2, None, twice)
    assert "export the checkpoint again" in refused.value.hint


def test_clip_runs_beside_the_rest_and_a_pure_policy_in_one_lane(bundle_of: Callable[..., Path]) -> None:
    hybrid = read_graph(Bundle.open(bundle_of("hybrid-a", "transformers")))
    assert lanes(split(hybrid, hybrid.cuts)) == lanes(hybrid.segments) == (0, 0, 0, 1, 0, 0)
    assert lanes(split(hybrid, ["text", "clip"])) == (0, 1, 0)
    assert lanes(split(hybrid, ["text"])) == lanes(split(hybrid, ["vision"])) == (0, 0)
    pure = read_graph(Bundle.open(bundle_of("pure")))
    assert lanes(split(pure, pure.cuts)) == (0, 0, 0, 0)


def test_the_heaviest_way_is_lane_0_and_each_branch_has_one_of_its_own() -> None:
    assert lanes(policy_graph([1, 1], [50, 50], 1, 1).segments) == (1, 1, 0, 0, 0, 0)
    made = PartGraphs()
    one = made.segment("one", ["pixels"], 5)
    made.cut("one", one)
    two = made.segment("two", ["pixels"], 3)
    made.cut("two", one, two)
    three = made.segment("three", [two], 1)
    made.cut("three", one, three)
    four = made.segment("four", ["pixels"], 2)
    made.cut("four", one, three, four)
    graph = made.graph(made.segment("end", [one, three, four], 1))
    assert lanes(graph.segments) == (0, 1, 1, 2, 0)


def test_more_branches_than_streams_share_the_last() -> None:
    made, made_by = PartGraphs(), list[str]()
    for at in range(12):
        made_by.append(made.segment(f"n{at}", ["pixels"], 1))
        made.cut(f"n{at}", *made_by)
    graph = made.graph(made.segment("end", made_by, 1))
    assert lanes(graph.segments) == (0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 7, 0)
    choice = choose(graph, "auto", 3, int)
    assert choice.boundaries[-1] == "n11"
    assert choice.fits
