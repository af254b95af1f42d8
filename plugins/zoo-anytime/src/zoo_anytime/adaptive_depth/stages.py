"""Stages of a network: residual blocks of one shape, each of which takes nothing but the result of the one before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import fx

from zoo.errors import UsageError, ZooError
from zoo.modules.several_inputs import is_input_part
from zoo.suggest import did_you_mean
from zoo.surgery import DataFlow, ResidualSum, area_of, layer_of, residual_sums, shape_of


@dataclass(frozen=True)
class Stage:
    """Blocks that follow one another.

    Attributes:
        blocks: Their names.
        states: What goes into the first block, and the result of each; all (N, C, H, W) of one shape.
    """

    blocks: tuple[str, ...]
    states: tuple[fx.Node, ...]

    @property
    def name(self) -> str:
        """Return the name of the module that the blocks are in."""
        return self.blocks[0].rpartition(".")[0] or self.blocks[0]


def find_stages(module: fx.GraphModule) -> list[Stage]:
    """Return the stages of a traced network, in order.

    A block begins and ends with tensors of one shape, adds its beginning to what its layers make of it, and is entered
    and left nowhere else. Of blocks inside one another the inner ones count. The activation behind a sum belongs to the
    block.
    """
    flow = DataFlow(module)
    blocks = _innermost(flow, [each for each in residual_sums(module, flow) if _is_block(module, flow, each)])
    starts = {each.start: each for each in blocks}
    found: list[Stage] = []
    left = list(blocks)
    while left:
        block = left.pop(0)
        names, states = [block.block], [block.start]
        while (end := _next_start(module, flow, block, starts)) is not None and starts[end] in left:
            states.append(end)
            block = starts[end]
            left.remove(block)
            names.append(block.block)
        states.append(_last_end(module, flow, block, states[0]))
        found.append(Stage(tuple(names), tuple(states)))
    return found


def choose_stages(stages: Sequence[Stage], at: tuple[str, ...], technique: str, network: str) -> list[Stage]:
    """Return the stages whose blocks may be skipped.

    Args:
        stages: All of them.
        at: Names of modules that they are in; () for all.
        technique: For messages.
        network: Its class.

    Raises:
        ZooError: There are none.
        UsageError: There are none in a module of `at`.
    """
    if not stages:
        raise ZooError(
            f"{technique} finds no residual blocks in {network} whose results have the shape of what they take.",
            hint="What ends early without such blocks:  early-exit. See what else there is:  zoo list techniques",
        )
    known = list(dict.fromkeys(stage.name for stage in stages))
    for name in at:
        if not any(f"{stage.name}.".startswith(f"{name}.") for stage in stages):
            raise UsageError(
                f"{technique}: no residual blocks can be skipped in '{name}'{did_you_mean(name, known) or '.'}",
                hint=f"They can be in:  {'  '.join(known)}",
            )
    chosen = tuple(f"{name}." for name in at)
    return [stage for stage in stages if not at or f"{stage.name}.".startswith(chosen)]


def _is_block(module: fx.GraphModule, flow: DataFlow, each: ResidualSum) -> bool:
    """Whether a sum ends a block of one shape that nothing else enters or leaves."""
    start = each.start
    if start.op == "placeholder" or is_input_part(start, module) or each.link_layers or not each.block:
        return False
    if not area_of(start) or shape_of(start) != shape_of(each.node):
        return False
    inside = set(flow.between(start, each.node))
    return all(
        set(_data_users(flow, node)) <= inside | {each.node} and set(flow.sources(node)) <= inside | {start}
        for node in inside
    )


def _innermost(flow: DataFlow, blocks: Sequence[ResidualSum]) -> list[ResidualSum]:
    sums = {each.node for each in blocks}
    return [each for each in blocks if sums.isdisjoint(flow.between(each.start, each.node))]


def _data_users(flow: DataFlow, node: fx.Node) -> list[fx.Node]:
    known = set(flow.nodes)
    return [user for user in node.users if user in known]


def _tail(module: fx.GraphModule, flow: DataFlow, block: ResidualSum) -> Iterator[fx.Node]:
    """The sum, and what follows it one by one without weights or another shape, such as its activation."""
    node = block.node
    yield node
    while len(users := _data_users(flow, node)) == 1:
        (user,) = users
        layer = layer_of(module, user)
        weights = layer is not None and next(layer.parameters(), None) is not None
        if flow.sources(user) != [node] or shape_of(user) != shape_of(node) or weights or user.op == "output":
            return
        node = user
        yield node


def _next_start(
    module: fx.GraphModule, flow: DataFlow, block: ResidualSum, starts: dict[fx.Node, ResidualSum]
) -> fx.Node | None:
    """What the following block begins with, if it takes the result of this one and nothing else does."""
    for node in _tail(module, flow, block):
        following = starts.get(node)
        if following is not None:
            inside = {*flow.between(node, following.node), following.node}
            return node if set(_data_users(flow, node)) <= inside else None
    return None


def _last_end(module: fx.GraphModule, flow: DataFlow, block: ResidualSum, entry: fx.Node) -> fx.Node:
    """The result of the last block of a stage: with the activation, if that is what blocks begin with."""
    kind = _kind(module, entry) if block.start is entry else _kind(module, block.start)
    for node in _tail(module, flow, block):
        if node is not block.node and _kind(module, node) == kind:
            return node
    return block.node


def _kind(module: fx.GraphModule, node: fx.Node) -> object:
    """What tells operations of one kind from others."""
    layer = layer_of(module, node)
    return type(layer) if layer is not None else node.target
