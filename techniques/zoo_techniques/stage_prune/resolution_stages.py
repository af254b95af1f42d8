"""The resolution levels of an encoder-decoder network, and cutting off the deepest ones.

A level begins where pooling or a strided convolution makes the picture smaller and ends where it has its old size
again. Cutting it off leaves a hole that is bridged by least squares: the layers that took its result take what
went into it instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import fx, nn
from torch.nn import functional

from zoo.errors import UsageError, ZooError
from zoo.modules.several_inputs import is_input_part
from zoo.surgery import (
    DataFlow,
    area_of,
    calls_of,
    clean_up_graph,
    concatenated_inputs,
    identity_conv,
    input_channels,
    insert_after,
    keep_inputs,
    layer_of,
    reset_inputs,
    shape_of,
)
from zoo.surgery.reconstruction import is_refittable

_POOLING: frozenset[object] = frozenset(
    {functional.max_pool2d, torch.max_pool2d, functional.avg_pool2d, torch._C._nn.avg_pool2d}
)
_POOLING_MODULES = (nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d, nn.PixelUnshuffle)


@dataclass(frozen=True)
class EncoderStages:
    """The stages to remove.

    Attributes:
        entry: The input of the first one (an encoder's output).
        exit: The result that has the entry's height and width again.
        end: The last result of that height and width before the decoder continues; None if it does not.
    """

    entry: fx.Node
    exit: fx.Node
    end: fx.Node | None


def find_encoder_stages(module: fx.GraphModule, drop: int) -> EncoderStages:
    """Return the `drop` deepest stages of a traced network.

    Raises:
        ZooError: It is not an encoder-decoder.
        UsageError: It has fewer than `drop` stages.
    """
    flow = DataFlow(module)
    shrinking = [node for node in flow.nodes if _shrinks(module, flow, node)]
    result = module.graph.output_node().args[0]
    if not shrinking or not isinstance(result, fx.Node) or not area_of(result):
        raise ZooError("no stage ends with the image at the size it began with")
    sizes = sorted({cast(int, area_of(node)) for node in shrinking})
    found: list[EncoderStages] = []
    for size in sizes:
        level = _level(module, flow, [node for node in shrinking if area_of(node) == size], size)
        if level is not None:
            found.append(level)
        if len(found) == drop:
            return found[-1]
    if not found:
        raise ZooError("no stage ends with the image at the size it began with")
    raise UsageError(
        f"The network has {len(found)} stages that can be dropped, not {drop}.",
        hint=f"Use drop={len(found)} or less.",
    )


def _shrinks(module: fx.GraphModule, flow: DataFlow, node: fx.Node) -> bool:
    """Whether a node makes the picture smaller as an encoder does; global pooling, as in an SE block, does not."""
    sources = [s for s in flow.sources(node) if area_of(s)] if area_of(node) else []
    if len(sources) != 1 or cast(int, area_of(node)) >= cast(int, area_of(sources[0])):
        return False
    layer = layer_of(module, node)
    if layer is None:
        return node.target in _POOLING
    return isinstance(layer, _POOLING_MODULES) or (
        isinstance(layer, nn.Conv2d) and max(layer.stride) > 1  # not one that only lacks padding
    )


def _level(module: fx.GraphModule, flow: DataFlow, starts: list[fx.Node], size: int) -> EncoderStages | None:
    before = [n for n in flow.common_dominators(starts) if (area_of(n) or 0) > size and n not in starts]
    if not before or before[-1].op == "placeholder" or is_input_part(before[-1], module):
        return None
    entry = before[-1]
    after = [n for n in flow.common_post_dominators(starts) if n not in starts]
    level = next((n for n in after if area_of(n) == area_of(entry)), None)
    if level is None or flow.depends_on(entry, level):
        return None
    return EncoderStages(entry, level, _end(module, flow, entry, level))


def _end(module: fx.GraphModule, flow: DataFlow, entry: fx.Node, level: fx.Node) -> fx.Node | None:
    """The last node of the entry's size before the decoder goes on at a larger one."""
    chain = flow.common_post_dominators([level])
    same = [n for n in chain if area_of(n) == area_of(entry)]
    beyond = next((n for n in chain if n not in same), None)
    if beyond is None or (area_of(beyond) or 0) < cast(int, area_of(entry)):
        return None
    while len(same) > 1 and isinstance(layer_of(module, same[-1]), nn.Conv2d):
        same.pop()  # it makes what a pixel shuffle or an interpolation enlarges: it is part of the next stage
    return same[-1] if same[-1] is not level else None


class StageCut:
    """Remove stages from a traced network; with `decoder` also the decoder's layers at the size of the entry.

    Make it before outputs are recorded: where other layers than convolutions read the result, a 1 x 1 convolution that
    computes the identity is inserted behind the stages.

    Attributes:
        consumers: The layers that read the result, and which of their input channels it has.
    """

    def __init__(self, module: fx.GraphModule, levels: EncoderStages, *, decoder: bool) -> None:
        self._module = module
        self._entry = levels.entry
        self._end = levels.end if decoder and levels.end is not None else levels.exit
        found = self._consumers()
        if found is None:
            channels = cast(torch.Size, shape_of(self._end))[1]
            insert_after(module, self._end, "bridge", identity_conv(channels, like=next(module.parameters())))
            found = self._consumers()
        assert found is not None
        self.consumers: dict[nn.Module, slice] = found

    def _consumers(self) -> dict[nn.Module, slice] | None:
        """The convolutions that take the result, and where it lies among their input channels."""
        channels = cast(torch.Size, shape_of(self._end))[1]
        found: dict[nn.Module, slice] = {}
        for user in self._end.users:
            if shape_of(user) is None and not concatenated_inputs(user):
                continue  # it asks for the size
            parts = concatenated_inputs(user)
            takers, start = [user], 0
            if parts is not None:
                if self._entry not in parts or parts.count(self._end) != 1:
                    return None
                takers = list(user.users)
                start = sum(cast(torch.Size, shape_of(p))[1] for p in parts[: parts.index(self._end)])
            for taker in takers:
                layer = layer_of(self._module, taker)
                if layer is None or not is_refittable(layer) or layer.groups != 1:
                    return None
                if len(calls_of(self._module, layer)) != 1 or layer in found:
                    return None
                found[layer] = slice(start, start + channels)
        return found or None

    def apply(self) -> fx.Node:
        """Remove the stages; return the node before the hole. Layers that read the result keep their other weights."""
        channels = cast(torch.Size, shape_of(self._entry))[1]
        for user in list(self._end.users):
            parts = concatenated_inputs(user)
            if parts is not None:
                parts.remove(self._end)
                user.args = (parts, *user.args[1:])
            else:
                user.replace_input_with(self._end, self._entry)
        for layer, where in self.consumers.items():
            inputs = torch.arange(input_channels(layer))
            kept = inputs[(inputs < where.start) | (inputs >= where.stop)]
            if len(kept):
                keep_inputs(layer, kept)
            elif channels != len(inputs):
                reset_inputs(layer, channels)
        clean_up_graph(self._module)
        return self._entry
