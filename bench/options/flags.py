"""click's options out of a Struct, which alone tells the name, type, range, default and help of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click
from msgspec import NODEFAULT, Struct, inspect

from vla_edge.runtime.command.finite import FiniteFloat

_Callback = TypeVar("_Callback", bound=Callable[..., Any])


def flags(kind: type[Struct], choices: Mapping[str, Sequence[str]]) -> Callable[[_Callback], _Callback]:
    """A decorator with an option for each field that has a description.

    A field without a default is None where it is not given: the command finds one.

    Args:
        kind: the Struct.
        choices: what a field may be, by its name, where its type says no more than text.
    """

    def decorate(callback: _Callback) -> _Callback:
        for field in reversed(_asked(kind)):
            callback = _option(field, choices.get(field.name))(callback)
        return callback

    return decorate


def words_of(options: Struct) -> list[str]:
    """The words of a command line that ask for the same: of every field that is not its default."""
    words: list[str] = []
    for field in _asked(type(options)):
        value = getattr(options, field.name)
        if value is True:
            words.append(_flag(field))
        elif value != field.default:
            for each in value if isinstance(value, tuple) else (value,):
                words += [_flag(field), f"{each:.12g}" if isinstance(each, float) else str(each or 0)]
    return words


def _asked(kind: type[Struct]) -> list[inspect.Field]:
    return [field for field in inspect.type_info(kind).fields if _description(field)]  # type: ignore[attr-defined]


def _flag(field: inspect.Field) -> str:
    return (field.type.extra or {}).get("flag", f"--{field.name}")  # type: ignore[attr-defined]


def _description(field: inspect.Field) -> str:
    told = field.type.extra_json_schema if isinstance(field.type, inspect.Metadata) else None
    return (told or {}).get("description", "")


def _option(field: inspect.Field, choices: Sequence[str] | None) -> Callable[[_Callback], _Callback]:
    told, item = field.type.extra or {}, field.type.type  # type: ignore[attr-defined]
    if isinstance(item, inspect.UnionType):
        (item,) = (kind for kind in item.types if not isinstance(kind, inspect.NoneType))
    repeatable = isinstance(item, inspect.VarTupleType)
    default = None if field.default is NODEFAULT else field.default
    return click.option(
        _flag(field),
        field.name,
        type=click.Choice(choices) if choices else _click_type(item.item_type if repeatable else item),
        multiple=repeatable,
        is_flag=isinstance(item, inspect.BoolType),
        default=default,
        show_default=bool(default),
        metavar=told.get("metavar"),
        help=_description(field),
    )


def _click_type(kind: inspect.Type) -> click.ParamType:
    if isinstance(kind, inspect.LiteralType):
        return click.Choice(kind.values)
    if isinstance(kind, inspect.IntType):
        return click.IntRange(kind.ge, kind.le)
    if isinstance(kind, inspect.FloatType):
        least = kind.ge if kind.gt is None else kind.gt
        return FiniteFloat(least, kind.le, min_open=kind.gt is not None)
    return click.BOOL if isinstance(kind, inspect.BoolType) else click.STRING
