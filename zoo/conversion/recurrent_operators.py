"""LSTM and GRU, as the layers of torch."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx, nn

from zoo.conversion.builder import UnsupportedOperator
from zoo.conversion.converter_table import converts

if TYPE_CHECKING:
    from zoo.conversion.builder import Array, GraphBuilder, Operation, Value

#: Where torch has the gates of the file, in the file's order (i, o, f, c and z, r, h).
_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}
_ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}


@converts("LSTM", "GRU")
def _recurrent(builder: GraphBuilder, operation: Operation) -> Value | tuple[Value, ...]:
    """Convert (sequence, N, inputs) to (sequence, directions, N, hidden), and the last states."""
    kind = operation.kind
    directions = {"forward": 1, "bidirectional": 2}.get(operation.get("direction", "forward"))
    if directions is None:
        raise UnsupportedOperator("it reads its sequence backwards only")
    _refuse_variants(operation, directions)
    weights = [operation.constant(index, what) for index, what in ((1, "weights"), (2, "recurrent weights"))]
    bias = operation.constant(3, "bias")
    if any(each is None for each in weights):
        raise UnsupportedOperator("it has no weights")
    inputs, hidden = weights[0].shape[2], weights[1].shape[2]  # type: ignore[union-attr]
    made = nn.LSTM if kind == "LSTM" else nn.GRU
    layer = made(inputs, hidden, bias=bias is not None, bidirectional=directions == 2)
    with torch.no_grad():
        for direction in range(directions):
            end = "_reverse" if direction else ""
            rows = [each[direction] for each in weights]  # type: ignore[index]
            names = ["weight_ih_l0", "weight_hh_l0"]
            if bias is not None:
                rows += list(np.split(bias[direction], 2))
                names += ["bias_ih_l0", "bias_hh_l0"]
            for name, values in zip(names, rows, strict=True):
                getattr(layer, name + end).copy_(torch.from_numpy(_in_order(values, _GATES[kind])))
    x = operation.input(0)
    assert x is not None
    states = [builder.tensor(each) for each in operation.inputs[5:7] if each is not None]
    # Layers begin with zeros; files often compute these for the size of the batch.
    states = [each for each in states if builder.example(each).any()]
    if states and len(states) != (2 if kind == "LSTM" else 1):
        raise UnsupportedOperator("only one of its initial states is stated")
    given: tuple[Any, ...] = () if not states else (states[0],) if kind == "GRU" else (tuple(states),)
    returned = builder.layer(operation.name, layer, builder.tensor(x), *given)
    output = builder.call(torch.unflatten, _part(builder, returned, 0), 2, (directions, hidden))
    last = _part(builder, returned, 1)
    ends = (_part(builder, last, 0), _part(builder, last, 1)) if kind == "LSTM" else (last,)
    return (builder.call(torch.permute, output, (0, 2, 1, 3)), *ends)


def _refuse_variants(operation: Operation, directions: int) -> None:
    stated = operation.get("activations", _ACTIVATIONS[operation.kind] * directions)
    given = [index < len(operation.inputs) and operation.inputs[index] is not None for index in (4, 7)]
    for reason, found in (
        ("its sequences differ in length", given[0]),
        ("it has peepholes", given[1]),
        ("it cuts values off", bool(operation.get("clip", 0))),
        ("its batch is the first axis", bool(operation.get("layout", 0))),
        ("its activations are others", list(stated) != _ACTIVATIONS[operation.kind] * directions),
        ("its gates are coupled", bool(operation.get("input_forget", 0))),
        (
            "it resets before the product",
            operation.kind == "GRU" and not operation.get("linear_before_reset", 0),
        ),
    ):
        if found:
            raise UnsupportedOperator(reason)


def _in_order(values: Array, gates: tuple[int, ...]) -> Array:
    parts = np.split(values, len(gates))
    ordered = [parts[gates.index(place)] for place in range(len(gates))]
    return np.ascontiguousarray(np.concatenate(ordered), dtype=np.float32)


def _part(builder: GraphBuilder, value: fx.Node, index: int) -> fx.Node:
    return builder.call(operator.getitem, value, index)
