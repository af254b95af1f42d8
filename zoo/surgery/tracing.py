"""Tracing any `nn.Module` into a torch.fx graph whose values are never changed in place."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.graph import CodeGen
from torch.fx.passes.shape_prop import ShapeProp

from zoo.errors import ZooError
from zoo.surgery.agreement import Reference
from zoo.surgery.graph_code import AnyNameCodeGen
from zoo.surgery.mutation import remove_mutation
from zoo.surgery.plain_layers import has_own_call, make_layers_plain
from zoo.surgery.plain_weights import make_weights_plain
from zoo.surgery.tracer import StandIn, Tracer, Untraceable, place_of


class _Root(nn.Module):
    """Calls a network instead of being it, so that the network's own hooks are traced."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Any) -> Any:
        return self.network(x)


def trace(model: nn.Module, example: torch.Tensor) -> fx.GraphModule:
    """Trace a network into a graph that shares its parameters and submodules.

    The network is put into eval mode. Afterwards each node's ``meta["tensor_meta"]`` holds its shape and type for
    `example`. In-place operators are replaced by their out-of-place forms.

    Args:
        model: A network with one input and one or more output tensors, in any container that torch.fx knows.
        example: An input, (N, C, H, W).

    Returns:
        The graph module. Convolutions and linear layers are leaves, torch's own where :func:`make_layers_plain` can
        make them so.

    Raises:
        ZooError: The code cannot be followed (the module and the line are named), or there is more than one input.
    """
    model.eval()
    make_weights_plain(model)
    make_layers_plain(model, example)
    versions = {name: tensor._version for name, tensor in _tensors_of(model)}
    module, tracer = _graph_of(model, example)
    graph = module.graph
    _drop_checks(graph)
    _put_first_arguments_first(module)
    reference = Reference.if_it_runs(model, example)
    remove_mutation(module, tracer.values)
    graph.eliminate_dead_code()
    _refuse_state(module, model, versions)
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    for extra in inputs[1:]:
        if extra.users:
            raise ZooError(
                f"{type(model).__name__} has {len(inputs)} inputs; only networks with one can be compressed."
            )
        graph.erase_node(extra)
    if not graph.output_node().all_input_nodes:
        result = type(graph.output_node().args[0]).__name__
        raise ZooError(f"{type(model).__name__} returns {result} that depends on no tensor.")
    module.recompile()
    propagate_shapes(module, example)
    if reference is not None:
        reference.check(module, "Tracing")
    return module


def _tensors_of(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _refuse_state(module: fx.GraphModule, model: nn.Module, before: Mapping[str, int]) -> None:
    """A tensor of the network that its code changes, and that its result depends on, makes no two calls alike."""
    changed = {name for name, tensor in _tensors_of(model) if tensor._version != before.get(name)}
    for node in module.graph.nodes:
        if node.op == "get_attr" and node.target in changed:
            raise ZooError(
                f"forward() of {type(model).__name__} changes its own tensor '{node.target}' and computes with it, "
                "so that no two calls are alike.",
                hint="Change it only while training:  if self.training: ...",
            )


def _graph_of(model: nn.Module, example: Tensor) -> tuple[fx.GraphModule, Tracer]:
    """The graph as the code is written, and its tracer, which knows the values on the example."""
    parameters = list(inspect.signature(model.forward).parameters.values())
    calls = has_own_call(model) or _has_hidden_arguments(model.forward, parameters)
    root = _Root(model) if calls else model
    parameter = next(model.parameters(), None)
    tracer = Tracer(root, example if parameter is None else example.to(parameter.device))
    # Arguments with defaults (masks and the like) keep them.
    defaults = {p.name: p.default for p in parameters[1:] if p.default is not p.empty}
    try:
        with tracer.seeing_sizes():
            graph = tracer.trace(root, concrete_args=None if calls else defaults or None)
    except Exception as error:  # whatever a stranger's forward() raises when run on stand-ins
        inside = tracer.inside[-1].removeprefix("network").removeprefix(".") if tracer.inside else ""
        where, place = f"'{inside}' of " if inside else "", place_of(error)
        network = f"{type(model).__name__}{f' ({place})' if place else ''}"
        raise ZooError(
            f"torch.fx cannot follow {where}{network}: {_first_line(error)}",
            hint=error.hint if isinstance(error, Untraceable) else _hint(error),
        ) from error
    if type(graph._codegen) is CodeGen:
        graph.set_codegen(AnyNameCodeGen())
    for node in graph.nodes if calls else ():
        if node.op in ("call_module", "get_attr"):
            if node.op == "get_attr" and not str(node.target).startswith("network."):
                setattr(
                    model, str(node.target), getattr(root, str(node.target))
                )  # a constant that tracing found
            node.target = str(node.target).removeprefix("network.")
    return fx.GraphModule(model, graph, class_name=type(model).__name__), tracer


def _has_hidden_arguments(forward: Callable[..., Any], parameters: Sequence[inspect.Parameter]) -> bool:
    """Whether torch.fx would take arguments for inputs that a caller need not give.

    It makes inputs of those of decorators, of all with names, and of those that may be named at will.
    """
    first_only = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    return (
        hasattr(forward, "__wrapped__")
        or any(each.kind in first_only for each in parameters)
        or (bool(parameters) and parameters[0].kind is inspect.Parameter.VAR_POSITIONAL)
    )


def _hint(error: Exception) -> str:
    """How to write what torch.fx did not follow."""
    if isinstance(error, NameError):
        return (
            "Register what the network computes with: assign layers to attributes, tensors with register_buffer(), "
            "and let forward() reach both through self."
        )
    if isinstance(error, KeyError):
        return "Look nothing up by a size that is not yet a number: use int(size), as in tuple(map(int, x.shape))."
    if "dynamo-optimized" in str(error):
        return "Leave torch.compile out of forward(): compile the network where it is used."
    if f"found type '{StandIn.__name__}'" in str(error):
        return "Remove @torch.jit.script from the function that is called there."
    return "Write that line with torch's functions on tensors: other libraries and plain numbers cannot be followed."


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


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
