"""Which combinations are tried, and how a user says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from vla_edge.export.checkpoint.checkpoint import read_checkpoint
from vla_edge.export.search.combinations import combinations, parse_tried
from vla_edge.export.search.drive import companions
from vla_edge.runtime.errors import InputError


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("pooling=max,mean", ["max", "mean"]),
        ("final_tanh=true", [True]),
        ("lstm_window=4, 8", [4, 8]),
        ("action_scale=[2.0,2.0]", [[2.0, 2.0]]),
        ('features=[["text"],["image_projection"]]', [["text"], ["image_projection"]]),
    ],
)
def test_values_to_try_are_words_numbers_or_json(text: str, wanted: list[object]) -> None:
    assert parse_tried([text]) == {text.partition("=")[0]: wanted}


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["pooling"], "is not NAME=VALUE"),
        (["=max"], "is not NAME=VALUE"),
        (["pooling="], "is not NAME=VALUE"),
        (["pooling=max", "pooling=mean"], "pooling is given twice"),
    ],
)
def test_what_is_no_value_to_try_is_refused(texts: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_tried(texts)


def test_a_value_to_try_fixes_a_setting_or_adds_to_it(checkpoint_of: Callable[..., Path]) -> None:
    checkpoint = read_checkpoint(checkpoint_of("pure"))
    search = checkpoint.family.search()
    all_of_them = combinations(checkpoint, search, {}, first_only=False)
    assert len(all_of_them) == len(set(all_of_them)) == 3456
    assert all_of_them[0] == checkpoint.family.settings.resolve(checkpoint.architecture).values
    fixed = combinations(checkpoint, search, {"pooling": ["mean"], "prompt": ["image_first"]}, False)
    assert {(each.pooling, each.prompt) for each in fixed} == {("mean", "image_first")}
    odd = combinations(checkpoint, search, {"lstm_window": [5], "lstm": ["window"]}, False)
    assert {(each.lstm, each.lstm_window, each.lstm_outputs) for each in odd} == {
        ("window", 5, 1),
        ("window", 5, 2),
    }
    assert {each.frame for each in combinations(checkpoint, search, {}, first_only=True)} == {"first"}


def test_what_stands_in_the_checkpoint_is_not_varied(rewritten: Callable[..., Path]) -> None:
    def carry(content: dict[str, object]) -> dict[str, object]:
        return {**content, "action_std": [0.5, 0.7]}

    checkpoint = read_checkpoint(rewritten(carry))
    found = combinations(checkpoint, checkpoint.family.search(), {}, first_only=False)
    assert {each.action_scale for each in found} == {(0.5, 0.7)}


@pytest.mark.parametrize(
    ("tried", "words"),
    [
        ({"poling": ["max"]}, "unknown setting 'poling'"),
        ({"pooling": ["median"]}, "Choices for pooling"),
        ({"features": [["clip_image"]]}, "no combination of these settings fits"),
        ({"lstm_window": [*range(1, 64)], "image_start": [*range(30)]}, "combinations are too many"),
    ],
)
def test_values_that_cannot_be_tried_are_refused(
    tried: dict[str, list[object]], words: str, checkpoint_of: Callable[..., Path]
) -> None:
    checkpoint = read_checkpoint(checkpoint_of("pure"))
    with pytest.raises(InputError, match=words):
        combinations(checkpoint, checkpoint.family.search(), tried, first_only=False)


def test_the_length_of_a_window_goes_with_the_window(checkpoint_of: Callable[..., Path]) -> None:
    checkpoint = read_checkpoint(checkpoint_of("pure"))
    search = checkpoint.family.search()
    axes = search.axes(checkpoint.architecture)
    base = checkpoint.family.settings.resolve(checkpoint.architecture).values
    window = replace(base, lstm="window", lstm_outputs=2)
    varied = ("lstm", "lstm_outputs", "pooling")
    assert companions(axes, varied, [window]) == {"lstm_window": 8}
    assert companions(axes, varied, [window, replace(window, lstm_outputs=1)]) == {"lstm_window": 8}
    assert companions(axes, varied, [window, base]) == {}
    assert companions(axes, ("pooling",), [window]) == {}
