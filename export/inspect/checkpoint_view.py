"""How `vla-inspect` looks on a terminal, or in plain text where the output is not one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from vla_edge.export.checkpoint.checkpoint import StoredPolicy
from vla_edge.export.screen.screen import escape, plain_table, result_console

from .checkpoint import Inspection, Module, ModuleDifference, Structure

_MIB = 2**20
_LISTED = 20
# Wide enough for the longest names, where there is no terminal to ask.
_PLAIN_WIDTH = 160
_STYLES = {"backbone": "cyan", "own": "green"}


def print_inspection(inspection: Inspection, sha256: str | None, depth: int) -> None:
    """Print one checkpoint."""
    console = result_console(_PLAIN_WIDTH)
    console.print(_facts(inspection, sha256))
    console.print(_tree(inspection.tree, depth))
    if inspection.layout_problem:
        console.print(f"[bold red]Layout not recognised.[/] {escape(inspection.layout_problem)}")


def print_comparison(
    first: StoredPolicy,
    second: StoredPolicy,
    structure: Structure,
    weights: Sequence[ModuleDifference],
    hashes: Mapping[Path, str],
) -> None:
    """Print how two checkpoints differ."""
    console = result_console(_PLAIN_WIDTH)
    for label, stored in (("A", first), ("B", second)):
        mark = f", SHA-256 {hashes[stored.path]}" if stored.path in hashes else ""
        console.print(
            f"[bold]{label}[/] {escape(str(stored.path))}: epoch {stored.epoch}, validation MAE {stored.val_mae}, "
            f"{stored.parameters:,} parameters ({escape(stored.weights_origin)}){mark}"
        )
    _print_structure(console, structure)
    console.print(_weights_table(weights))


def _facts(inspection: Inspection, sha256: str | None) -> Table:
    stored, recognised = inspection.stored, inspection.stored.recognised
    table = Table.grid(padding=(0, 2))
    rows = {
        "file": f"{stored.path} ({stored.size_bytes:,} bytes, {stored.size_bytes / _MIB:.1f} MiB)",
        "SHA-256": sha256,
        "container": _container(stored),
        "layout": _layout(stored),
        "shapes": stored.family.describe(recognised.architecture) if recognised else None,
        "weights": _weights(stored),
        "weights from": stored.weights_origin,
        "epoch": stored.epoch,
        "validation MAE": stored.val_mae,
        "optimizer": _optimizer(stored),
        "stripped prefix": stored.prefix or None,
        "dropped buffers": ", ".join(stored.dropped) or None,
        "args": _values(stored.args),
        "also there": _values(stored.extra),
    }
    for name, value in rows.items():
        if value is not None:
            table.add_row(f"[bold]{name}[/]", escape(str(value)))
    return table


def _container(stored: StoredPolicy) -> str:
    keys = ", ".join(stored.container_keys) or "a bare state dict"
    return f"{stored.format}: {keys}"


def _weights(stored: StoredPolicy) -> str | None:
    if not stored.other_weights:
        return None
    return f"{stored.state_dict_key}, not {', '.join(stored.other_weights)} (--weights KEY shows others)"


def _layout(stored: StoredPolicy) -> str:
    if stored.recognised is None:
        return "not recognised (see below)"
    return f"{stored.recognised.layout}: {'; '.join(stored.recognised.reasons)}"


def _optimizer(stored: StoredPolicy) -> str | None:
    if stored.optimizer is None:
        return None
    return f"{stored.optimizer.tensors} tensors, {stored.optimizer.size_bytes / _MIB:.1f} MiB (not used)"


def _values(values: Mapping[str, Any]) -> str | None:
    return ", ".join(f"{name}={value}" for name, value in values.items()) or None


def _tree(root: Module, depth: int) -> Tree:
    tree = Tree(_label(root, "all tensors"))
    _grow(tree, root, depth)
    return tree


def _grow(tree: Tree, module: Module, depth: int) -> None:
    if depth == 0 or _is_layer(module):
        return
    for siblings in _alike(module.children):
        first, name = siblings[0], _short(siblings[0])
        label = f"{name}..{_short(siblings[-1])} ({len(siblings)} alike), each" if len(siblings) > 1 else name
        _grow(tree.add(_label(first, label)), first, depth - 1)


def _is_layer(module: Module) -> bool:
    """A single torch layer, such as Linear: its tensors say nothing that its size does not."""
    return all(_short(child) in ("weight", "bias") for child in module.children)


def _alike(modules: Sequence[Module]) -> Iterator[list[Module]]:
    """Runs of numbered siblings of the same size, such as the layers of a transformer."""

    def key(module: Module) -> object:
        numbered = _short(module).isdigit()
        return (module.parameters, module.tensors, tuple(module.dtypes)) if numbered else module.name

    return (list(group) for _, group in groupby(modules, key))


def _short(module: Module) -> str:
    return module.name.rpartition(".")[2]


def _label(module: Module, name: str) -> str:
    # The root mixes parts, and so does a stray prefix: only what is known gets a mark.
    marked = module.part and module.name.count(".") == 0
    mark = f"  [{_STYLES[module.part]}]{module.part}[/]" if marked else ""
    dtypes = ", ".join(module.dtypes)
    if module.shape is not None:
        dtypes += f"  {escape(str(list(module.shape)))}"
    return (
        f"[bold]{escape(name)}[/]  {module.parameters:,}  {module.size_bytes / _MIB:,.1f} MiB  {dtypes}{mark}"
    )


def _print_structure(console: Console, structure: Structure) -> None:
    if structure.same:
        console.print(
            f"The same structure: {len(structure.shared)} tensors of equal names, shapes and dtypes."
        )
        return
    for title, names in (("Only in A", structure.only_in_first), ("Only in B", structure.only_in_second)):
        _print_list(console, title, list(names))
    _print_list(console, "Changed", [f"{name}: {a} -> {b}" for name, a, b in structure.changed])


def _print_list(console: Console, title: str, lines: list[str]) -> None:
    if not lines:
        return
    console.print(f"[bold]{title} ({len(lines)})[/]")
    for line in lines[:_LISTED]:
        console.print(f"  {escape(line)}")
    if len(lines) > _LISTED:
        console.print(f"  ... and {len(lines) - _LISTED} more (--json lists all)")


def _weights_table(weights: Sequence[ModuleDifference]) -> Table:
    titles = ("module", "parameters", "differing", "largest difference", "relative (L2)")
    table = plain_table(titles, right=titles[1:])
    for line in weights:
        equal = line.differing == 0
        figures = (
            ("-", "equal", "equal")
            if equal
            else (f"{line.differing:,}", f"{line.max_abs:.3g}", f"{line.relative:.3g}")
        )
        table.add_row(escape(line.name), f"{line.parameters:,}", *figures)
    return table
