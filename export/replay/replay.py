"""The main path of `vla-replay`: episodes through a policy, told as they are done."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from rich.markup import escape

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import ActionSpec
from vla_edge.runtime.command.console import stderr_console
from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.command.result_file import Write, result_file
from vla_edge.runtime.engine_options import EngineArguments
from vla_edge.runtime.episodes.episodes import Episodes
from vla_edge.runtime.errors import EpisodeError, ImageError, InputError, VlaError
from vla_edge.runtime.policy import Policy
from vla_edge.runtime.printable import one_line
from vla_edge.runtime.replay.against import Other, predicted, require_same_action
from vla_edge.runtime.replay.lines import lines_of
from vla_edge.runtime.replay.output import as_fields, writers
from vla_edge.runtime.replay.steps import Replayed, Seen, Step, replay_episode, unseen
from vla_edge.runtime.replay.summary import Kept, Summary, kept_of, summarise
from vla_edge.runtime.replay.table import print_table
from vla_edge.runtime.replay.view import print_summary

from .pictures import Pictures


@dataclass(frozen=True)
class Told:
    """Where a replay is told, beside the terminal.

    Attributes:
        output: a line a step, by the file's suffix.
        page: as HTML.
        rerun: as a recording for the Rerun viewer.
        as_json: on stdout instead of the table.
    """

    output: Path | None = None
    page: Path | None = None
    rerun: Path | None = None
    as_json: bool = False


@dataclass(frozen=True)
class OtherPolicy:
    """What is compared with: in words, in fewer where there is little room, and what it commanded."""

    name: str
    label: str
    commanded: Other


@dataclass(frozen=True)
class Replay:
    """What is replayed: a bundle in an engine, episodes, and one instruction for all of them or each its own."""

    bundle: Path
    opened: Episodes
    instruction: str | None
    engine: EngineArguments

    def run(self, other: OtherPolicy | None, told: Told) -> Summary:
        """Replay, show and write; an episode appears when all of it is done.

        Raises:
            InputError: no episode can be read.
        """
        with _loading(self.bundle), contextlib.ExitStack() as stack:
            policy = stack.enter_context(Policy.load(self.bundle, **self.engine))
            policy.warmup(1)
            leave = stack.pop_all()
        with leave:
            return self._through(policy, other, told)

    def _through(self, policy: Policy, other: OtherPolicy | None, told: Told) -> Summary:
        found: list[Kept] = []
        with _told_if_ended(found, policy.manifest.action, other is not None, told.as_json):
            summary = self._written(policy, other, told, found)
        if told.as_json:
            broken = {name: error.problem for name, error in self.opened.broken.items()}
            click.echo(json_text({"summary": summary, "broken": broken}, indent=None))
        else:
            name, left_out = other.name if other else None, len(self.opened.broken)
            print_summary(summary, policy.manifest, policy.identity, name, left_out)
            click.echo("")
            print_table(found, policy.manifest.action, other is not None)
        return summary

    def _written(self, policy: Policy, other: OtherPolicy | None, told: Told, found: list[Kept]) -> Summary:
        """Replay all, and write what was asked for; `found` grows by each episode that is done."""
        spec = policy.manifest.action
        commanded = None if other is None else other.commanded
        pictures = Pictures(spec) if told.page else None
        with result_file(told.output, writers(spec)) as write, contextlib.ExitStack() as stack:
            lookers: list[Seen] = [pictures.see] if pictures else []
            if told.rerun:
                from .rerun_file import rerun_file

                lookers.append(stack.enter_context(rerun_file(told.rerun, spec, commanded)))
            for replayed in self.episodes(policy, str(self.opened.path), _each(lookers)):
                found.append(kept_of(replayed, spec, commanded))
                self._write(replayed, commanded, policy, write, told.as_json)
                if pictures:
                    pictures.episode(replayed, found[-1], commanded)
            if not found:
                reason = next(iter(self.opened.broken.values()))
                raise InputError(
                    f"no episode of {self.opened.path} can be read: {reason.problem}", reason.hint
                )
        summary = summarise(found, policy.manifest)
        if told.page and pictures:
            from .page import write_page

            write_page(told.page, policy, summary, found, pictures, other.label if other else "")
        return summary

    def _write(
        self, replayed: Replayed, other: Other | None, policy: Policy, write: Write, as_json: bool
    ) -> None:
        for line in lines_of(replayed, other):
            write(line)
            if as_json:
                click.echo(json_text(as_fields(line, policy.manifest.action), indent=None))

    def episodes(self, policy: Policy, what: str, seen: Seen = unseen) -> Iterator[Replayed]:
        """The episodes, one after another; a damaged frame passes over all of its episode where that was asked for.

        Args:
            policy: to replay them through.
            what: beside the progress bar.
            seen: is called after each step, also of an episode that is passed over in the end.
        """
        with _progress(what, len(self.opened)) as advance:
            for episode in self.opened:
                text = self.instruction or episode.instruction if policy.instructions else None
                try:
                    replayed = replay_episode(policy, episode, text, seen)
                except (EpisodeError, ImageError) as error:
                    self.opened.pass_over(episode.name, error)
                    continue
                yield replayed
                advance()


def other_policy(replay: Replay, against: Path, checkpoint: Path | None) -> OtherPolicy:
    """What another policy commands on the same frames. It is closed before the bundle is loaded: both may not fit.

    Args:
        replay: whose frames, and whose bundle's settings where it is PyTorch's turn.
        against: a bundle.
        checkpoint: PyTorch FP32 on this one, instead of a bundle.

    Raises:
        InputError: its actions are others than the bundle's.
    """
    if checkpoint is not None:
        from .reference import load_reference

        with _loading(checkpoint):
            policy = load_reference(replay.bundle, checkpoint, replay.engine.get("device_index"))
    else:
        mine, theirs = (Bundle.open(folder, "size").manifest.action for folder in (replay.bundle, against))
        require_same_action(mine, theirs)
        with _loading(against):
            policy = Policy.load(against, **replay.engine)
    with policy:
        policy.warmup(1)
        name = f"PyTorch FP32 on {policy.identity.device}" if checkpoint else str(against)
        found = replay.episodes(policy, name)
        label = "PyTorch FP32" if checkpoint else against.absolute().name
        return OtherPolicy(name, label, {each.steps[0].episode: predicted(each.steps) for each in found})


@contextlib.contextmanager
def _told_if_ended(found: Sequence[Kept], spec: ActionSpec, against: bool, as_json: bool) -> Iterator[None]:
    """Where a replay ends early, or what it was to write cannot be written, the episodes that were done are shown."""
    try:
        yield
    except (VlaError, OSError, KeyboardInterrupt):
        if found and not as_json:
            print_table(found, spec, against)
        raise


def _each(lookers: Sequence[Seen]) -> Seen:
    """All of them, one after another."""

    def see(step: Step, frame: np.ndarray) -> None:
        for look in lookers:
            look(step, frame)

    return see


@contextlib.contextmanager
def _loading(what: Path) -> Iterator[None]:
    with stderr_console().status(escape(f"checking and loading {one_line(str(what))}")):
        yield


@contextlib.contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, which leaves nothing."""
    from rich.progress import Progress

    console = stderr_console()
    if not console.is_terminal:
        yield lambda: None
        return
    with Progress(console=console, transient=True, redirect_stdout=True) as bar:
        task = bar.add_task(escape(one_line(what)), total=total)
        yield lambda: bar.advance(task)
