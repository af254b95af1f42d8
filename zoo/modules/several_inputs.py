"""Networks with several inputs as networks with one: an array that is divided where the network begins."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, fx, nn

from zoo.contracts import InputPart
from zoo.contracts.input_parts import packing_of

#: The inputs themselves, while a network is called with them instead of with the array that holds them.
_given: ContextVar[tuple[Tensor, ...] | None] = ContextVar("given", default=None)
#: Where a network keeps what divides its inputs.
UNPACK = "unpack_inputs"


class UnpackInputs(nn.Module):
    """Divide an array (N, C, H, W) into the inputs that it holds; see :class:`zoo.contracts.input_parts.Packing`.

    Args:
        parts: The inputs.
    """

    def __init__(self, parts: Sequence[InputPart]) -> None:
        super().__init__()
        self.parts = tuple(parts)
        self._packing = packing_of(parts)

    def forward(self, packed: Tensor) -> tuple[Tensor, ...]:
        given = _given.get()
        tensors = self._packing.unpack(packed) if given is None else given
        return tuple(
            # Whole numbers are whole in a file's inputs; an array that was nudged has them a little off.
            (tensor.round() if given is None else tensor).to(torch.int64)
            if part.kind == "integer"
            else tensor
            for part, tensor in zip(self.parts, tensors, strict=True)
        )

    def extra_repr(self) -> str:
        return ", ".join(
            f"{part.name}: {part.kind} {'x'.join(map(str, part.shape))}".strip() for part in self.parts
        )


@contextlib.contextmanager
def inputs_themselves(tensors: Sequence[Tensor]) -> Iterator[Tensor]:
    """Call networks with their inputs, which need not be held in one array; yields what to call them with.

    Args:
        tensors: The inputs in order, each (N, ...); whole numbers may be floats.
    """
    token = _given.set(tuple(tensors))
    try:
        yield tensors[0]
    finally:
        _given.reset(token)


def with_one_input(network: nn.Module, parts: Sequence[InputPart]) -> nn.Module:
    """Return a network with several inputs as one whose input is the array that holds them.

    Its layers keep their names. The inputs are passed by name where the network has parameters that are called like
    all of them, else in order.

    Args:
        network: It is changed, unless it has one input already.
        parts: Its inputs; empty for one image.
    """
    if not parts or hasattr(network, UNPACK):
        return network
    accepted = inspect.signature(network.forward).parameters
    by_name = all(
        part.name in accepted and accepted[part.name].kind is not inspect.Parameter.POSITIONAL_ONLY
        for part in parts
    )
    kind = type(network)
    if isinstance(network, fx.GraphModule) or "forward" in vars(network) or hasattr(kind, "__deepcopy__"):
        return _Wrapped(network, parts, by_name)  # what copies itself would lose a class of its own

    original: Any = kind.forward

    def forward(self: Any, packed: Tensor) -> Any:
        tensors = self.unpack_inputs(packed)
        if by_name:
            return original(self, **{part.name: tensors[place] for place, part in enumerate(parts)})
        return original(self, *(tensors[place] for place in range(len(parts))))

    one_input = type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})
    setattr(network, UNPACK, UnpackInputs(parts))
    network.__class__ = one_input
    return network


def with_own_inputs(network: nn.Module) -> nn.Module:
    """Undo :func:`with_one_input` for a network that was not rewritten since."""
    if isinstance(network, _Wrapped):
        return network.network
    if hasattr(network, UNPACK) and not isinstance(network, fx.GraphModule):
        delattr(network, UNPACK)
        network.__class__ = type(network).__bases__[0]
    return network


class _Wrapped(nn.Module):
    def __init__(self, network: nn.Module, parts: Sequence[InputPart], by_name: bool) -> None:
        super().__init__()
        self.unpack_inputs = UnpackInputs(parts)
        self.network = network
        self._names = [part.name for part in parts] if by_name else []
        self._count = len(parts)

    def forward(self, packed: Tensor) -> Any:
        tensors = self.unpack_inputs(packed)
        if self._names:
            return self.network(**{name: tensors[place] for place, name in enumerate(self._names)})
        return self.network(*(tensors[place] for place in range(self._count)))


class SeveralInputs(nn.Module):
    """A network of :func:`with_one_input`, called as the one that it was made from.

    Args:
        network: The network, possibly rewritten since.
        parts: Its inputs.
    """

    def __init__(self, network: nn.Module, parts: Sequence[InputPart]) -> None:
        super().__init__()
        self.network = network
        self.parts = tuple(parts)

    def forward(self, *inputs: Tensor, **named: Tensor) -> Any:
        tensors = [*inputs, *(named[part.name] for part in self.parts[len(inputs) :])]
        with inputs_themselves(tensors) as first:
            return self.network(first)


def is_input_part(node: fx.Node, module: nn.Module) -> bool:
    """Return whether a node of a traced network is one of its several inputs."""
    source = node.args[0] if node.op == "call_function" and node.args else None
    return isinstance(source, fx.Node) and divides_inputs(source, module)


def divides_inputs(node: fx.Node, module: nn.Module) -> bool:
    """Return whether a node divides the array that holds the inputs."""
    return node.op == "call_module" and isinstance(module.get_submodule(str(node.target)), UnpackInputs)
