"""What commands print as JSON is JSON: parsed strictly, with finite numbers or null."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from vla_edge.bench.proof import precision
from vla_edge.export.bisect import cli as bisect_cli
from vla_edge.export.bisect.bisect import Finding, Probe, Value
from vla_edge.export.build import cli as build_cli
from vla_edge.export.build.verify import StageMeasure
from vla_edge.runtime.command.finite import FiniteFloat
from vla_edge.runtime.command.json_text import json_text, plain

NOT_FINITE = (math.nan, math.inf, -math.inf)


def refuse(word: str) -> float:
    raise AssertionError(f"{word} is no JSON")


def strictly(text: str) -> Any:
    """Parsed as by a reader that knows no NaN and reads numbers as float64."""
    found = json.loads(text, parse_constant=refuse)
    msgspec.json.decode(text.encode())
    return found


class Struct(msgspec.Struct):
    error: float


@dataclass(frozen=True)
class Data:
    error: float
    path: Path = Path("a")


UNSAYABLE = {
    "nan": math.nan,
    "inf": math.inf,
    "-inf": -math.inf,
    "400 digits": 10**400,
    "5000 digits": -(10**5000),
    "float32": np.float32("nan"),
    "float64": np.float64("inf"),
}


@pytest.mark.parametrize("bad", UNSAYABLE.values(), ids=UNSAYABLE)
def test_a_number_that_json_cannot_say_is_null_wherever_it_stands(bad: Any) -> None:
    value = {"a": bad, "b": [bad, (bad,)], "c": Struct(bad), "d": Data(bad), "e": np.array([bad], object)}
    assert strictly(json_text(value)) == {
        "a": None,
        "b": [None, [None]],
        "c": {"error": None},
        "d": {"error": None, "path": "a"},
        "e": [None],
    }


def test_what_json_can_say_stays_as_it_is() -> None:
    value = {"a": 1, "b": 0.1, "c": [True, None], "d": "컵", "e": np.float16(0.5), "f": np.arange(2)}
    assert strictly(json_text(value)) == {
        "a": 1,
        "b": 0.1,
        "c": [True, None],
        "d": "컵",
        "e": 0.5,
        "f": [0, 1],
    }
    assert json_text({"a": [1]}, indent=None) == '{"a": [1]}'


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\x1b[31m", "\0"])
def test_any_text_can_be_written_and_read(text: str) -> None:
    written = json_text({text: text})
    assert "\x1b" not in written
    assert strictly(written.encode().decode())


@pytest.mark.parametrize(
    "text", ["\x9b31m", "\u202ered", "a\x7fb", "\u2028", "\u200b", "\ufeff", "\U000e0041", "\x85", "\ue000"]
)
def test_no_text_commands_a_terminal_and_all_of_it_is_read_again(text: str) -> None:
    for value in (text, f"컵까지 {text}", {text: [text]}):
        written = json_text(value)
        assert written.replace("\n", "").isprintable()
        assert strictly(written) == value


def test_letters_that_can_be_shown_stay_readable() -> None:
    text = "컵까지\u3000가세요 🤖 é"
    assert json_text([text], indent=None) == f'["{text}"]'


@pytest.mark.parametrize("levels", [101, 900, 100_000])
@pytest.mark.parametrize("kind", [list, dict, tuple])
def test_what_is_nested_too_deeply_is_null(levels: int, kind: type) -> None:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value} if kind is dict else kind([value])
    assert json_text(value, indent=None).count("null") == 1
    assert json_text(value, indent=None).count("a" if kind is dict else "[") == 100


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters(exclude_categories=())),
    lambda children: (
        st.lists(children) | st.dictionaries(st.text(st.characters(exclude_categories=())), children)
    ),
)


@given(ANYTHING)
def test_any_value_becomes_strict_json_and_is_what_was_said(value: Any) -> None:
    assert strictly(json_text(value)) == plain(value)


@pytest.mark.parametrize("bad", NOT_FINITE)
def test_the_commands_that_print_errors_print_them_so(bad: float, capsys, monkeypatch) -> None:
    probe = Probe(Value("x", "node (Add)", ()), bad, True)
    bisect_cli._print(Finding(probe, (probe,), 1), 0.01, as_json=True)
    assert strictly(capsys.readouterr().out)["probes"][0]["relative_l2"] is None

    monkeypatch.setattr(
        "vla_edge.export.build.stages.measure_stages", lambda *_: {"text": StageMeasure(bad, bad)}
    )
    assert build_cli._stages(None, None, as_json=True) == 0
    assert strictly(capsys.readouterr().out) == {"text": {"relative_l2": None, "max_abs": None}}

    figures = ("half_relative_l2", "half_max_abs", "graph_relative_l2", "graph_max_abs")
    row = precision.StageComparison(stage="text", **dict.fromkeys(figures, bad))
    assert set(strictly(json_text(row)).values()) == {"text", None}


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "NaN", "1e999", "-0.1", "five"])
def test_a_limit_that_is_no_finite_number_above_zero_is_wrong_use(text: str) -> None:
    @click.command()
    @click.option("--limit", type=FiniteFloat(0))
    def command(limit: float) -> None:
        raise AssertionError(f"ran with {limit}")

    done = CliRunner().invoke(command, [f"--limit={text}"])
    assert done.exit_code == 2
    assert "Invalid value for '--limit'" in done.output
