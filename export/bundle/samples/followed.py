"""What golden samples of recordings follow: the instruction of their episode, as far as the bundle holds it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from vla_edge.export.family import Prompts
from vla_edge.runtime.bundle.manifest_checks import normal_text
from vla_edge.runtime.episodes.episode import Episode
from vla_edge.runtime.errors import InputError

_LISTED = 5


@dataclass(frozen=True)
class Instructions:
    """What a bundle will follow.

    Attributes:
        texts: declared, as far as is settled; none of a policy without text.
        default: of episodes that tell none.
        chosen: by whoever exports: what was recorded for others is then not asked for.
        grow: whether the bundle follows others, too.
    """

    texts: tuple[str, ...] = ()
    default: str = ""
    chosen: bool = False
    grow: bool = False

    def kind(self, episode: Episode) -> str:
        """What an episode's frames are fed with, as instructions are compared."""
        return normal_text(episode.instruction or self.default)

    def followed(self, episodes: Sequence[Episode], note: Callable[[str], None]) -> list[Episode]:
        """The episodes whose instruction the bundle will follow.

        Raises:
            InputError: it would not follow one, and nobody has chosen that; or there is none that it would.
        """
        if self.grow or not self.texts:
            return list(episodes)
        recorded: dict[str, list[Episode]] = {}
        for episode in episodes:
            recorded.setdefault(self.kind(episode), []).append(episode)
        others = recorded.keys() - set(map(normal_text, self.texts))
        if others and not (self.chosen and len(others) < len(recorded)):
            raise self._undeclared(recorded, others)
        for text in recorded:
            if text in others:
                note(f"left out, since the bundle does not hold {_told(text, recorded[text])}")
        return [episode for episode in episodes if self.kind(episode) not in others]

    def _undeclared(self, recorded: Mapping[str, Sequence[Episode]], others: Collection[str]) -> InputError:
        missing = [_told(text, episodes) for text, episodes in recorded.items() if text in others]
        hint = "List them in a settings file (instructions: [...]), or let the bundle take any: --keep-vocabulary."
        if len(recorded) <= _LISTED:
            options = " ".join(f"--instruction {shlex.quote(text)}" for text in recorded)
            hint = f"Declare what the robot is to follow, the default first: {options}"
        return InputError(
            f"the bundle would not hold what recorded episodes follow: {listed(missing)}; "
            f"it would hold {listed(list(map(repr, self.texts)))}.",
            hint,
        )


def undeclared(prompts: Prompts, recorded: Sequence[str | None]) -> list[str]:
    """Instructions of golden samples that are not declared, each once."""
    declared = {normal_text(each.text) for each in prompts.instructions}
    found = {normal_text(text): text for text in recorded if text is not None}
    return [text for key, text in found.items() if key not in declared]


def unfollowed(prompts: Prompts, recorded: Sequence[str | None]) -> list[str]:
    """Declared instructions that no golden sample follows."""
    followed = set(places(prompts, recorded))
    return [each.text for at, each in enumerate(prompts.instructions) if at not in followed]


def places(prompts: Prompts, recorded: Sequence[str | None]) -> list[int]:
    """Which of the declared instructions each golden sample follows; the default where its episode tells none."""
    place_of = {normal_text(each.text): at for at, each in enumerate(prompts.instructions)}
    return [place_of[normal_text(text or prompts.default_instruction)] for text in recorded]


def _told(text: str, episodes: Sequence[Episode]) -> str:
    more = f" and {len(episodes) - 1} more" if len(episodes) > 1 else ""
    return f"{text!r} ({episodes[0].name}{more})"


def listed(parts: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    return ", ".join(parts[:_LISTED]) + (f" and {len(parts) - _LISTED} more" if len(parts) > _LISTED else "")
