"""A bundle's graph and the places where it may be cut, each proven: no tensor crosses but those that are told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.external_data import check_external_data
from vla_edge.runtime.bundle.manifest import (
    CAMERA_STAGE,
    MODEL_NAME,
    WEIGHTS_NAME,
    Cut,
    Manifest,
    TensorSpec,
)
from vla_edge.runtime.bundle.onnx_wire import WireError
from vla_edge.runtime.engines.tensorrt.record import WHOLE
from vla_edge.runtime.errors import BundleError

from .onnx_reading import Initialiser, OnnxFile, read_onnx, shown

LAST = "actions"  # of what lies behind the last cut
_EXPORT_AGAIN = "It was written by hand or damaged; export it again, or build it whole."


@dataclass(frozen=True)
class Segment:
    """The nodes between two cuts that follow each other, or several such runs: what a part consists of.

    Attributes:
        name: of the cut where it ends, or that of the last segment.
        start: its first node.
        stop: the node behind its last.
        inputs: names of what it takes: inputs of the graph, and tensors of segments before it.
        outputs: names of what it makes and is used behind it, or by the graph's user.
        initialisers: its weights and constants, each once, in the order of use.
    """

    name: str
    start: int
    stop: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    initialisers: tuple[Initialiser, ...]

    @property
    def weights_bytes(self) -> int:
        return sum(tensor.size_bytes for tensor in self.initialisers)


@dataclass(frozen=True)
class Graph:
    """A graph that can be cut.

    Attributes:
        source: its file, for messages.
        file: what the file holds.
        places: by the name of each cut how many nodes lie before it, in their order.
        specs: dtype and shape of inputs, outputs and all tensors that cross a cut.
        last: the name of what lies behind the last cut.
        base: cuts that every split has: that behind a camera, of which the rest of the graph knows nothing.
    """

    source: str
    file: OnnxFile
    places: dict[str, int]
    specs: dict[str, TensorSpec]
    last: str
    base: tuple[str, ...] = ()

    @property
    def cuts(self) -> tuple[str, ...]:
        """Names of the cuts, in the order of the graph."""
        return tuple(self.places)

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """What lies between all cuts that follow each other; one more than cuts."""
        return self.between(self.cuts)

    @cached_property
    def last_uses(self) -> dict[str, int]:
        """For each tensor that a node makes the last node that takes it; outputs of the graph have one beyond."""
        return _last_uses(self.file) | dict.fromkeys(self.file.outputs, len(self.file.nodes))

    def between(self, cuts: Iterable[str]) -> tuple[Segment, ...]:
        """What lies between some of the cuts, given in the order of the graph."""
        ends = [*((name, self.places[name]) for name in cuts), (self.last, len(self.file.nodes))]
        starts = [0, *(stop for _, stop in ends)]
        return tuple(self._segment(name, start, stop) for start, (name, stop) in zip(starts, ends))  # noqa: B905

    def _segment(self, name: str, start: int, stop: int) -> Segment:
        nodes, known = self.file.nodes[start:stop], self.file.initialisers
        made = [output for node in nodes for output in node.outputs if output]
        used = dict.fromkeys(taken for node in nodes for taken in node.inputs if taken)
        inside = set(made)
        inputs = tuple(taken for taken in used if taken not in inside and taken not in known)
        outputs = tuple(output for output in made if self.last_uses.get(output, -1) >= stop)
        return Segment(
            name, start, stop, inputs, outputs, tuple(known[taken] for taken in used if taken in known)
        )


def read_graph(bundle: Bundle) -> Graph:
    """A bundle's graph with its cuts.

    Raises:
        BundleError: the graph takes data from elsewhere, cannot be cut, or a cut does not hold.
    """
    path = bundle.folder / MODEL_NAME
    return graph_of(check_external_data(path, WEIGHTS_NAME), bundle.manifest, str(path))


def graph_of(model: bytes, manifest: Manifest, source: str = MODEL_NAME) -> Graph:
    """The graph of a model's bytes, of which `check_external_data` was content.

    Args:
        model: content of `model.onnx`.
        manifest: of its bundle.
        source: named in errors.

    Raises:
        BundleError: the graph cannot be cut, is not the manifest's, or a cut does not hold.
    """
    try:
        file = read_onnx(model)
        _check_ends(file, manifest)
        specs = _specs(manifest)
        places = _places(file, manifest.cuts)
        last = LAST
        while last in places:
            last += "_"
        graph = Graph(source, file, places, specs, last, _base(manifest, tuple(places)))
        _check_segments(graph)
    except WireError as error:
        raise BundleError(f"{source} cannot be cut into parts: {error}.", _EXPORT_AGAIN) from error
    return graph


def _base(manifest: Manifest, cuts: tuple[str, ...]) -> tuple[str, ...]:
    return cuts[:1] if manifest.camera is not None and cuts[:1] == (CAMERA_STAGE,) else ()


def _check_ends(file: OnnxFile, manifest: Manifest) -> None:
    """Inputs and outputs are those that the manifest tells."""
    for kind, found, told in (
        ("input", file.inputs, manifest.inputs),
        ("output", file.outputs, manifest.outputs),
    ):
        names = {spec.name for spec in told}
        if names != found.keys():
            raise WireError(f"its manifest tells of other {kind}s: {shown(min(names ^ found.keys()))}")
        for spec in told:
            if found[spec.name] != plain(spec):
                raise WireError(f"its {kind} {shown(spec.name)} has not the dtype or shape of the manifest")


def _check_segments(graph: Graph) -> None:
    """Any parts between the cuts make an engine: each makes something, and each input is somebody's."""
    if not graph.cuts:
        return
    taken = {name for node in graph.file.nodes for name in node.inputs}
    if unused := graph.file.inputs.keys() - taken:
        raise WireError(f"no node takes its input {shown(min(unused))}")
    for segment in graph.segments:
        if not segment.outputs:
            raise WireError(f"nothing that is needed is made in its part {segment.name!r}")


def plain(spec: TensorSpec) -> TensorSpec:
    """Name, dtype and shape, without a role."""
    return TensorSpec(name=spec.name, dtype=spec.dtype, shape=spec.shape)


def _specs(manifest: Manifest) -> dict[str, TensorSpec]:
    """Dtype and shape of each tensor that the manifest tells, always the same."""
    specs: dict[str, TensorSpec] = {}
    crossing = (tensor for cut in manifest.cuts for tensor in cut.tensors)
    for spec in map(plain, (*manifest.inputs, *manifest.outputs, *crossing)):
        if specs.setdefault(spec.name, spec) != spec:
            raise WireError(f"its manifest tells two dtypes or shapes of {shown(spec.name)}")
    return specs


def _places(file: OnnxFile, cuts: tuple[Cut, ...]) -> dict[str, int]:
    """For each cut the number of nodes before it: the first place where just its tensors cross.

    Found in one pass, in which the tensors that were made and are still needed are known at every place.
    """
    wanted: dict[frozenset[str], str] = {}
    for cut in cuts:
        if cut.name == WHOLE:
            raise WireError(f"a cut may not be called {WHOLE!r}: that is the name of what is not cut")
        names = frozenset(tensor.name for tensor in cut.tensors)
        if other := wanted.get(names):
            raise WireError(f"the cuts {other!r} and {cut.name!r} lie at one place")
        wanted[names] = cut.name
    sizes = {len(names) for names in wanted}
    found: dict[str, int] = {}
    uses = _last_uses(file)
    live = set[str]()
    for at, node in enumerate(file.nodes):
        live.update(name for name in node.outputs if uses.get(name, -1) > at)
        live.difference_update(name for name in node.inputs if uses.get(name) == at)
        name = wanted.get(frozenset(live)) if len(live) in sizes else None
        if name is not None and name not in found:
            found[name] = at + 1
    for cut in cuts:
        if cut.name not in found:
            raise WireError(_missed(file, cut, uses))
    order = [cut.name for cut in cuts]
    if (by_place := sorted(order, key=found.__getitem__)) != order:
        first = next(name for name, other in zip(order, by_place, strict=True) if name != other)
        raise WireError(f"its manifest lists the cut {first!r} in another order than that of the graph")
    return {name: found[name] for name in order}


def _last_uses(file: OnnxFile) -> dict[str, int]:
    """For each tensor the last node that takes it; a name that is left out, "", is none."""
    return {name: at for at, node in enumerate(file.nodes) for name in node.inputs if name}


def _missed(file: OnnxFile, cut: Cut, uses: dict[str, int]) -> str:
    """Why a cut has no place in the graph, at the node behind which all its tensors are made."""
    made = {name: at for at, node in enumerate(file.nodes) for name in node.outputs if name}
    told = {tensor.name for tensor in cut.tensors}
    if unmade := told - made.keys():
        return f"its cut {cut.name!r} names the tensor {shown(min(unmade))}, which no node makes"
    place = max(made[name] for name in told)
    crossing = {name for name, at in made.items() if at <= place < uses.get(name, -1)}
    if untold := crossing - told:
        return f"at its cut {cut.name!r} crosses {shown(min(untold))}, too, which its manifest does not tell"
    return f"at its cut {cut.name!r} {shown(min(told - crossing))} does not cross"
