"""A command that also has subcommands: `vla-bench engines/` measures, `vla-bench compare A B` compares."""

from __future__ import annotations

import os
from difflib import get_close_matches
from typing import Any

import click


class DefaultGroup(click.Group):
    """Passes everything to `default`, unless the first argument is the name of a subcommand.

    The default's help, usage and errors are those of the plain command. A folder that is called like a
    subcommand is given as a path: `vla-bench ./compare`.

    Args:
        default: what runs without a subcommand's name.
        commands: the others; each is called by its own name.
    """

    def __init__(self, default: click.Command, commands: tuple[click.Command, ...]) -> None:
        super().__init__(
            name=default.name,
            commands={str(command.name): command for command in commands},
            help=default.help,
        )
        self.default = default

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The context of the default command, or that of this group where a subcommand is named."""
        if args and args[0] in self.commands:
            return super().make_context(info_name, args, parent, **extra)
        first = args[0] if args else ""
        try:
            return self.default.make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            meant = get_close_matches(first, self.commands, 1)
            if not meant or os.path.exists(first):
                raise
            words = f"{error.format_message().rstrip('.')}. Did you mean {info_name} {meant[0]}?"
            raise click.UsageError(words, error.ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that the context was made for; returns what it returns."""
        if ctx.command is self:
            return super().invoke(ctx)
        return ctx.command.invoke(ctx)
