"""The options by which a command is told of recordings: the same for all that read some."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vla_edge.runtime.errors import InputError

from .kinds import ACTIONS_NAME, Kind, holds_images, kind_of_file

if TYPE_CHECKING:
    from .episodes import Episodes
    from .opening import Choice

_Callback = TypeVar("_Callback", bound=Callable[..., Any])
_NAMES = ("view", "commands", "skip_broken")


@dataclass(frozen=True)
class RecordingArguments:
    """What was asked for; see `recording_options`."""

    view: str | None = None
    commands: str | None = None
    skip_broken: bool = False
    actions: bool = True

    @property
    def given(self) -> tuple[str, ...]:
        """The options that were given, as they are written."""
        asked = {"--view": self.view, "--commands": self.commands, "--skip-broken": self.skip_broken}
        return tuple(name for name, value in asked.items() if value)

    @property
    def choice(self) -> Choice:
        from .opening import Choice

        return Choice(self.view, self.commands, self.actions)

    def open(self, path: Path) -> Episodes:
        """The episodes there, as `open_episodes` finds them."""
        from .opening import open_episodes

        return open_episodes(path, choice=self.choice, skip_broken=self.skip_broken)


def recording_options(
    beside: str = "", *, skips: bool = True, actions: bool = True
) -> Callable[[_Callback], Callable[..., Any]]:
    """Add the options to a command; it gets them as `recordings`, of the type `RecordingArguments`.

    Args:
        beside: an option without which they say nothing; their help begins with it.
        skips: whether `--skip-broken` is among them.
        actions: whether the command looks at what was driven; else `--commands` is not among them.
    """

    def text(sentence: str) -> str:
        return f"With {beside}: {sentence[0].lower()}{sentence[1:]}" if beside else sentence

    options = [
        click.option(
            "--view",
            metavar="NAME",
            help=text("Which of a recording's cameras, where it has several: a topic or feature."),
        ),
    ]
    if actions:
        sentence = "Which topic of velocities, where a bag has several."
        options.append(click.option("--commands", metavar="TOPIC", help=text(sentence)))
    if skips:
        after = "" if beside else "; the exit code is 1 then"
        sentence = f"Leave out, and name, episodes that cannot be read{after}."
        options.append(click.option("--skip-broken", is_flag=True, help=text(sentence)))

    def decorate(command: _Callback) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_recordings(**given: Any) -> Any:
            asked = {name: given.pop(name) for name in _NAMES if name in given}
            return command(recordings=RecordingArguments(**asked, actions=actions), **given)

        return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), with_recordings)

    return decorate


def refuse_in_place_of_actions(output: Path) -> None:
    """Refuse to write results where the actions of a recording are looked for.

    What was driven would be lost, or the results be taken for it.

    Raises:
        InputError: names the recording.
    """
    if output.suffix != ".csv" or not output.parent.is_dir():
        return
    recording = None
    if output.name == ACTIONS_NAME and holds_images(output.parent):
        recording = output.parent
    beside = (each for each in output.parent.iterdir() if each.stem == output.stem and each != output)
    recording = next((each for each in beside if kind_of_file(each) is Kind.VIDEO), recording)
    if recording is not None:
        raise InputError(
            f"{output} is where the actions of the recording {recording} are looked for: what was driven.",
            f"Give another name, such as {output.with_name(f'{output.stem}-results.csv')}",
        )
