"""One type tells the options of the command line, and the words that ask for the same again."""

from __future__ import annotations

import click
import msgspec
import pytest

from vla_edge.bench.cli import _options, measure
from vla_edge.bench.options.flags import words_of
from vla_edge.bench.options.options import Options

PLAIN = Options(device="cpu", threads=2)


def parsed(*words: str) -> Options:
    given = measure.make_context("vla-bench", [*words]).params
    return _options({name: given[name] for name in set(Options.__struct_fields__) - {"engines", "images"}})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"runs": 30, "warmup": 3},
        {"seconds": 0.123456789, "time_limit_s": 86_400.0, "rate_hz": 12.5},
        {"rate_hz": None},
        {"workloads": ("owner-standin", "policy"), "backends": ("torch-fp32", "onnxruntime")},
        {"device": "cuda", "quick": True, "seconds": 2.0, "rate_hz": None},
    ],
)
def test_the_words_of_options_ask_for_the_same_again(changes: dict) -> None:
    asked = msgspec.structs.replace(PLAIN, **changes)
    assert parsed(*words_of(asked)) == asked


def test_nothing_is_said_of_what_is_left_alone() -> None:
    assert words_of(PLAIN) == ["--device", "cpu", "--threads", "2"]
    assert parsed("--device", "cpu", "--threads", "2") == PLAIN


def test_every_option_of_the_type_is_one_of_the_command() -> None:
    known = {option.name for option in measure.params if isinstance(option, click.Option)}
    assert known >= set(Options.__struct_fields__) - {"engines"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--runs", "0"), "0 is not in the range 1<=x<=100000"),
        (("--seconds", "0"), "0.0 is not in the range 0<x<=86400"),
        (("--rate", "nan"), "is no finite number"),
        (("--workload", "other"), "'other' is not one of 'policy', 'owner-standin'"),
    ],
)
def test_what_is_out_of_its_range_is_wrong_use(words: tuple[str, str], told: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        parsed(*words)
    assert told in caught.value.format_message()
