"""Finding the activations of a network, modules or calls in its code, and rectifying them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from zoo.modules.output_tree import tensors_of
from zoo.surgery import evaluating, names_of, on_device_of, replace_module

Rectifier = Literal["relu", "relu6"]

#: Activations that a rectifier can stand for: much like it where their input is large.
_MODULES: tuple[type[nn.Module], ...] = (
    nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Mish,
)  # fmt: skip
#: The same in timm, which has classes of its own.
_TIMM = frozenset({"Swish", "Mish", "HardSwish", "HardMish", "PReLU", "GELU", "GELUTanh", "QuickGELU"})
#: Those whose value is a gate or the range of an output.
_GATES: tuple[type[nn.Module], ...] = (
    nn.Sigmoid, nn.Hardsigmoid, nn.Tanh, nn.Hardtanh, nn.Softplus, nn.Softmax, nn.Softsign, nn.LogSigmoid,
)  # fmt: skip
_FUNCTIONS: frozenset[Any] = frozenset(
    {
        F.leaky_relu, F.leaky_relu_, F.prelu, torch.prelu, F.rrelu, F.rrelu_, F.elu, F.elu_, F.selu, F.selu_, F.celu,
        F.celu_, F.gelu, F.silu, F.hardswish, F.mish, torch.celu, torch.celu_, torch.selu, torch.selu_, torch.rrelu,
        torch.rrelu_,
    }
)  # fmt: skip


def is_replaceable(module: nn.Module, *, relu6: bool) -> bool:
    """Return whether a rectifier can replace a module; `relu6` says whether ReLU6 counts."""
    kind = type(module)
    if kind is nn.ReLU6:
        return relu6
    return kind in _MODULES or (kind.__module__ == "timm.layers.activations" and kind.__name__ in _TIMM)


def is_gate(module: nn.Module) -> bool:
    """Return whether this is an activation that no rectifier can replace."""
    return isinstance(module, _GATES) and type(module) is not nn.ReLU6


def rectifier(to: Rectifier) -> nn.Module:
    """Return a new nn.ReLU or nn.ReLU6."""
    return nn.ReLU6() if to == "relu6" else nn.ReLU()


class FoundActivations:
    """The activations of a network that run on an input.

    Attributes:
        modules: Those that a rectifier can replace, with their names, in definition order.
        code: Names of the modules whose own code calls such an activation.
        gates: Names of the activations that no rectifier can replace.
        endings: Those of `modules` whose output is the network's.
    """

    def __init__(self) -> None:
        self.modules: dict[nn.Module, str] = {}
        self.code: list[str] = []
        self.gates: list[str] = []
        self.endings: set[nn.Module] = set()


def find_activations(model: nn.Module, example: Tensor, *, relu6: bool) -> FoundActivations:
    """Run an input through the network and return the activations that it uses.

    Args:
        model: The network.
        example: An input, (1, C, H, W).
        relu6: Whether ReLU6 counts as replaceable.
    """
    found, names = FoundActivations(), {module: every[0] for module, every in names_of(model).items()}
    candidates = {module for module in names if is_replaceable(module, relu6=relu6)}
    running: list[nn.Module] = []
    ran: set[nn.Module] = set()
    results: dict[nn.Module, Tensor] = {}

    def called(function: Any) -> None:
        inside = running[-1] if running else model
        if function in _FUNCTIONS and inside not in candidates and not is_gate(inside):
            name = names[inside]
            if name not in found.code:
                found.code.append(name)

    with evaluating(model), _stack(names, running, ran, results, candidates), _Calls(called):
        output = model(on_device_of(model, example))
    found.modules = {module: name for module, name in names.items() if module in candidates & ran}
    found.gates = [name for module, name in names.items() if module in ran and is_gate(module)]
    ends = {id(each) for each in tensors_of(output).values()}
    found.endings = {module for module, result in results.items() if id(result) in ends}
    return found


class _Calls(TorchFunctionMode):
    def __init__(self, called: Callable[[Any], None]) -> None:
        super().__init__()
        self._called = called

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self._called(func)
        return func(*args, **(kwargs or {}))


@contextmanager
def _stack(
    names: dict[nn.Module, str],
    running: list[nn.Module],
    ran: set[nn.Module],
    results: dict[nn.Module, Tensor],
    candidates: set[nn.Module],
) -> Iterator[None]:
    """Keep on `running` the modules that are in their forward pass, and what the candidates gave last."""

    def enter(module: nn.Module, args: Any) -> None:
        running.append(module)
        ran.add(module)

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        running.pop()
        if module in candidates:
            results[module] = output

    handles = [module.register_forward_pre_hook(enter, prepend=True) for module in names]
    handles += [module.register_forward_hook(leave) for module in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def rectify_modules(model: nn.Module, modules: dict[nn.Module, str], to: Rectifier) -> nn.Module:
    """Replace activation modules by rectifiers, shared modules by shared ones; return the network."""
    for module in modules:
        model = replace_module(model, module, rectifier(to).train(module.training))
    return model


def rectify_calls(graph_module: fx.GraphModule, to: Rectifier) -> int:
    """Replace calls of activations in a graph by those of a rectifier; return their number."""
    count = 0
    for node in graph_module.graph.nodes:
        if node.op == "call_function" and node.target in _FUNCTIONS:
            node.target = F.relu6 if to == "relu6" else F.relu
            node.args, node.kwargs = node.args[:1] or (node.kwargs["input"],), {}
            count += 1
    graph_module.graph.eliminate_dead_code()
    graph_module.recompile()
    return count
