"""One command that measures, with subcommands beside it."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from vla_edge.bench.default_group import DefaultGroup


@click.command("measure", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("engines", default="engines")
@click.option("--runs", type=int)
def measure(engines: str, runs: int | None) -> int:
    """Measure ENGINES."""
    click.echo(f"measure {engines} {runs}")
    return 3


@click.command("compare")
@click.argument("before")
@click.argument("after")
def compare(before: str, after: str) -> int:
    """Compare two reports."""
    click.echo(f"compare {before} {after}")
    return 1


GROUP = DefaultGroup(measure, (compare,))


def run(*arguments: str, **settings):
    return CliRunner().invoke(GROUP, arguments, prog_name="vla-bench", **settings)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "measure engines None"),
        (("here",), "measure here None"),
        (("--runs", "5"), "measure engines 5"),
        (("--runs", "5", "compare"), "measure compare 5"),
        (("./compare",), "measure ./compare None"),
        (("compare", "a", "b"), "compare a b"),
    ],
)
def test_the_first_argument_decides(arguments: tuple[str, ...], said: str) -> None:
    assert run(*arguments).output == f"{said}\n"


@pytest.mark.parametrize("arguments", [("copmare", "a", "b"), ("compar", "a", "b", "--threshold", "3%")])
def test_a_subcommand_that_is_misspelt_is_named(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert done.output.endswith(" Did you mean vla-bench compare?\n")


def test_a_folder_that_is_called_nearly_like_a_subcommand_is_none(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "compared").mkdir()
    assert "Did you mean" not in run("compared", "a").output


def test_what_a_command_returns_is_returned() -> None:
    assert run(standalone_mode=False).return_value == 3
    assert run("compare", "a", "b", standalone_mode=False).return_value == 1


def test_help_is_that_of_the_command_named() -> None:
    assert run("--help").output.startswith("Usage: vla-bench [OPTIONS] [ENGINES]\n\n  Measure ENGINES.")
    assert run("compare", "--help").output.startswith("Usage: vla-bench compare [OPTIONS] BEFORE AFTER")


def test_wrong_use_is_told_as_of_the_plain_command() -> None:
    done = run("--run")
    assert done.exit_code == 2
    assert "Usage: vla-bench [OPTIONS] [ENGINES]" in done.output
    assert run("a", "b").exit_code == 2
    assert run("compare", "a").exit_code == 2
