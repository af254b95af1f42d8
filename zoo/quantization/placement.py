"""Where activations are quantized, and which tensors share one scale."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import fx, nn
from torch.nn import functional as F

from zoo.quantization.fake_quant import FakeQuantize, Requantize
from zoo.quantization.fold import SkipLayer
from zoo.quantization.lowering import Pad
from zoo.quantization.operator_roles import OperatorRole, gives_sequence, is_plain_relu, role_of, upper_bound
from zoo.quantization.quantized_layers import QuantLinear
from zoo.quantization.value_signs import nonnegative_nodes
from zoo.surgery import layer_of, unused_name
from zoo.surgery.plain_layers import is_plain

#: Kinds whose result shares the levels of what went in.
_SHARING = (OperatorRole.PASS, OperatorRole.RECTIFY, OperatorRole.JOIN)
#: Kinds that engines compute in int8 once inputs and result are quantized.
_COMPUTING = (OperatorRole.WEIGHTED, OperatorRole.INTEGER)


class QuantizerFactory(Protocol):
    """Makes a quantizer for tensors that share a scale."""

    def __call__(self, *, nonnegative: bool) -> FakeQuantize: ...


@dataclass
class _Plan:
    kinds: dict[fx.Node, OperatorRole]
    #: nodes between the last weighted layers and the output: they stay in float
    tail: set[fx.Node]
    #: the last weighted layers; their inputs are quantized, their results are not
    last: set[fx.Node]
    group: dict[fx.Node, fx.Node]
    #: what cannot be negative
    nonnegative: set[fx.Node]
    #: rectifications with a scale of their own, since what they rectify is also used, or moved, with its sign
    apart: set[fx.Node] = field(default_factory=set)
    #: layers that stay in float because someone said so, and what lies between them and the layers before
    chosen: set[fx.Node] = field(default_factory=set)
    before_chosen: set[fx.Node] = field(default_factory=set)
    #: linear layers whose results only float operators read
    before_float: set[fx.Node] = field(default_factory=set)
    #: what no levels can hold
    unrounded: set[fx.Node] = field(default_factory=set)

    def root(self, node: fx.Node) -> fx.Node:
        while self.group[node] is not node:
            self.group[node] = self.group[self.group[node]]
            node = self.group[node]
        return node

    def join(self, one: fx.Node, other: fx.Node) -> None:
        self.group[self.root(other)] = self.root(one)


def place_quantizers(
    module: fx.GraphModule,
    make: QuantizerFactory,
    skip_layer: SkipLayer,
    float_layers: Collection[str] = (),
    unrounded: Collection[fx.Node] = (),
) -> int:
    """Insert quantizers of activations into a graph.

    Inputs and results of everything that engines compute in int8 are quantized. Pass-through operators and
    concatenations share the scale of their inputs. A rectification is left to fuse with the operator before it: the
    quantizer comes after it. The output of the network stays in float, since 8 bits would cost image networks several
    dB.

    Args:
        module: A graph with quantized weights, changed in place.
        make: Makes a quantizer for the tensors that share a scale.
        skip_layer: Called with (layer, reason) for what else stays in float.
        float_layers: Layers without quantized weights, which take their inputs as they were before rounding.
        unrounded: Nodes whose values are not rounded, from :func:`zoo.quantization.infinite_values.masked_nodes`.

    Returns:
        The number of scales.
    """
    plan = _plan(module, float_layers, set(unrounded))
    _report(module, plan, skip_layer)
    needed = {plan.root(node) for node in plan.group if _needs(node, plan)}
    sites = [
        (node, plan.root(node), _rounds(node, plan, module))
        for node in module.graph.nodes
        if node in plan.group
        and plan.root(node) in needed
        and node not in plan.tail | plan.last | plan.unrounded
        and not gives_sequence(node)
    ]
    quantizers = nn.Module()
    home = unused_name(module, "quantizers")
    module.add_submodule(home, quantizers)
    rounded = [(node, root) for node, root, rounds in sites if rounds]
    signed = {root for node, root in rounded if node not in plan.nonnegative}
    limits = _limits(module, plan, rounded)
    owners: dict[fx.Node, tuple[str, FakeQuantize]] = {}
    for node, root, rounds in sites:
        if root not in owners:
            owners[root] = _attribute_name(node), make(nonnegative=root not in signed)
            quantizers.add_module(*owners[root])
            if root in limits:
                owners[root][1].set_limit(limits[root])
        name, owner = owners[root]
        if not rounds and root not in signed and _only_rectified(node, plan, module):
            continue  # levels from 0 up are the rectification: engines compute it with the operator
        if not rounds:
            name = f"{node.name}_again"
            quantizers.add_module(name, Requantize(owner))
        _insert_after(module, node, f"{home}.{name}", plan, limits.get(root))
    module.recompile()
    return len(owners)


def _attribute_name(node: fx.Node) -> str:
    """A node's name, changed where it would hide a method of modules, such as that of ``x.to(device)``."""
    return f"{node.name}_value" if hasattr(nn.Module, node.name) else str(node.name)


def _plan(module: fx.GraphModule, float_layers: Collection[str], unrounded: set[fx.Node]) -> _Plan:
    nodes = list(module.graph.nodes)
    kinds = {node: role_of(node, module) for node in nodes}
    for node in nodes:
        shares = kinds[node] in _SHARING and not unrounded.isdisjoint(node.all_input_nodes)
        if shares or (node in unrounded and kinds[node] in (*_SHARING, OperatorRole.INTEGER)):
            kinds[node] = OperatorRole.FLOAT
        # A part of something that is not quantized as a whole (attention's (output, weights)) begins a scale.
        known = [source for source in node.all_input_nodes if kinds[source] is not OperatorRole.NOTHING]
        if kinds[node] in _SHARING and not known:
            kinds[node] = OperatorRole.NOTHING if gives_sequence(node) else OperatorRole.SOURCE
    group = {n: n for n, kind in kinds.items() if kind is not OperatorRole.NOTHING}
    plan = _Plan(kinds, set(), set(), group, nonnegative_nodes(module), unrounded=unrounded)
    plan.chosen = {node for node in group if node.op == "call_module" and node.target in float_layers}
    for node in reversed(nodes):
        ends = plan.tail | plan.chosen | {module.graph.output_node()}
        users = {user for user in node.users if user in plan.group or user.op == "output"}
        if node not in plan.group or kinds[node] is OperatorRole.SOURCE or not users or not users <= ends:
            continue
        if kinds[node] is OperatorRole.FLOAT and _has_weights(node, module):
            continue  # the end of the integer part lies before it
        if users & (plan.chosen | plan.before_chosen):
            plan.before_chosen.add(node)
        is_average = kinds[node] is OperatorRole.INTEGER and len(node.all_input_nodes) == 1 and _shrinks(node)
        (plan.last if kinds[node] is OperatorRole.WEIGHTED or is_average else plan.tail).add(node)
    for node in nodes:
        if node in group and node not in plan.last and isinstance(layer_of(module, node), QuantLinear):
            moved = _moved_to_float(node, plan)
            if moved is not None:
                plan.last.add(node)
                plan.tail |= moved
                plan.before_float.add(node)
    plan.apart |= {
        node
        for node in plan.nonnegative & plan.group.keys() - plan.tail
        if kinds[node] is OperatorRole.RECTIFY and not _fuses(node, plan)
    }
    for node in plan.group:
        if kinds[node] in _SHARING and node not in plan.tail | plan.apart:
            for source in _tensors(node, plan):
                plan.join(source, node)
    return plan


def _moved_to_float(node: fx.Node, plan: _Plan) -> set[fx.Node] | None:
    """What moves a node's values to float operators; None if anything computes with them in int8.

    Of linear layers, unlike convolutions, engines have integer kernels that give floats.
    """
    moved: set[fx.Node] = set()
    left, reaches_float = [node], False
    while left:
        for user in left.pop().users:
            if user not in plan.group or user in plan.tail:
                continue
            if plan.kinds[user] is OperatorRole.PASS:
                moved.add(user)
                left.append(user)
            elif plan.kinds[user] is OperatorRole.FLOAT:
                reaches_float = True
            else:
                return None
    return moved if reaches_float else None


def _has_weights(node: fx.Node, module: fx.GraphModule) -> bool:
    if node.op != "call_module":
        return any(source.op == "get_attr" for source in node.all_input_nodes)
    return next(module.get_submodule(str(node.target)).parameters(), None) is not None


def _shrinks(node: fx.Node) -> bool:
    source = node.all_input_nodes[0].meta["tensor_meta"].shape
    return bool(node.meta["tensor_meta"].shape.numel() < source.numel())


def _tensors(node: fx.Node, plan: _Plan) -> Iterator[fx.Node]:
    return (source for source in node.all_input_nodes if source in plan.group)


def _needs(node: fx.Node, plan: _Plan) -> bool:
    """Whether the values of `node` have to be int8 for an operator that computes them or with them."""
    if node in plan.tail:
        return False
    if plan.kinds[node] in _COMPUTING and node not in plan.last:
        return True
    return any(plan.kinds.get(user) in _COMPUTING and user not in plan.tail for user in node.users)


def _only_rectified(node: fx.Node, plan: _Plan, module: fx.GraphModule | None = None) -> bool:
    """Whether one rectification, with `module` a plain ReLU, takes all that `node` makes."""
    users = list(node.users)
    return (
        len(users) == 1
        and plan.kinds.get(users[0]) is OperatorRole.RECTIFY
        and users[0] not in plan.tail | plan.apart
        and (module is None or is_plain_relu(users[0], module))
    )


def _fuses(node: fx.Node, plan: _Plan) -> bool:
    """Whether a rectification shares the levels of what it rectifies: nothing else takes that, or it has no sign."""
    source = next(_tensors(node, plan))
    return source in plan.nonnegative or (plan.kinds[source] not in _SHARING and len(source.users) == 1)


def _rounds(node: fx.Node, plan: _Plan, module: fx.GraphModule) -> bool:
    """Whether the values of `node` lie between levels, so that they must be rounded."""
    if node in plan.apart:
        return True
    if plan.kinds[node] is OperatorRole.RECTIFY:
        source = next(_tensors(node, plan))
        clips = not is_plain_relu(node, module)
        return clips or (plan.kinds[source] not in _SHARING and _only_rectified(source, plan))
    if plan.kinds[node] in _SHARING:
        return False
    return not _only_rectified(node, plan)


def _limits(
    module: fx.GraphModule, plan: _Plan, rounded: list[tuple[fx.Node, fx.Node]]
) -> dict[fx.Node, float]:
    """The upper bound of each group all of whose values were clipped at it.

    The clips become ReLUs, since the quantizer clips at the same bound: ReLU6 then costs engines nothing.
    """
    bounds: dict[fx.Node, list[float | None]] = {}
    for node, root in rounded:
        clips = plan.kinds[node] is OperatorRole.RECTIFY and not is_plain_relu(node, module)
        bounds.setdefault(root, []).append(upper_bound(node, module) if clips else None)
    limits = {}
    for root, found in bounds.items():
        if found[0] is not None and all(bound == found[0] for bound in found):
            limits[root] = found[0]
    for node, root in rounded:
        if root in limits:
            node.op, node.target = "call_function", F.relu
            node.args, node.kwargs = node.args[:1], {}
    return limits


def _insert_after(
    module: fx.GraphModule, node: fx.Node, target: str, plan: _Plan, limit: float | None
) -> None:
    """Let what follows a node take its rounded values; with a limit, the quantizer stands for a clip at it as well."""
    beside = [user for user in node.users if user in plan.chosen]
    with module.graph.inserting_after(node):
        new = module.graph.call_module(target)
    new.meta = dict(node.meta)

    def follows(user: fx.Node) -> bool:
        # Between two pairs, ONNX Runtime would round the weights of a layer that is to stay in float.
        if user in plan.chosen:
            return False
        # Float operators at the network's end (a global residual) take its input as it is, too.
        return plan.kinds[node] is not OperatorRole.SOURCE or (user not in plan.tail and user.op != "output")

    node.replace_all_uses_with(new, delete_user_cb=follows)
    new.args = (node,)
    if limit is not None and beside:
        with module.graph.inserting_after(node):
            clipped = module.graph.call_function(torch.clamp, (node,), {"max": limit})
        clipped.meta = dict(node.meta)
        for user in beside:
            user.replace_input_with(node, clipped)


def _was_kept(node: fx.Node, module: fx.GraphModule) -> bool:
    """Whether `node` is a layer that could be quantized: that it is not was said when it was decided."""
    layer = module.get_submodule(str(node.target)) if node.op == "call_module" else None
    return isinstance(layer, (nn.Conv2d, nn.Linear)) and is_plain(layer)


def _report(module: fx.GraphModule, plan: _Plan, skip_layer: SkipLayer) -> None:
    for node in module.graph.nodes:
        name = str(node.target) if node.op == "call_module" else node.name
        if node in plan.last & plan.before_chosen:
            skip_layer(name, "its result is not rounded: it is the input of a layer that stays in float")
        elif node in plan.last - plan.before_float:
            skip_layer(name, "produces the network's output, which is not rounded to 8 bits")
        elif (
            plan.kinds.get(node) is OperatorRole.FLOAT
            and (role := role_of(node, module)) is not OperatorRole.FLOAT
        ):
            if role is OperatorRole.INTEGER:
                skip_layer(
                    name, "computes scores or masks, whose large values would leave no levels to the others"
                )
        elif (
            plan.kinds.get(node) is OperatorRole.FLOAT
            and node not in plan.tail
            and not _was_kept(node, module)
        ):
            what = type(module.get_submodule(name)).__name__ if node.op == "call_module" else node.target
            skip_layer(name, f"{getattr(what, '__name__', what)} has no int8 form that all engines run")
        elif isinstance(node.target, str) and node.op == "call_module":
            child = module.get_submodule(node.target)
            if isinstance(child, Pad) and child.mode != "constant":
                skip_layer(
                    name, f"{child.mode} padding is done before the convolution, by an operator of its own"
                )
