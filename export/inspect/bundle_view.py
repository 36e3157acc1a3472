"""How `vla-inspect` shows bundles: one as a tree with the answer on top, two compared."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.tree import Tree

from vla_edge.export.bundle.gates import judgements
from vla_edge.export.screen import gates as gate_view
from vla_edge.export.screen.screen import (
    as_text,
    escape,
    one_line,
    plain_table,
    prose,
    result_console,
    say,
    size,
)
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import ActionSpec, Manifest
from vla_edge.runtime.command.streams import plus_minus
from vla_edge.runtime.engines.registry import ENGINES

from .bundle import BundleReport, Certainty, FileLine, SettingLine
from .bundle_diff import Difference
from .machine import Engine, Here
from .plans.view import add_plans

_CERTAINTIES: tuple[Certainty, ...] = ("chosen", "guessed", "likely", "certain", "without effect")
_LONGEST_VALUE = 120
_LISTED = 10
_DIGITS = 12  # of a hash: enough to compare by eye
_ACTION = "action"
_FRAMES = {
    "current": "each is acted on (setting frame=current)",
    "first": "an episode's first is acted on alone, and that action held until reset (setting frame=first)",
}
_SHOWN_ELSEWHERE = ("instructions", "default_instruction")


def print_bundle(report: BundleReport) -> None:
    """One bundle, sound or not."""
    console = result_console()
    print_problems(console, report)
    if report.bundle is None:
        say(console, f"[bold]{escape(str(report.folder))}[/]: its manifest cannot be read")
        _print_listing(console, report)
        return
    manifest = report.bundle.manifest
    tree = Tree(f"[bold]{one_line(manifest.name)}[/]  {_headline(manifest)}", guide_style="dim")
    if report.here:
        _add(tree, _here_title(report.here), map(_engine, report.here.engines))
    else:
        tree.add("[bold red]damaged[/]: no engine takes it")
    _add(tree, "[bold]checkpoint[/]", _checkpoint(report.bundle))
    _add(tree, "[bold]settings[/]", _settings(report.settings))
    _add(tree, _instructions_title(manifest), _instructions(manifest))
    _add(tree, "[bold]inputs and outputs[/]", _tensors(manifest))
    _add(tree, *_precision(manifest))
    errors = tree.add(
        f"[bold]errors[/] at the export, against {one_line(manifest.parity.reference)}, "
        f"{manifest.parity.samples} images, by {one_line(manifest.parity.engine)}"
    )
    errors.add(gate_view.gate_table(judgements(manifest)))
    if left := manifest.uncompared_state:
        errors.add(
            f"[bold yellow]not compared:[/] the carried state {one_line(', '.join(left))}; export it again"
        )
    add_plans(tree, report.plans)
    _add(tree, _files_title(report), map(_file, report.files))
    console.print(tree)


def print_differences(reports: Sequence[BundleReport], differences: Sequence[Difference]) -> None:
    """Two bundles: what differs, the graph first."""
    console = result_console()
    for mark, report in zip("AB", reports, strict=True):
        name = one_line(report.bundle.manifest.name) if report.bundle else ""
        say(console, f"[bold]{mark}[/] {escape(str(report.folder))}: {name}")
        print_problems(console, report)
    if not differences:
        say(console, "The same policy: model, settings, instructions, precision and errors are equal.")
        return
    table = plain_table(("differs", "A", "B"))
    for line in differences:
        table.add_row(
            one_line(line.field), *(one_line(_compared(value)) for value in (line.first, line.second))
        )
    console.print(table)


def _compared(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = _short(value)
    return text[:_DIGITS] if re.fullmatch("[0-9a-f]{64}", text) else text


def print_problems(console: Console, report: BundleReport) -> None:
    """What is wrong with a bundle, before anything else of it."""
    for problem in report.damage:
        prose(console, f"[bold red]damaged:[/] {one_line(problem)}")
    for problem in report.all_problems[len(report.damage) :]:
        prose(console, f"[bold red]plan not usable:[/] {one_line(problem)}")


def _print_listing(console: Console, report: BundleReport) -> None:
    """All that is left to show without a manifest."""
    for name in report.unlisted:
        say(console, f"  {one_line(name)}")


def _headline(manifest: Manifest) -> str:
    source = manifest.source
    camera = f"\ntakes a camera's frames as they are: {manifest.camera}" if manifest.camera else ""
    return (
        f"{one_line(source.layout)}, {source.parameters:,} parameters, {one_line(manifest.precision.achieved)}\n"
        f"{action_error(manifest)}, at the export{camera}"
    )


def action_error(manifest: Manifest) -> str:
    """Such as "action within 0.0053 m/s of 0.02 m/s allowed, 3.8x room"."""
    judged = next((each for each in judgements(manifest) if each.gate.stage == _ACTION), None)
    if judged is None:
        return f"action within {manifest.parity.max_abs:.2g} {one_line(manifest.action.unit)}, no gate"
    return f"action {'within ' if judged.passed else ''}{gate_view.sentence(judged)}"


def _add(tree: Tree, title: str, lines: Iterator[str]) -> None:
    branch = tree.add(title)
    for line in lines:
        branch.add(line)


def _here_title(here: Here) -> str:
    if here.default:
        return f"[bold green]runs here[/] with {_name(here, here.default)}, which vla-run takes by itself"
    way = f"; --backend {here.asked} runs it, slower" if here.asked else ""
    return f"[bold yellow]vla-run refuses it here[/]: {_brief(here.problem)}{way}"


def _name(here: Here, backend: str) -> str:
    engine = next(engine for engine in here.engines if engine.backend == backend)
    return f"{ENGINES[backend].label} {one_line(engine.version)}"


def _engine(engine: Engine) -> str:
    name = ENGINES[engine.backend].label
    if not engine.version:
        return f"{name}: {_reason(engine, name)}"
    how = f"plan {one_line(engine.plan)}" if engine.plan else "on the CPU"
    return (
        f"{name} {one_line(engine.version)}: {_reason(engine, name) if engine.problem else f'runs it, {how}'}"
    )


def _reason(engine: Engine, name: str) -> str:
    """The problem without the name that stands before it."""
    return _brief(
        engine.problem.removeprefix(f"{name} ").removeprefix(f"{engine.backend} ").removeprefix("is ")
    )


def _brief(problem: str) -> str:
    """A problem without its details, which --json has."""
    return one_line(problem.partition(": ")[0].rstrip("."))


def _checkpoint(bundle: Bundle) -> Iterator[str]:
    source, tools = bundle.manifest.source, bundle.manifest.tools
    yield f"{one_line(source.file)}, {size(source.size_bytes)}, SHA-256 {(source.sha256 or 'not known')[:_DIGITS]}"
    yield f"weights from: {one_line(source.weights_origin)}"
    told = {"epoch": source.epoch, "validation MAE": source.val_mae}
    yield ", ".join(f"{name} {'not known' if value is None else value}" for name, value in told.items())
    yield f"{one_line(source.layout)}, since {one_line('; '.join(source.layout_reasons))}"
    made = ", ".join(f"{name} {version}" for name, version in tools.items())
    yield f"exported {one_line(bundle.manifest.created_utc)} by {one_line(made)}"
    yield f"manifest SHA-256 {bundle.manifest_sha256[:_DIGITS]}"


def _settings(lines: Sequence[SettingLine]) -> Iterator[str]:
    for certainty in _CERTAINTIES:
        found = [line for line in lines if line.certainty == certainty and line.name not in _SHOWN_ELSEWHERE]
        if found:
            style = "yellow" if certainty == "guessed" else "bold"
            values = ", ".join(f"{line.name}={_short(line.value)}" for line in found)
            yield f"[{style}]{certainty}[/]: {one_line(values)}"


def _short(value: object) -> str:
    text = as_text(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _instructions_title(manifest: Manifest) -> str:
    if manifest.prompt is None:
        return "[bold]instructions[/]: none, a policy without text"
    fixed = manifest.prompt.vocabulary == "declared"
    which = "no others can be followed" if fixed else "others can be followed too"
    return f"[bold]instructions[/]: {len(manifest.instructions)}, {which}"


def _instructions(manifest: Manifest) -> Iterator[str]:
    texts = [instruction.text for instruction in manifest.instructions]
    for text in texts[:_LISTED]:
        yield one_line(text) + (" (default)" if text == manifest.default_instruction else "")
    if len(texts) > _LISTED:
        yield f"... and {len(texts) - _LISTED} more (--json lists all)"


def _tensors(manifest: Manifest) -> Iterator[str]:
    for title, specs in (("in", manifest.inputs), ("out", manifest.outputs)):
        for spec in specs:
            yield f"{title}: {one_line(spec.name)} {spec.dtype} {escape(str(list(spec.shape)))}"
    yield f"action: {one_line(_limits(manifest.action))}"
    yield f"frame: {_FRAMES[manifest.runtime.frame]}"


def _limits(action: ActionSpec) -> str:
    """Such as "linear_x ±1.15, linear_y ±1.15 m/s": a unit stands once for those that follow each other in it."""
    shown = [
        f"{name} {plus_minus()}{limit:g}" for name, limit in zip(action.names, action.limit, strict=True)
    ]
    nexts = (*action.units[1:], "")
    return ", ".join(
        text if unit == following else f"{text} {unit}"
        for text, unit, following in zip(shown, action.units, nexts, strict=True)
    )


def _precision(manifest: Manifest) -> tuple[str, Iterator[str]]:
    precision = manifest.precision
    islands = ", ".join(precision.float32_islands)
    asked = "" if precision.asked == precision.achieved else f" (asked: {precision.asked})"
    lines = iter([f"kept in float32: {one_line(islands)}"] if islands else [])
    return f"[bold]precision[/] {precision.achieved}{asked}, weights {precision.weights_dtype}", lines


def _files_title(report: BundleReport) -> str:
    total = sum(line.size_bytes for line in report.files)
    if any(line.problem for line in report.files):
        state = "[bold red]damaged[/]"
    elif all(line.hashed for line in report.files):
        state = "sizes and SHA-256 right"
    else:
        state = "sizes right (--sha256 compares contents)"
    other = f"; not part of it: {one_line(', '.join(report.unlisted))}" if report.unlisted else ""
    return f"[bold]files[/]: {size(total)}, {state}{other}"


def _file(line: FileLine) -> str:
    style = "red" if line.problem else ""
    text = f"{one_line(line.path)}  {size(line.size_bytes)}  SHA-256 {line.sha256[:_DIGITS]}"
    return f"[{style}]{text}[/]" if style else text
