"""Numbers on command lines are finite, whatever click's own ranges let through."""

from __future__ import annotations

import click
import pytest

from vla_edge.bench.cli import measure
from vla_edge.bench.compare.cli import PartType
from vla_edge.bench.compare.cli import command as compare
from vla_edge.bench.proof.acceptance import command as acceptance
from vla_edge.bench.proof.precision import command as precision
from vla_edge.bench.proof.soak import command as soak
from vla_edge.export.bisect.cli import bisect
from vla_edge.export.build.cli import build
from vla_edge.export.cli import command as export
from vla_edge.runtime.command.finite import FiniteFloat
from vla_edge.runtime.run.cli import command as run

COMMANDS = (acceptance, measure, compare, precision, soak, bisect, build, export, run)


def options() -> list[tuple[str, click.Option]]:
    return [
        (f"{command.name} {option.opts[-1]}", option)
        for command in COMMANDS
        for option in command.params
        if isinstance(option, click.Option)
        and isinstance(option.type, (click.types.FloatParamType, PartType))
    ]


@pytest.mark.parametrize(("name", "option"), options(), ids=[name for name, _ in options()])
def test_every_option_that_takes_a_fraction_refuses_what_is_not_finite(
    name: str, option: click.Option
) -> None:
    assert isinstance(option.type, (FiniteFloat, PartType))
    for text in ("nan", "inf", "-inf", "1e999"):
        with pytest.raises(click.BadParameter):
            option.type.convert(text, option, None)
