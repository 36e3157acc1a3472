"""How a family's settings are chosen: defaults, what the checkpoint carries, a file and options over each other.

A state dict fixes shapes, not behaviour. Each choice that it leaves open is a field of a struct, and nothing about
the forward pass is decided anywhere else. What stands here knows no family: a family brings its struct, its
defaults and its checks as `SettingRules`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

from vla_edge.runtime.bundle.manifest import Manifest, Setting
from vla_edge.runtime.errors import InputError

from .given import GivenSettings, read_given
from .words import in_words

A = TypeVar("A")
S = TypeVar("S", bound=Struct)
Origin = Literal["default", "checkpoint", "episodes", "file", "option"]

_LOOK = "Look at vla-export --list-settings for the form of each value."
INSTRUCTIONS = "instructions"  # what --instruction sets
_DEFAULT_INSTRUCTION = "default_instruction"


@dataclass(frozen=True)
class ResolvedSettings(Generic[S]):
    """Settings for one checkpoint, and who chose each."""

    values: S
    origins: Mapping[str, Origin]
    standing: Mapping[str, str]

    def for_manifest(self) -> dict[str, Setting]:
        plain = msgspec.to_builtins(self.values)
        return {
            name: Setting(value=plain[name], origin=self.origins[name], standing=self.standing[name])
            for name in self.values.__struct_fields__
        }


@dataclass(frozen=True)
class SettingRules(Generic[A, S]):
    """A family's settings.

    Attributes:
        struct: a frozen msgspec struct with a default for every field, unknown fields forbidden.
        standing: of each field, how sure its default is: "exact: why", "likely: why" or "unknown: why".
        defaults: those that depend on the architecture; all others are the fields' own.
        check: raises InputError for settings that cannot be meant; is given who chose each, too.
        by_layout: of each field whose default depends on the architecture, how, in words.
        example: the last line of `vla-export --list-settings`.
    """

    struct: type[S]
    standing: Mapping[str, str]
    defaults: Callable[[A], Mapping[str, Any]] = lambda architecture: {}
    check: Callable[[A, S, Mapping[str, str]], None] = lambda architecture, settings, origins: None
    by_layout: Mapping[str, str] = field(default_factory=dict)
    example: str = "Change one: --set NAME=VALUE. Many: --settings FILE.yaml"

    def resolve(
        self,
        architecture: A,
        *,
        checkpoint: Mapping[str, Any] | None = None,
        file: Path | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> ResolvedSettings[S]:
        """Lay defaults, what the checkpoint carries, a settings file and command-line options over each other.

        Where instructions are given without a default one, the first of them is it.

        Args:
            architecture: the recognised one.
            checkpoint: settings found in the checkpoint.
            file: a YAML or JSON file with any of the fields, and those that `vla-settings` found.
            options: values given on the command line; they win.

        Raises:
            InputError: an unknown field, a value that does not fit, or settings that contradict the shapes.
        """
        from_file = read_given(file) if file else GivenSettings()
        layers: list[tuple[Origin, Mapping[str, Any]]] = [
            ("default", self.defaults(architecture)),
            ("checkpoint", checkpoint or {}),
            ("episodes", from_file.found),
            ("file", from_file.chosen),
            ("option", options or {}),
        ]
        merged: dict[str, Any] = {}
        origins: dict[str, Origin] = dict.fromkeys(self.names, "default")
        for origin, values in layers:
            self._refuse_unknown(values, origin)
            merged |= values
            origins |= dict.fromkeys(values, origin)
        given = merged.get(INSTRUCTIONS)
        # anything but a list is for _convert to refuse
        if _DEFAULT_INSTRUCTION not in merged and isinstance(given, (list, tuple)):
            merged[_DEFAULT_INSTRUCTION] = next(iter(given), "")
            origins[_DEFAULT_INSTRUCTION] = origins[INSTRUCTIONS]
        settings = self._convert(merged)
        self.check(architecture, settings, origins)
        found = {name: from_file.evidence for name, origin in origins.items() if origin == "episodes"}
        return ResolvedSettings(settings, origins, {**self.standing, **found})

    def value_of(self, name: str, value: Any) -> Any:
        """A value of one setting, as the struct has it.

        Raises:
            InputError: there is no such setting, or the value is none of its own.
        """
        self._refuse_unknown({name: value}, "option")
        return getattr(self._convert({name: value}), name)

    def from_manifest(self, manifest: Manifest) -> S:
        """The settings that a bundle was exported with.

        Raises:
            InputError: they are not those of this version.
        """
        return self._convert({name: setting.value for name, setting in manifest.settings.items()})

    def left_at_default(self, manifest: Manifest, standing: str) -> dict[str, Any]:
        """Settings of a standing, such as "likely", that whoever exported a bundle left at their defaults.

        Raises:
            InputError: as `from_manifest`.
        """
        self.from_manifest(manifest)
        return {
            name: setting.value
            for name, setting in manifest.settings.items()
            if setting.origin == "default" and setting.standing.startswith(standing)
        }

    def otherwise(self, name: str, taken: Any) -> str:
        """Another value of a setting, as it is written, or in words where it is free."""
        written = str(taken).lower() if isinstance(taken, bool) else str(taken)
        others = [choice for choice in self.choices(name) if choice != written]
        return others[0] if others else "another value"

    def choices(self, name: str) -> tuple[str, ...]:
        """What a setting may be, as it is written; empty where it is free."""
        kind = get_type_hints(self.struct)[name]
        return ("true", "false") if kind is bool else tuple(map(str, _choices(kind)))

    @property
    def names(self) -> tuple[str, ...]:
        return self.struct.__struct_fields__

    def _refuse_unknown(self, values: Mapping[str, Any], origin: str) -> None:
        unknown = [str(name) for name in values if name not in self.names]
        if unknown:
            raise InputError(
                f"unknown setting {unknown[0]!r} (from the {origin}).",
                f"Known settings: {', '.join(self.names)}.",
            )

    def _convert(self, values: Mapping[str, Any]) -> S:
        try:
            return msgspec.convert(dict(values), self.struct)
        except msgspec.ValidationError as error:
            name, problem = in_words(str(error), values)
            raise InputError(problem, self._hint(name)) from error
        except (ArithmeticError, RecursionError, ValueError) as error:  # a whole number that no float holds
            raise InputError(f"a setting does not fit: {error}.", _LOOK) from error

    def _hint(self, name: str) -> str:
        """Name the choices where the error is about a field with a fixed set of them."""
        choices = self.choices(name) if name else ()
        return f"Choices for {name}: {', '.join(choices)}." if choices else _LOOK


def _choices(kind: Any) -> tuple[Any, ...]:
    """The values of a `Literal`, or of a tuple of them; none of another type."""
    parts = [part for part in get_args(kind) if part is not Ellipsis]
    if get_origin(kind) is Literal:
        return tuple(parts)
    return next(filter(None, map(_choices, parts)), ())
