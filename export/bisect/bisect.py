"""Find the first tensor of a graph that two engines compute differently.

The two are plain callables, so that any pair can be compared: ONNX Runtime against a TensorRT engine, or
two files with ONNX Runtime. Each round asks both for a handful of tensors, spread over the part of the
graph that is still in question; a graph of 2000 nodes takes three rounds.

Asking for a tensor keeps an engine from fusing across it. Where the fault disappears while it is looked
at, the fusion is the fault: the report then says that no tensor differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_edge.runtime.bundle.external_data import check_external_data
from vla_edge.runtime.checks.relative import relative_l2
from vla_edge.runtime.engines.onnxruntime import import_onnxruntime
from vla_edge.runtime.errors import BundleError, EngineError, InputError
from vla_edge.runtime.files.atomic import staging_file
from vla_edge.runtime.process.cores import usable_cores

try:
    import onnx
except ModuleNotFoundError as error:
    raise EngineError(
        "onnx is not installed, which bisection reads graphs with.", "pip install 'vla-edge[export]'"
    ) from error

Runner = Callable[[Sequence[str]], Mapping[str, np.ndarray]]
PROBES_PER_ROUND = 16
LARGEST_GRAPH_BYTES = 1 << 31  # more cannot be a message of protobuf
_MAX_ONNX_BYTES = 2 << 30  # what protobuf takes; a candidate may hold its weights itself
_BESIDE = "Its data file must lie beside it, and its inputs must be the bundle's."
_FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}


@dataclass(frozen=True)
class Value:
    """A tensor that a node computes.

    Attributes:
        name: of the tensor.
        node: its node, as "name (operator)".
        inputs: computed tensors that the node reads.
    """

    name: str
    node: str
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Probe:
    """One comparison, by `checks.relative.relative_l2`: infinite for NaN or another shape."""

    value: Value
    relative_l2: float
    bad: bool


@dataclass(frozen=True)
class Finding:
    """What a bisection found.

    Attributes:
        first_bad: the first tensor beyond the limit whose inputs are within it; None where all are within.
        probes: everything that was compared, in the order of the graph.
        rounds: how often both engines ran.
    """

    first_bad: Probe | None
    probes: tuple[Probe, ...]
    rounds: int


def first_bad(
    values: Sequence[Value],
    reference: Runner,
    candidate: Runner,
    limit: float,
    start: Sequence[str] = (),
    width: int = PROBES_PER_ROUND,
) -> Finding:
    """Narrow down to the first bad tensor.

    Args:
        values: what may be compared, in the order of the graph.
        reference: gives the right values.
        candidate: gives the values in question.
        limit: of the relative L2 error.
        start: tensors to compare first, such as the stages; the last value is always among them.
        width: most tensors per round.
    """
    search = _Search(values, reference, candidate, limit)
    wanted = [at for at, value in enumerate(values) if value.name in start]
    search.probe([*wanted, len(values) - 1])
    while (bad := search.first()) is not None:
        low = search.last_good_before(bad)
        between = range(low + 1, bad)
        unseen = [at for at in between if at not in search.probes]
        if unseen:
            search.probe(_spread(unseen, width))
            continue
        # Neighbours in the order of the graph may lie on different branches: its own inputs decide.
        inputs = [at for at in search.inputs_of(bad) if at not in search.probes]
        if not inputs:
            break
        search.probe(inputs)
    return search.finding()


class _Search:
    """The probes so far, by position."""

    def __init__(self, values: Sequence[Value], reference: Runner, candidate: Runner, limit: float) -> None:
        self._values = values
        self._position = {value.name: at for at, value in enumerate(values)}
        self._reference, self._candidate, self._limit = reference, candidate, limit
        self.probes: dict[int, Probe] = {}
        self.rounds = 0

    def probe(self, positions: Sequence[int]) -> None:
        fresh = sorted(set(positions) - self.probes.keys())
        names = [self._values[at].name for at in fresh]
        right, found = self._reference(names), self._candidate(names)
        self.rounds += 1
        for at, name in zip(fresh, names, strict=True):
            error = relative_l2(found[name], right[name])
            self.probes[at] = Probe(self._values[at], error, not error <= self._limit)

    def first(self) -> int | None:
        """The first bad position."""
        bad = sorted(at for at, probe in self.probes.items() if probe.bad)
        return bad[0] if bad else None

    def last_good_before(self, position: int) -> int:
        return max((at for at, probe in self.probes.items() if at < position and not probe.bad), default=-1)

    def inputs_of(self, position: int) -> list[int]:
        return [self._position[name] for name in self._values[position].inputs if name in self._position]

    def finding(self) -> Finding:
        at = self.first()
        probes = tuple(self.probes[key] for key in sorted(self.probes))
        return Finding(None if at is None else self.probes[at], probes, self.rounds)


def graph_values(model: Path) -> list[Value]:
    """The floating-point tensors that the nodes of a graph compute from its inputs, in order.

    Raises:
        InputError: the file is not ONNX, or its shapes cannot be told.
    """
    loaded = load_graph(model)
    graph = loaded.graph
    types = _types(loaded, model)
    computed = {value.name for value in graph.input}
    values = []
    for node in graph.node:
        inputs = tuple(name for name in node.input if name in computed)
        if not inputs:
            continue  # computed from constants alone: engines fold it away
        computed.update(node.output)
        values += [
            Value(name, f"{node.name} ({node.op_type})", inputs)
            for name in node.output
            if name and types.get(name, onnx.TensorProto.FLOAT) in _FLOATS
        ]
    return values


def load_graph(model: Path) -> onnx.ModelProto:
    """The graph without its external weights.

    Raises:
        InputError: the file is missing or not ONNX.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        # as bytes: by its name onnx would take a file for JSON or text
        return onnx.load_model_from_string(_read(model))
    except (OSError, DecodeError) as error:
        raise InputError(
            f"{model} cannot be read as ONNX: {error}.", "Give a graph that vla-export wrote."
        ) from error


def _read(model: Path) -> bytes:
    """A graph's own file, which holds no weights; a pipe or device is not read."""
    if not model.is_file():
        raise FileNotFoundError("no regular file")
    with model.open("rb") as file:
        data = file.read(LARGEST_GRAPH_BYTES + 1)
    if len(data) > LARGEST_GRAPH_BYTES:
        raise OSError(f"more than {LARGEST_GRAPH_BYTES >> 20} MiB")
    return data


def onnxruntime_runner(model: Path, feeds: Mapping[str, np.ndarray]) -> Runner:
    """Run a file with ONNX Runtime on the CPU, which computes half precision in FP32: a good reference.

    Raises:
        EngineError: ONNX Runtime is missing or installed twice.
        InputError: the file takes weights from elsewhere than a file beside it. By the callable: the file
            cannot be run.
    """
    onnxruntime = import_onnxruntime()
    try:
        check_external_data(model, None, _MAX_ONNX_BYTES)
    except BundleError as error:
        raise InputError(error.problem, _BESIDE) from error

    def run(names: Sequence[str]) -> dict[str, np.ndarray]:
        tapped = load_graph(model)
        have = {value.name for value in tapped.graph.output}
        tapped.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in have)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # a failure is raised too, without escape sequences in names
        options.intra_op_num_threads = usable_cores()
        # Beside the model: its external weights are found by relative paths.
        with staging_file(model) as (beside, file):
            file.write(tapped.SerializeToString())
            file.flush()
            try:
                session = onnxruntime.InferenceSession(
                    str(beside), options, providers=["CPUExecutionProvider"]
                )
                known = {value.name for value in session.get_inputs()}
                fed = {name: value for name, value in feeds.items() if name in known}
                results = session.run(list(names), fed)
            except Exception as error:  # ONNX Runtime's exceptions share no other base
                raise InputError(
                    f"{model} cannot be run by ONNX Runtime: {error}.",
                    _BESIDE,
                ) from error
        return dict(zip(names, results, strict=True))

    return run


def _types(model: onnx.ModelProto, origin: Path) -> dict[str, int]:
    """Element types of intermediate values, as far as ONNX infers them without the weights."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model).graph
    except (onnx.shape_inference.InferenceError, ValueError, TypeError) as error:
        raise InputError(
            f"the shapes of {origin} cannot be told: {error}.", "Give a graph that vla-export wrote."
        ) from error
    return {info.name: info.type.tensor_type.elem_type for info in (*inferred.value_info, *inferred.output)}


def _spread(positions: Sequence[int], width: int) -> list[int]:
    """At most `width` of the positions, evenly, the last among them."""
    step = max(1, -(-len(positions) // width))
    return list(positions[::-1][::step])
