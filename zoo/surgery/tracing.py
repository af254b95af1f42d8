"""Tracing any `nn.Module` into a torch.fx graph whose values are never changed in place."""

from __future__ import annotations

import importlib
import inspect
import operator
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn.modules.conv import _ConvNd

from zoo.errors import ZooError

#: In-place operators and what computes the same without changing their operand.
_OUT_OF_PLACE: dict[Any, Callable[..., Any]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}


def _timm_notrace() -> tuple[tuple[type, ...], tuple[Callable[..., Any], ...]]:
    """What timm says must not be traced through; nothing when timm is not in use."""
    if "timm" not in sys.modules:
        return (), ()
    layers: Any = importlib.import_module("timm.layers")
    modules = (layers.BatchNormAct2d, *layers.get_notrace_modules())
    return modules, tuple(layers.get_notrace_functions())


class _Tracer(fx.Tracer):
    def __init__(self) -> None:
        self._leaves, functions = _timm_notrace()
        super().__init__(autowrap_functions=functions)
        self.inside: list[str] = []

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, (_ConvNd, nn.Linear)):
            return True  # a stranger's subclass: left alone under its own name
        return isinstance(m, self._leaves) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        self.inside.append(self.path_of_module(m))
        result = super().call_module(m, forward, args, kwargs)
        self.inside.pop()
        return result


def trace(model: nn.Module, example: torch.Tensor) -> fx.GraphModule:
    """Trace a network into a graph that shares its parameters and submodules.

    The network is put into eval mode. Afterwards each node's ``meta["tensor_meta"]`` holds its shape and type for
    `example`. In-place operators are replaced by their out-of-place forms.

    Args:
        model: a network with one input and one output tensor.
        example: an input, (N, C, H, W).

    Returns:
        The graph module. Convolutions and linear layers are leaves, whatever their subclass.

    Raises:
        ZooError: the control flow depends on values (the module is named), or there is more than one input or output.
    """
    model.eval()
    tracer = _Tracer()
    # Arguments with defaults (masks and the like) keep them.
    parameters = list(inspect.signature(model.forward).parameters.values())
    defaults = {p.name: p.default for p in parameters[1:] if p.default is not p.empty}
    try:
        graph = tracer.trace(model, concrete_args=defaults or None)
        module = fx.GraphModule(model, graph, class_name=type(model).__name__)
    except Exception as error:  # whatever a stranger's forward() raises when run on proxies
        where = f"'{tracer.inside[-1]}' of " if tracer.inside else ""
        raise ZooError(
            f"torch.fx cannot follow {where}{type(model).__name__}: {error}",
            hint="torch.fx must be able to trace the network: no `if` or loop on a tensor's values or shape.",
        ) from error
    _drop_checks(graph)
    _drop_mutation(module)
    graph.eliminate_dead_code()
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    for extra in inputs[1:]:
        if extra.users:
            raise ZooError(
                f"{type(model).__name__} has {len(inputs)} inputs; only networks with one can be compressed."
            )
        graph.erase_node(extra)
    result = graph.output_node().args[0]
    if not isinstance(result, fx.Node):
        raise ZooError(f"{type(model).__name__} returns {type(result).__name__}, not one tensor.")
    module.recompile()
    propagate_shapes(module, example)
    return module


def propagate_shapes(module: fx.GraphModule, example: torch.Tensor) -> None:
    """Run an input through a traced network and store each node's shape in its ``meta["tensor_meta"]``.

    Args:
        module: a graph from :func:`trace`, possibly changed since.
        example: an input, (N, C, H, W).

    Raises:
        ZooError: the network does not run on the input.
    """
    parameter = next(module.parameters(), None)
    example = example if parameter is None else example.to(parameter.device)
    try:
        with torch.no_grad():
            ShapeProp(module).propagate(example)
    except Exception as error:  # a stranger's forward() once more
        shape = "x".join(str(side) for side in example.shape)
        raise ZooError(
            f"{type(module).__name__} does not run on an example input of {shape}: {error}"
        ) from error


def _drop_checks(graph: fx.Graph) -> None:
    """Assertions on shapes say nothing once traced, and exporters trip over them."""
    for node in reversed(list(graph.nodes)):
        if node.op == "call_function" and getattr(node.target, "__name__", "") in (
            "_assert",
            "_assert_is_none",
        ):
            graph.erase_node(node)


def _drop_mutation(module: fx.GraphModule) -> None:
    """Replace in-place operators: rounding an activation must not find it changed behind its back."""
    inplace = {name for name, child in module.named_modules() if getattr(child, "inplace", False) is True}
    for name in inplace:
        module.get_submodule(name).inplace = False  # type: ignore[assignment]
    for node in module.graph.nodes:
        if not _becomes_pure(node, inplace) or not isinstance(node.args[0], fx.Node):
            continue
        following = node.next
        while following.op != "root":
            following.replace_input_with(node.args[0], node)
            following = following.next


def _becomes_pure(node: fx.Node, inplace_modules: set[str]) -> bool:
    """Make `node` leave its first argument alone; False if it did already."""
    if not node.args:
        return False
    if node.op == "call_module":
        return node.target in inplace_modules
    if node.op == "call_function" and node.target in _OUT_OF_PLACE:
        node.target = _OUT_OF_PLACE[node.target]
        return True
    if node.kwargs.get("inplace") is True:
        node.kwargs = {**node.kwargs, "inplace": False}
        return True
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if not name.endswith("_") or name.endswith("__") or node.op not in ("call_method", "call_function"):
        return False
    if node.op == "call_method":
        node.target = name[:-1]
        return True
    for home in (torch.nn.functional, torch):
        if getattr(home, name, None) is node.target and hasattr(home, name[:-1]):
            node.target = getattr(home, name[:-1])
            return True
    return False
