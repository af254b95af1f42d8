"""Tracing any `nn.Module` into a torch.fx graph whose values are never changed in place."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn.modules.conv import _ConvNd

from zoo.errors import ZooError
from zoo.modules.same_padding import SamePad2d
from zoo.surgery.agreement import Reference
from zoo.surgery.mutation import MutableProxy, remove_mutation
from zoo.surgery.plain_layers import has_own_call, make_layers_plain
from zoo.surgery.plain_weights import make_weights_plain

#: What timm keeps out of graphs because it changes tensors in place, which is removed here.
_FOLLOWED = ("NormFreeBlock",)


def _timm_notrace() -> tuple[tuple[type, ...], tuple[Callable[..., Any], ...]]:
    """What timm says must not be traced through; nothing when timm is not in use."""
    if "timm" not in sys.modules:
        return (), ()
    layers: Any = importlib.import_module("timm.layers")
    modules = (
        layers.BatchNormAct2d,
        *(each for each in layers.get_notrace_modules() if each.__name__ not in _FOLLOWED),
    )
    return modules, tuple(layers.get_notrace_functions())


class _Root(nn.Module):
    """Calls a network instead of being it, so that the network's own hooks are traced."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Any) -> Any:
        return self.network(x)


class _Tracer(fx.Tracer):
    def __init__(self) -> None:
        self._leaves, functions = _timm_notrace()
        super().__init__(autowrap_functions=functions)
        self.inside: list[str] = []

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if has_own_call(m):
            return False  # its hooks and its own forward() become part of the graph
        if isinstance(m, (_ConvNd, nn.Linear)):
            return True  # a stranger's subclass: left alone under its own name
        return isinstance(m, (*self._leaves, SamePad2d)) or super().is_leaf_module(m, module_qualified_name)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return MutableProxy(node, self)

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
        model: A network with one input and one output tensor.
        example: An input, (N, C, H, W).

    Returns:
        The graph module. Convolutions and linear layers are leaves, torch's own where :func:`make_layers_plain` can
        make them so.

    Raises:
        ZooError: The control flow depends on values (the module is named), or there is more than one input or output.
    """
    model.eval()
    make_weights_plain(model)
    make_layers_plain(model, example)
    tracer = _Tracer()
    try:
        module = _graph_of(model, tracer)
        graph = module.graph
    except Exception as error:  # whatever a stranger's forward() raises when run on proxies
        where = f"'{tracer.inside[-1]}' of " if tracer.inside else ""
        raise ZooError(
            f"torch.fx cannot follow {where}{type(model).__name__}: {error}",
            hint="torch.fx must be able to trace the network: no `if` or loop on a tensor's values or shape.",
        ) from error
    _drop_checks(graph)
    _put_first_arguments_first(module)
    reference = _reference(model, example)
    remove_mutation(module)
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
    if reference is not None:
        reference.check(module, "Tracing")
    return module


def _reference(model: nn.Module, example: torch.Tensor) -> Reference | None:
    """What the network computes before anything of it changes; None if it does not run, as is reported later."""
    try:
        return Reference(model, example)
    except Exception:
        return None


def _graph_of(model: nn.Module, tracer: _Tracer) -> fx.GraphModule:
    if has_own_call(model):
        graph = tracer.trace(_Root(model))
        for node in graph.nodes:
            if node.op in ("call_module", "get_attr"):
                node.target = str(node.target).removeprefix("network.")
        return fx.GraphModule(model, graph, class_name=type(model).__name__)
    # Arguments with defaults (masks and the like) keep them.
    parameters = list(inspect.signature(model.forward).parameters.values())
    defaults = {p.name: p.default for p in parameters[1:] if p.default is not p.empty}
    graph = tracer.trace(model, concrete_args=defaults or None)
    return fx.GraphModule(model, graph, class_name=type(model).__name__)


def propagate_shapes(module: fx.GraphModule, example: torch.Tensor) -> None:
    """Run an input through a traced network and store each node's shape in its ``meta["tensor_meta"]``.

    Args:
        module: A graph from :func:`trace`, possibly changed since.
        example: An input, (N, C, H, W).

    Raises:
        ZooError: The network does not run on the input.
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


def _put_first_arguments_first(module: fx.GraphModule) -> None:
    """Give the value that a layer or function works on by position, where the network gives it by name."""
    for node in module.graph.nodes:
        if node.args or not node.kwargs or node.op not in ("call_module", "call_function"):
            continue
        if node.op == "call_module":
            first = next(
                iter(inspect.signature(module.get_submodule(str(node.target)).forward).parameters), ""
            )
        else:
            first = next((name for name in ("input", "tensors", "x") if name in node.kwargs), "")
        if first in node.kwargs:
            node.args = (node.kwargs[first],)
            node.kwargs = {name: value for name, value in node.kwargs.items() if name != first}


def _drop_checks(graph: fx.Graph) -> None:
    """Assertions on shapes say nothing once traced, and exporters trip over them."""
    for node in reversed(list(graph.nodes)):
        if node.op == "call_function" and getattr(node.target, "__name__", "") in (
            "_assert",
            "_assert_is_none",
        ):
            graph.erase_node(node)
