"""Part graphs: each an ordinary ONNX file over the bundle's own weights."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vla_edge.runtime.bundle.manifest import WEIGHTS_NAME, TensorSpec
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.files.regular_file import regular_size

from .graph import Graph, Segment
from .onnx_reading import Initialiser, Node
from .onnx_writing import onnx_bytes


@dataclass(frozen=True)
class PartGraph:
    """A part of a graph.

    Attributes:
        name: of the cut where it ends; the last one's is `Graph.last`.
        model: content of its ONNX file, whose external data is `model.onnx.data` beside it.
        inputs: what it takes: inputs of the whole graph, and outputs of parts before it.
        outputs: what parts behind it take, and outputs of the whole graph.
        weights_bytes: of its weights and constants, each once.
        nodes: in their order.
        initialisers: weights and constants, in the order of use.
        versions: of the format and the operators, encoded.
    """

    name: str
    model: bytes
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights_bytes: int
    nodes: tuple[Node, ...]
    initialisers: tuple[Initialiser, ...]
    versions: tuple[tuple[int, int | bytes], ...]

    def makes(self, tensor: str) -> bool:
        """Whether a node of this part makes the tensor, be it an output or not."""
        return any(tensor in node.outputs for node in self.nodes)


def split(graph: Graph, boundaries: Sequence[str]) -> tuple[PartGraph, ...]:
    """The graph cut at some of its cuts, in the order in which the parts run.

    Args:
        graph: of a bundle.
        boundaries: names among `graph.cuts`, in any order; none for the whole, whose file is then as it stands.

    Raises:
        InputError: a name that is no cut of the graph, or given twice.
    """
    cuts = in_order(graph, boundaries)
    return tuple(_part(graph, segment, whole=not cuts) for segment in graph.between(cuts))


def in_order(graph: Graph, boundaries: Iterable[str]) -> tuple[str, ...]:
    """Names of cuts in the order of the graph.

    Raises:
        InputError: a name that is no cut of the graph, or given twice.
    """
    names = Counter(boundaries)
    for name, count in names.items():
        if name not in graph.places:
            raise InputError(
                f"{graph.source} has no cut {name!r}.", f"It has: {', '.join(graph.cuts) or 'none'}."
            )
        if count > 1:
            raise InputError(f"The cut {name!r} is named twice.", "Name each once.")
    return tuple(cut for cut in graph.cuts if cut in names)


def owner_of(parts: Iterable[PartGraph], tensor: str) -> PartGraph | None:
    """The part that makes a tensor; None for the graph's inputs, weights, and names that it does not have."""
    return next((part for part in parts if part.makes(tensor)), None)


def write_part(part: PartGraph, folder: Path, weights: Path) -> Path:
    """Write a part's file, and the weights beside it as a link, never as a copy.

    Args:
        part: to write.
        folder: of this part or of several parts of one bundle; must exist.
        weights: the bundle's data file, a regular file.

    Returns:
        The ONNX file, `NAME.onnx`. TensorRT follows a symbolic link to the weights; recent releases of ONNX
        Runtime refuse one, which is made only where the file system has no hard links to there.

    Raises:
        OSError: the folder cannot be written, or has other files of these names.
    """
    regular_size(weights)
    path, beside = folder / f"{part.name}.onnx", folder / WEIGHTS_NAME
    with path.open("xb") as file:
        file.write(part.model)
    if beside.exists() and beside.samefile(weights):
        return path
    try:
        os.link(weights, beside)
    except FileExistsError:
        raise
    except OSError:  # another file system, or one without hard links
        beside.symlink_to(weights.resolve())
    return path


def _part(graph: Graph, segment: Segment, whole: bool) -> PartGraph:
    file, specs = graph.file, graph.specs
    nodes = file.nodes[segment.start : segment.stop]
    inputs, outputs = (tuple(specs[name] for name in names) for names in (segment.inputs, segment.outputs))
    model = (
        file.content
        if whole
        else onnx_bytes(file.frame, segment.name, nodes, segment.initialisers, inputs, outputs)
    )
    return PartGraph(
        name=segment.name,
        model=model,
        inputs=inputs,
        outputs=outputs,
        weights_bytes=segment.weights_bytes,
        nodes=nodes,
        initialisers=segment.initialisers,
        versions=tuple((number, value) for number, value in file.frame if number in (1, 8)),
    )
