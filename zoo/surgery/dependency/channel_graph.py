"""Which channels of a network can only be removed together.

Every channel of every tensor gets a label. Layers that mix channels give new labels; operators that treat channels
alike (activations, pooling, batch norms) pass them on; sums, products, groups and pixel shuffles unite the labels of
channels that depend on each other; concatenation and splitting reorder them. Operators that are not known to treat
channels one by one freeze them: a network that this module does not understand keeps its channels and is not damaged.
The channels of the network's input and output are frozen.

The idea of removing dependent channels as a group: Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023.
Here it is done channel by channel on a traced graph, so that concatenation and pixel shuffles need no index
arithmetic afterwards.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import fx, nn
from torch.nn import functional

from zoo.modules.several_inputs import is_input_part
from zoo.surgery.dependency.axes import AXIS_OPERATORS, follow_flatten
from zoo.surgery.dependency.channel_ops import NORMS, PAIRWISE, SAME_FUNCTIONS, SAME_MODULES, SPLITS
from zoo.surgery.dependency.layer_checks import find_shared_parameters, parameter_names, unsupported_reason
from zoo.surgery.dependency.shape_arithmetic import QUESTIONS, CountedChannels, channel_count
from zoo.surgery.dependency.union_find import ChannelMap, ParameterSlice, UnionFind
from zoo.surgery.fx_graph import CONCAT_OPERATORS, layer_of, shape_of
from zoo.surgery.resize import WEIGHTED_LAYERS, input_channels, output_channels
from zoo.surgery.tracer import hold_decision


class ChannelDependencies(UnionFind):
    """The labels of all channels of a traced network, united into the groups that can only be removed together.

    Args:
        module: A graph from :func:`zoo.surgery.trace`.

    Attributes:
        slices: The sides of parameters that are cut, by (owner, kind).
        positions: For each convolution and linear layer, how often its weights are used on the example input: its
            multiply-accumulates are positions * weights.
        reasons: The names of layers that cannot lose channels, with the reason.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__()
        self.module = module
        self.slices: dict[tuple[nn.Module, str], ParameterSlice] = {}
        self.positions: Counter[nn.Module] = Counter()
        self.reasons: dict[str, str] = {}
        self._channel_maps: dict[fx.Node, ChannelMap] = {}
        self._pieces: dict[fx.Node, list[ChannelMap]] = {}
        self._counts = CountedChannels()
        self._shared = find_shared_parameters(module)
        for node in module.graph.nodes:
            channel_map = self._visit(node)
            if channel_map is not None:
                self._channel_maps[node] = channel_map

    def _freeze_inputs(self, node: fx.Node) -> None:
        for source in node.all_input_nodes:
            self.freeze(self._channel_maps.get(source))
            for piece in self._pieces.get(source, ()):
                self.freeze(piece)

    # -------------------------------------------------------------------------------------------------- nodes

    def _visit(self, node: fx.Node) -> ChannelMap | None:
        if node.op == "output":
            self._freeze_inputs(node)
            return None
        if node.op == "placeholder" or is_input_part(node, self.module):
            shape = shape_of(node)
            channel_map = ChannelMap(1, self.new(shape[1])) if shape is not None and len(shape) > 1 else None
            self.freeze(channel_map)
            return channel_map
        if node.op == "get_attr":
            path, _, attribute = str(node.target).rpartition(".")
            if attribute == "weight":
                self.reasons.setdefault(path, "its hooks, or code of another module, read its weight")
            return None  # gets labels where it meets a tensor that has some
        if shape_of(node) is None and node.target not in SPLITS:
            if node.target not in QUESTIONS:
                self._freeze_inputs(node)
            self._counts.note(node, self._channel_maps)
            if node.target is hold_decision:  # the code went the way of that number of channels
                for counted in self._counts.of(node):
                    self.freeze(counted)
            return None
        handler = self._handler(node)
        channel_map = handler(node) if handler is not None else None
        if channel_map is None and node not in self._pieces:
            self._freeze_inputs(node)
        self._hold_counts(node, channel_map)
        return channel_map

    def _hold_counts(self, node: fx.Node, channel_map: ChannelMap | None) -> None:
        """Where a number of channels is used to make a tensor, let it stay, or let both tensors be cut alike."""
        of = self._first(node)
        count = channel_count(node, of) if of is not None and channel_map is not None else None
        for number in node.all_input_nodes:
            for counted in self._counts.of(number):
                if of is not None and number is count and len(counted.labels) == len(of.labels):
                    self.unite_all(of.labels, counted.labels)
                else:
                    self.freeze(counted)

    def _handler(self, node: fx.Node) -> Callable[[fx.Node], ChannelMap | None] | None:
        layer = layer_of(self.module, node)
        if layer is not None:
            if isinstance(layer, WEIGHTED_LAYERS):
                return self._visit_weighted
            if isinstance(layer, NORMS):
                return self._visit_features
            if isinstance(layer, SAME_MODULES):
                return self._visit_same
            special: dict[type, Callable[[fx.Node], ChannelMap | None]] = {
                nn.Flatten: self._visit_axes,
                nn.PixelShuffle: self._visit_pixel_shuffle,
                nn.PixelUnshuffle: self._visit_pixel_unshuffle,
            }
            return special.get(type(layer))
        target = node.target
        if target in SAME_FUNCTIONS:
            return self._visit_same
        if target in PAIRWISE:
            return self._visit_pairwise
        if target in CONCAT_OPERATORS:
            return self._visit_concatenation
        if target in AXIS_OPERATORS:
            return self._visit_axes
        functions: dict[Any, Callable[[fx.Node], ChannelMap | None]] = {
            functional.pixel_shuffle: self._visit_pixel_shuffle,
            "chunk": self._visit_chunk,
            torch.chunk: self._visit_chunk,
            operator.getitem: self._visit_getitem,
        }
        return functions.get(target)

    def _first(self, node: fx.Node) -> ChannelMap | None:
        source = node.args[0] if node.args else None
        return self._channel_maps.get(source) if isinstance(source, fx.Node) else None

    def _visit_same(self, node: fx.Node) -> ChannelMap | None:
        return (
            self._first(node)
            if len([s for s in node.all_input_nodes if s in self._channel_maps]) == 1
            else None
        )

    def _visit_axes(self, node: fx.Node) -> ChannelMap | None:
        channel_map = self._first(node)
        if channel_map is None:
            return None
        count = channel_count(node, channel_map)
        if count is not None and not self._counts.of(count):
            return None  # a number that does not change with the channels
        return AXIS_OPERATORS.get(node.target, follow_flatten)(node, channel_map)

    # ------------------------------------------------------------------------------------------------- layers

    def _slice(
        self, owner: nn.Module, name: str, kind: str, labels: Sequence[int], **more: Any
    ) -> ParameterSlice:
        """The part of a side of a layer; if it was met before, its labels are united with those of then."""
        part = self.slices.setdefault((owner, kind), ParameterSlice(owner, name, kind, list(labels), **more))
        self.unite_all(part.labels, labels)
        return part

    def _visit_weighted(self, node: fx.Node) -> ChannelMap | None:
        layer, name = cast(nn.Conv2d, layer_of(self.module, node)), str(node.target)
        source, shape = self._first(node), cast(torch.Size, shape_of(node))
        is_linear = isinstance(layer, nn.Linear)
        axis = len(shape) - 1 if is_linear else 1
        given = node.args[0] if node.args else None
        if isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d)) and isinstance(given, fx.Node):
            spread = cast(torch.Size, shape_of(given))
        else:
            spread = shape
        self.positions[layer] += spread.numel() // spread[axis]
        reason = unsupported_reason(layer, self._shared)
        if reason is not None:
            self.reasons[name] = reason
            self.freeze(source)
            channel_map = ChannelMap(axis, self.new(shape[axis]))
            self.freeze(channel_map)
            return channel_map
        if source is None or source.axis != axis or len(source.labels) != input_channels(layer):
            source_labels = self.new(input_channels(layer))
            self.freeze(source)
            self.freeze(ChannelMap(axis, source_labels))
        else:
            source_labels = source.labels
        groups = 1 if is_linear else layer.groups
        if groups > 1 and groups == layer.in_channels:
            many = layer.out_channels // groups
            outputs = [label for label in source_labels for _ in range(many)]
            self._slice(layer, name, "depthwise", outputs, inputs=list(source_labels))
            return ChannelMap(axis, tuple(outputs))
        self._slice(layer, name, "in", source_labels)
        self.unite_groups(source_labels, groups)
        known = self.slices.get((layer, "out"))
        outputs = list(known.labels) if known else list(self.new(output_channels(layer)))
        self.unite_groups(outputs, groups)
        self._slice(layer, name, "out", outputs)
        return ChannelMap(axis, tuple(outputs))

    def _visit_features(self, node: fx.Node) -> ChannelMap | None:
        layer, channel_map = layer_of(self.module, node), self._first(node)
        if layer is None or channel_map is None:
            return None
        count = len(channel_map.labels)
        if isinstance(layer, nn.PReLU) and layer.num_parameters == 1:
            return channel_map
        if isinstance(layer, nn.LayerNorm):
            last = len(cast(torch.Size, shape_of(node))) - 1
            if layer.normalized_shape != (count,) or channel_map.axis != last:
                return None
        elif isinstance(layer, nn.GroupNorm) and layer.num_groups > 1:
            self.unite_groups(channel_map.labels, layer.num_groups)
        if parameter_names(layer) - {"weight", "bias"} or id(layer) in self._shared:
            return None
        self._slice(layer, str(node.target), "features", channel_map.labels)
        return channel_map

    # ---------------------------------------------------------------------------------------------- operators

    def _visit_pairwise(self, node: fx.Node) -> ChannelMap | None:
        shape = cast(torch.Size, shape_of(node))
        met: list[tuple[ChannelMap, int]] = []
        loose: list[fx.Node] = []
        others: list[torch.Size] = []
        for source in node.all_input_nodes:
            own, channel_map = shape_of(source), self._channel_maps.get(source)
            if own is None:
                continue  # a number
            if channel_map is not None:
                met.append((channel_map, channel_map.axis + len(shape) - len(own)))
            elif source.op == "get_attr":
                loose.append(source)
            else:
                others.append(own)
        axes = {axis for channel_map, axis in met if len(channel_map.labels) > 1 or len(met) == 1}
        if len(axes) != 1:
            return None
        axis = axes.pop()
        if any(len(own) >= len(shape) - axis and own[axis - len(shape)] != 1 for own in others):
            return None  # what is not the same for all channels, and cannot be cut
        wide = [
            channel_map for channel_map, at in met if at == axis and len(channel_map.labels) == shape[axis]
        ]
        if not wide or any(at == axis and len(s.labels) not in (1, shape[axis]) for s, at in met):
            return None
        for channel_map in wide[1:]:
            self.unite_all(wide[0].labels, channel_map.labels)
        for source in loose:
            if not self._constant(source, axis - len(shape), wide[0].labels):
                return None
        return ChannelMap(axis, wide[0].labels)

    def _constant(self, node: fx.Node, axis: int, labels: tuple[int, ...]) -> bool:
        """Give a loose parameter the labels of the tensor it meets; `axis` counts from the end."""
        shape = cast(torch.Size, shape_of(node))
        if len(shape) < -axis or shape[axis] == 1:
            return True  # the same for all channels
        if shape[axis] != len(labels):
            return False
        path, _, attribute = str(node.target).rpartition(".")
        owner = self.module.get_submodule(path)
        part = self._slice(owner, str(node.target), attribute, labels, axis=axis % len(shape))
        return part.axis == axis % len(shape)

    def _visit_concatenation(self, node: fx.Node) -> ChannelMap | None:
        parts = node.args[0]
        shape = cast(torch.Size, shape_of(node))
        axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", node.kwargs.get("axis", 0))
        if not isinstance(parts, (tuple, list)) or not isinstance(axis, int):
            return None
        channel_maps = [self._channel_maps.get(part) for part in parts if isinstance(part, fx.Node)]
        known = [channel_map for channel_map in channel_maps if channel_map is not None]
        if len(known) < len(parts) or len({channel_map.axis for channel_map in known}) != 1:
            return None
        if known[0].axis != axis % len(shape):
            for channel_map in known[1:]:
                self.unite_all(known[0].labels, channel_map.labels)
            return known[0]
        return ChannelMap(
            known[0].axis, tuple(label for channel_map in known for label in channel_map.labels)
        )

    def _visit_pixel_shuffle(self, node: fx.Node) -> ChannelMap | None:
        """The r * r channels that become one channel's pixels go together."""
        channel_map = self._first(node)
        if channel_map is None or channel_map.axis != 1:
            return None
        count = cast(torch.Size, shape_of(node))[1]
        each = len(channel_map.labels) // count
        for index, label in enumerate(channel_map.labels):
            self.unite(channel_map.labels[index - index % each], label)
        return ChannelMap(1, channel_map.labels[::each])

    def _visit_pixel_unshuffle(self, node: fx.Node) -> ChannelMap | None:
        channel_map = self._first(node)
        if channel_map is None or channel_map.axis != 1:
            return None
        each = cast(torch.Size, shape_of(node))[1] // len(channel_map.labels)
        return ChannelMap(1, tuple(label for label in channel_map.labels for _ in range(each)))

    def _visit_chunk(self, node: fx.Node) -> ChannelMap | None:
        """Equal pieces along the channels: the same channel of each goes with that of the others."""
        channel_map = self._first(node)
        pieces = node.args[1] if len(node.args) > 1 else node.kwargs.get("chunks")
        axis = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
        if channel_map is None or not isinstance(pieces, int) or not isinstance(axis, int):
            return None
        rank = len(cast(torch.Size, shape_of(cast(fx.Node, node.args[0]))))
        if axis % rank != channel_map.axis or len(channel_map.labels) % pieces:
            return None
        self.unite_groups(channel_map.labels, pieces)
        width = len(channel_map.labels) // pieces
        self._pieces[node] = [
            ChannelMap(channel_map.axis, channel_map.labels[i : i + width])
            for i in range(0, len(channel_map.labels), width)
        ]
        return None

    def _visit_getitem(self, node: fx.Node) -> ChannelMap | None:
        """One of several pieces, or a part of a tensor that has all channels."""
        source, index = node.args
        if isinstance(source, fx.Node) and source in self._pieces:
            return self._pieces[source][index] if isinstance(index, int) else None
        channel_map = self._first(node)
        if channel_map is None or not isinstance(index, tuple):
            return None
        whole = slice(None)
        plain = all(isinstance(each, slice) for each in index) and channel_map.axis < len(index)
        return channel_map if plain and index[channel_map.axis] == whole else None
