"""From features to actions: the LSTM written as cells, and the head.

ONNX's LSTM operator becomes a loop in TensorRT; written as matrix products and pointwise operations the
cells fuse. From a zero state the first step needs neither the recurrent weights nor the forget gate
(both multiply zeros), so a policy that looks at one step does not carry them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vla_edge.export.graph.layers import Builder
from vla_edge.export.graph.parameters import Rows
from vla_edge.export.graph.writer import Value
from vla_edge.export.kosmos2.architecture import Architecture, HeadLayer, Lstm
from vla_edge.export.kosmos2.settings import PolicySettings

GATES = "ifgo"  # torch's order in weight_ih and weight_hh


@dataclass(frozen=True)
class State:
    """Hidden and cell state of one layer, [B, hidden] float32; None is zero."""

    hidden: Value | None
    cell: Value | None


def write_lstm(builder: Builder, x: Value, arch: Architecture, settings: PolicySettings) -> Value:
    """Features [B, C] -> outputs of the last layer [B, steps, hidden] float32.

    "single": one step from zero. "window": the feature repeated, the last outputs kept. "carried": one
    step from inputs `h_in`, `c_in` [layers, B, hidden], which come back as `h_out`, `c_out`.
    """
    lstm = arch.lstm
    if settings.lstm == "carried":
        return _carried(builder, x, lstm)
    steps = settings.lstm_window if settings.lstm == "window" else 1
    outputs = [x] * steps
    for layer in range(lstm.layers):
        outputs = _run_layer(builder, outputs, lstm, layer)
    batch = x.shape[0]
    with builder.graph.scope("rnn.outputs"):
        kept = [builder.graph.reshape(h, (batch, 1, lstm.hidden)) for h in outputs[-settings.lstm_outputs :]]
        return builder.graph.concat(kept, axis=1)


def write_head(builder: Builder, x: Value, layers: tuple[HeadLayer, ...], final_tanh: bool) -> Value:
    """[B, steps, hidden] float32 -> actions [B, steps, size] float32; the last Linear in FP32."""
    graph = builder.graph
    for layer in layers:
        name = f"actions.mlp.{layer.index}"
        if layer.kind == "layernorm":
            x = builder.layer_norm(x, name)
        elif layer is layers[-1]:
            x = _linear32(builder, x, name)
        else:
            x = builder.linear(x, [builder.params.linear(name)], name)
        if layer.relu:
            with graph.scope(name):
                x = graph.unary("Relu", x)
    with graph.scope("actions"):
        x = graph.cast(x, "float32")
        return graph.unary("Tanh", x) if final_tanh else x


def _linear32(builder: Builder, x: Value, name: str) -> Value:
    """The last Linear: a thousand numbers that would lose digits for nothing."""
    graph, params = builder.graph, builder.params
    rows = params.linear(name)
    shape = (x.shape[-1], rows.count)
    weight = graph.weight(f"{name}.weight", "float32", shape, params.matrix([rows], "float32"))
    bias = graph.weight(f"{name}.bias", "float32", shape[1:], params.bias([rows], "float32"))
    with graph.scope(name):
        return graph.add(graph.matmul(graph.cast(x, "float32"), weight), bias)


def _gate_rows(lstm: Lstm, layer: int, side: str, gates: str) -> list[Rows]:
    """Rows of the chosen gates in `weight_ih_lN` or `weight_hh_lN`."""
    size = lstm.hidden
    places = [GATES.index(gate) for gate in gates]
    weight, bias = f"rnn.weight_{side}_l{layer}", f"rnn.bias_{side}_l{layer}"
    return [Rows(weight, bias, at * size, (at + 1) * size) for at in places]


def _project_input(builder: Builder, x: Value, lstm: Lstm, layer: int, gates: str) -> Value:
    """x @ W_ih + b_ih + b_hh for the chosen gates: [.., in] -> [.., gates * hidden] float32."""
    graph, params, dtype = builder.graph, builder.params, builder.precision.matmul
    own, recurrent = _gate_rows(lstm, layer, "ih", gates), _gate_rows(lstm, layer, "hh", gates)
    shape = (x.shape[-1], lstm.hidden * len(gates))
    name = f"rnn.l{layer}.input"
    weight = graph.weight(f"{name}.weight", dtype, shape, params.matrix(own, dtype))

    def bias(read: object) -> torch.Tensor:
        pieces = [params.bias(rows, "float32")() for rows in (own, recurrent)]
        return torch.from_numpy(pieces[0] + pieces[1])

    both = graph.weight(f"{name}.bias", "float32", shape[1:], params.folded(bias, "float32", f"{name}.bias"))
    with graph.scope(name):
        return graph.add(graph.cast(graph.matmul(graph.cast(x, dtype), weight), "float32"), both)


def _recurrent_weight(builder: Builder, lstm: Lstm, layer: int) -> Value:
    rows = _gate_rows(lstm, layer, "hh", GATES)
    dtype = builder.precision.matmul
    shape = (lstm.hidden, 4 * lstm.hidden)
    return builder.graph.weight(
        f"rnn.l{layer}.recurrent.weight", dtype, shape, builder.params.matrix(rows, dtype)
    )


def _run_layer(builder: Builder, inputs: list[Value], lstm: Lstm, layer: int) -> list[Value]:
    """One layer over all steps from a zero state; the input projection of all steps is one product."""
    graph = builder.graph
    if len(inputs) == 1:
        gates = _project_input(builder, inputs[0], lstm, layer, "igo")
        with graph.scope(f"rnn.l{layer}"):
            return [_known(_first_cell(builder, gates, lstm.hidden).hidden)]
    batch, is_repeated = inputs[0].shape[0], all(value is inputs[0] for value in inputs)
    if is_repeated:
        projected = [_project_input(builder, inputs[0], lstm, layer, GATES)] * len(inputs)
    else:
        with graph.scope(f"rnn.l{layer}"):
            stacked = graph.concat([graph.reshape(x, (batch, 1, x.shape[-1])) for x in inputs], axis=1)
            merged = _project_input(builder, stacked, lstm, layer, GATES)
            projected = [graph.pick(merged, 1, at) for at in range(len(inputs))]
    recurrent = _recurrent_weight(builder, lstm, layer)
    state, outputs = State(None, None), []
    with graph.scope(f"rnn.l{layer}"):
        for gates in projected:
            state = _cell(builder, gates, state, recurrent, lstm.hidden)
            outputs.append(_known(state.hidden))
    return outputs


def _carried(builder: Builder, x: Value, lstm: Lstm) -> Value:
    """One step from the state that the caller keeps."""
    graph, batch = builder.graph, x.shape[0]
    shape = (lstm.layers, batch, lstm.hidden)
    h_in, c_in = graph.input("h_in", "float32", shape), graph.input("c_in", "float32", shape)
    hidden, cells = [], []
    for layer in range(lstm.layers):
        gates = _project_input(builder, x, lstm, layer, GATES)
        recurrent = _recurrent_weight(builder, lstm, layer)
        with graph.scope(f"rnn.l{layer}"):
            state = State(graph.pick(h_in, 0, layer), graph.pick(c_in, 0, layer))
            state = _cell(builder, gates, state, recurrent, lstm.hidden)
            x = _known(state.hidden)
            hidden.append(graph.reshape(x, (1, batch, lstm.hidden)))
            cells.append(graph.reshape(_known(state.cell), (1, batch, lstm.hidden)))
    with graph.scope("rnn.outputs"):
        graph.stage("h_out", graph.output("h_out", graph.concat(hidden, axis=0)))
        graph.stage("c_out", graph.output("c_out", graph.concat(cells, axis=0)))
        return graph.reshape(x, (batch, 1, lstm.hidden))


def _cell(builder: Builder, gates: Value, state: State, recurrent: Value, size: int) -> State:
    """c' = sigmoid(f) c + sigmoid(i) tanh(g); h' = sigmoid(o) tanh(c'), in FP32."""
    graph = builder.graph
    if state.hidden is not None:
        past = graph.matmul(graph.cast(state.hidden, builder.precision.matmul), recurrent)
        gates = graph.add(gates, graph.cast(past, "float32"))
    i, f, g, o = (graph.slice(gates, 1, at * size, (at + 1) * size) for at in range(4))
    cell = graph.mul(graph.unary("Sigmoid", i), graph.unary("Tanh", g))
    if state.cell is not None:
        cell = graph.add(graph.mul(graph.unary("Sigmoid", f), state.cell), cell)
    return State(graph.mul(graph.unary("Sigmoid", o), graph.unary("Tanh", cell)), cell)


def _first_cell(builder: Builder, gates: Value, size: int) -> State:
    """The cell from a zero state: gates i, g, o only."""
    graph = builder.graph
    i, g, o = (graph.slice(gates, 1, at * size, (at + 1) * size) for at in range(3))
    cell = graph.mul(graph.unary("Sigmoid", i), graph.unary("Tanh", g))
    return State(graph.mul(graph.unary("Sigmoid", o), graph.unary("Tanh", cell)), cell)


def _known(value: Value | None) -> Value:
    if value is None:
        raise RuntimeError("a cell's output is never zero")
    return value
