"""Putting into a network what lets its positions halt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, fx, nn

from zoo.surgery import evaluating, on_device_of, shape_of, unused_name
from zoo_anytime.adaptive_depth.halting import PREFIX, Halting, Kept, Share
from zoo_anytime.adaptive_depth.stages import Stage

#: A score that rounds to 0.
_NEVER = -1e4


def add_halting(module: fx.GraphModule, stage: Stage, number: int, halting: Sequence[Halting]) -> None:
    """Let the blocks of a stage keep the state of positions that have halted, and mix the states.

    Args:
        module: The traced network, changed in place; compile it afterwards.
        stage: The stage.
        number: Of the stage, from 1.
        halting: What decides before each block.
    """
    state, opened, total = stage.states[0], None, None

    def call(after: fx.Node, name: str, layer: nn.Module, *args: fx.Node | None) -> fx.Node:
        path = unused_name(module, name)
        module.add_submodule(path, layer)
        with module.graph.inserting_after(after):
            return module.graph.call_module(path, args)

    for block, (decides, end) in enumerate(zip(halting, stage.states[1:], strict=True), 1):
        name = f"{number}_{block}"
        now = call(state, f"{PREFIX}{name}", decides, *([state] if opened is None else [state, opened]))
        total = call(now, f"share_{name}", Share(), state, opened, now, total)
        opened = now
        kept = call(end, f"kept_{name}", Kept(), opened, state, end)
        end.replace_all_uses_with(kept, delete_user_cb=lambda user, kept=kept: user is not kept)
        state = kept
    mixed = call(state, f"share_{number}_{len(halting) + 1}", Share(), state, opened, None, total)
    state.replace_all_uses_with(mixed, delete_user_cb=lambda user: user is not mixed)


def made_for(
    module: fx.GraphModule,
    stages: Sequence[Stage],
    spatial: bool,
    threshold: float,
    bias: float,
    batches: Iterable[Tensor],
) -> list[list[Halting]]:
    """Return what decides before each block of each stage, normalising as fits the states of a network.

    Args:
        module: The traced network, as it is before.
        stages: Its stages.
        spatial: Whether positions have scores of their own.
        threshold: The sum of scores at which a position halts.
        bias: Of the scores.
        batches: Images, (N, C, H, W) each.
    """
    nodes = [node for stage in stages for node in stage.states[:-1]]
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    graph.graph_copy(module.graph, copies)
    graph.output(tuple(copies[node] for node in nodes))
    probe = fx.GraphModule(module, graph)
    squares: list[list[float]] = [[] for _ in nodes]
    with evaluating(probe):
        for batch in batches:
            for found, state in zip(squares, probe(on_device_of(probe, batch)), strict=True):
                found += state.double().square().mean((1, 2, 3)).tolist()
    device = next(module.parameters()).device
    made = []
    for node, powers in zip(nodes, squares, strict=True):
        each = Halting(cast(torch.Size, shape_of(node))[1], spatial, threshold, bias)
        each.set_size(sum(powers) / len(powers))
        made.append(each.to(device).eval())
    left = iter(made)
    return [[next(left) for _ in stage.blocks] for stage in stages]


@contextmanager
def halting_off(module: nn.Module) -> Iterator[None]:
    """Let no position halt while the body runs."""
    biases = [cast(nn.Parameter, each.pooled.bias) for each in module.modules() if isinstance(each, Halting)]
    kept = [each.detach().clone() for each in biases]
    with torch.no_grad():
        for each in biases:
            each.fill_(_NEVER)
        try:
            yield
        finally:
            for each, value in zip(biases, kept, strict=True):
                each.copy_(value)
