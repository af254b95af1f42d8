"""Which channels of a network can only be removed together.

Every channel of every tensor gets a label. Layers that mix channels give new labels; what treats channels alike
(activations, pooling, batch norms) hands them on; sums, products, groups and pixel shuffles unite the labels of
channels that stand or fall together; concatenation and splitting hand them on in another order. What is not known
to treat channels one by one pins them down: a network that this module does not understand keeps its channels, it
is not damaged. The output's channels are pinned.

The idea of removing dependent channels as a group: Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR
2023. Here it is worked out channel by channel on a traced graph, so that concatenation and pixel shuffles need no
index arithmetic afterwards.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import fx, nn
from torch.nn import functional

from zoo.surgery.candidates import own_parameters, unusable, with_shared_parameters
from zoo.surgery.dependency.axes import OPERATORS, flattened
from zoo.surgery.dependency.channel_ops import NORMS, PAIRWISE, SAME_FUNCTIONS, SAME_MODULES, SPLITS
from zoo.surgery.dependency.shape_arithmetic import QUESTIONS, Counts, channel_count
from zoo.surgery.dependency.union_find import Labels, Role, Sight
from zoo.surgery.fx_graph import JOINS, layer_of, shape_of
from zoo.surgery.resize import WEIGHTED, input_channels, output_channels


class Channels(Labels):
    """The labels of all channels of a traced network.

    roles: which parameters are cut along with which labels. positions: for each weighted layer, how often its
    weights are used on the example input, so that its multiplications are positions * weights.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__()
        self.module = module
        self.roles: dict[tuple[nn.Module, str], Role] = {}
        self.positions: Counter[nn.Module] = Counter()
        self.reasons: dict[str, str] = {}
        self._sights: dict[fx.Node, Sight] = {}
        self._pieces: dict[fx.Node, list[Sight]] = {}
        self._counts = Counts()
        self._shared = with_shared_parameters(module, (*WEIGHTED, *NORMS))
        for node in module.graph.nodes:
            sight = self._visit(node)
            if sight is not None:
                self._sights[node] = sight

    def _pin_inputs(self, node: fx.Node) -> None:
        for source in node.all_input_nodes:
            self.pin(self._sights.get(source))
            for piece in self._pieces.get(source, ()):
                self.pin(piece)

    # -------------------------------------------------------------------------------------------------- nodes

    def _visit(self, node: fx.Node) -> Sight | None:
        if node.op == "output":
            self._pin_inputs(node)
            return None
        if node.op == "placeholder":
            shape = shape_of(node)
            sight = Sight(1, self.new(shape[1])) if shape is not None and len(shape) > 1 else None
            self.pin(sight)
            return sight
        if node.op == "get_attr":
            return None  # gets labels where it meets a tensor that has some
        if shape_of(node) is None and node.target not in SPLITS:
            if node.target not in QUESTIONS:
                self._pin_inputs(node)
            self._counts.note(node, self._sights)
            return None
        handler = self._handler(node)
        sight = handler(node) if handler is not None else None
        if sight is None and node not in self._pieces:
            self._pin_inputs(node)
        self._hold_counts(node, sight)
        return sight

    def _hold_counts(self, node: fx.Node, sight: Sight | None) -> None:
        """Where a number of channels is used to make a tensor, let it stay, or let both tensors be cut alike."""
        of = self._first(node)
        count = channel_count(node, of) if of is not None and sight is not None else None
        for number in node.all_input_nodes:
            for counted in self._counts.of(number):
                if of is not None and number is count and len(counted.labels) == len(of.labels):
                    self.unite_all(of.labels, counted.labels)
                else:
                    self.pin(counted)

    def _handler(self, node: fx.Node) -> Callable[[fx.Node], Sight | None] | None:
        layer = layer_of(self.module, node)
        if layer is not None:
            if isinstance(layer, WEIGHTED):
                return self._weighted
            if isinstance(layer, NORMS):
                return self._features
            if isinstance(layer, SAME_MODULES):
                return self._same
            special: dict[type, Callable[[fx.Node], Sight | None]] = {
                nn.Flatten: self._moved,
                nn.PixelShuffle: self._shuffled,
                nn.PixelUnshuffle: self._unshuffled,
            }
            return special.get(type(layer))
        target = node.target
        if target in SAME_FUNCTIONS:
            return self._same
        if target in PAIRWISE:
            return self._pairwise
        if target in JOINS:
            return self._joined
        if target in OPERATORS:
            return self._moved
        functions: dict[Any, Callable[[fx.Node], Sight | None]] = {
            functional.pixel_shuffle: self._shuffled, "chunk": self._chunked, torch.chunk: self._chunked,
            operator.getitem: self._taken,
        }  # fmt: skip
        return functions.get(target)

    def _first(self, node: fx.Node) -> Sight | None:
        source = node.args[0] if node.args else None
        return self._sights.get(source) if isinstance(source, fx.Node) else None

    def _same(self, node: fx.Node) -> Sight | None:
        return self._first(node) if len([s for s in node.all_input_nodes if s in self._sights]) == 1 else None

    def _moved(self, node: fx.Node) -> Sight | None:
        sight = self._first(node)
        if sight is None:
            return None
        count = channel_count(node, sight)
        if count is not None and not self._counts.of(count):
            return None  # a number that does not change with the channels
        return OPERATORS.get(node.target, flattened)(node, sight)

    # ------------------------------------------------------------------------------------------------- layers

    def _role(self, owner: nn.Module, name: str, kind: str, labels: Sequence[int], **more: Any) -> Role:
        """The role of a side of a layer; if it was met before, its labels are united with those of then."""
        role = self.roles.setdefault((owner, kind), Role(owner, name, kind, list(labels), **more))
        self.unite_all(role.labels, labels)
        return role

    def _weighted(self, node: fx.Node) -> Sight | None:
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
        reason = self._reason_against(layer)
        if reason is not None:
            self.reasons[name] = reason
            self.pin(source)
            sight = Sight(axis, self.new(shape[axis]))
            self.pin(sight)
            return sight
        if source is None or source.axis != axis or len(source.labels) != input_channels(layer):
            source_labels = self.new(input_channels(layer))
            self.pin(source)
            self.pin(Sight(axis, source_labels))
        else:
            source_labels = source.labels
        groups = 1 if is_linear else layer.groups
        if groups > 1 and groups == layer.in_channels:
            many = layer.out_channels // groups
            outputs = [label for label in source_labels for _ in range(many)]
            self._role(layer, name, "depthwise", outputs, inputs=list(source_labels))
            return Sight(axis, tuple(outputs))
        self._role(layer, name, "in", source_labels)
        self.unite_groups(source_labels, groups)
        known = self.roles.get((layer, "out"))
        outputs = list(known.labels) if known else list(self.new(output_channels(layer)))
        self.unite_groups(outputs, groups)
        self._role(layer, name, "out", outputs)
        return Sight(axis, tuple(outputs))

    def _features(self, node: fx.Node) -> Sight | None:
        layer, sight = layer_of(self.module, node), self._first(node)
        if layer is None or sight is None:
            return None
        count = len(sight.labels)
        if isinstance(layer, nn.PReLU) and layer.num_parameters == 1:
            return sight
        if isinstance(layer, nn.LayerNorm):
            last = len(cast(torch.Size, shape_of(node))) - 1
            if layer.normalized_shape != (count,) or sight.axis != last:
                return None
        elif isinstance(layer, nn.GroupNorm) and layer.num_groups > 1:
            self.unite_groups(sight.labels, layer.num_groups)
        if own_parameters(layer) - {"weight", "bias"} or id(layer) in self._shared:
            return None
        self._role(layer, str(node.target), "features", sight.labels)
        return sight

    def _reason_against(self, layer: nn.Module) -> str | None:
        if id(layer) in self._shared:
            return "it shares its parameters with another layer"
        reason = unusable(layer)
        if reason is not None:
            return reason
        if own_parameters(layer) - {"weight", "bias"} or "weight" not in layer._parameters or layer._buffers:
            return f"{type(layer).__name__} computes with more than a weight and a bias"
        return None

    # ---------------------------------------------------------------------------------------------- operators

    def _pairwise(self, node: fx.Node) -> Sight | None:
        shape = cast(torch.Size, shape_of(node))
        met: list[tuple[Sight, int]] = []
        loose: list[fx.Node] = []
        for source in node.all_input_nodes:
            own, sight = shape_of(source), self._sights.get(source)
            if own is None:
                continue  # a number
            if sight is not None:
                met.append((sight, sight.axis + len(shape) - len(own)))
            elif source.op == "get_attr":
                loose.append(source)
            elif own.numel() > 1:
                return None
        axes = {axis for sight, axis in met if len(sight.labels) > 1 or len(met) == 1}
        if len(axes) != 1:
            return None
        axis = axes.pop()
        wide = [sight for sight, at in met if at == axis and len(sight.labels) == shape[axis]]
        if not wide or any(at == axis and len(s.labels) not in (1, shape[axis]) for s, at in met):
            return None
        for sight in wide[1:]:
            self.unite_all(wide[0].labels, sight.labels)
        for source in loose:
            if not self._constant(source, axis - len(shape), wide[0].labels):
                return None
        return Sight(axis, wide[0].labels)

    def _constant(self, node: fx.Node, axis: int, labels: tuple[int, ...]) -> bool:
        """Give a loose parameter the labels of the tensor it meets; `axis` counts from the end."""
        shape = cast(torch.Size, shape_of(node))
        if len(shape) < -axis or shape[axis] == 1:
            return True  # the same for all channels
        if shape[axis] != len(labels):
            return False
        path, _, attribute = str(node.target).rpartition(".")
        owner = self.module.get_submodule(path)
        role = self._role(owner, str(node.target), attribute, labels, axis=axis % len(shape))
        return role.axis == axis % len(shape)

    def _joined(self, node: fx.Node) -> Sight | None:
        parts = node.args[0]
        shape = cast(torch.Size, shape_of(node))
        axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", node.kwargs.get("axis", 0))
        if not isinstance(parts, (tuple, list)) or not isinstance(axis, int):
            return None
        sights = [self._sights.get(part) for part in parts if isinstance(part, fx.Node)]
        known = [sight for sight in sights if sight is not None]
        if len(known) < len(parts) or len({sight.axis for sight in known}) != 1:
            return None
        if known[0].axis != axis % len(shape):
            for sight in known[1:]:
                self.unite_all(known[0].labels, sight.labels)
            return known[0]
        return Sight(known[0].axis, tuple(label for sight in known for label in sight.labels))

    def _shuffled(self, node: fx.Node) -> Sight | None:
        """The r * r channels that become one channel's pixels go together."""
        sight = self._first(node)
        if sight is None or sight.axis != 1:
            return None
        count = cast(torch.Size, shape_of(node))[1]
        each = len(sight.labels) // count
        for index, label in enumerate(sight.labels):
            self.unite(sight.labels[index - index % each], label)
        return Sight(1, sight.labels[::each])

    def _unshuffled(self, node: fx.Node) -> Sight | None:
        sight = self._first(node)
        if sight is None or sight.axis != 1:
            return None
        each = cast(torch.Size, shape_of(node))[1] // len(sight.labels)
        return Sight(1, tuple(label for label in sight.labels for _ in range(each)))

    def _chunked(self, node: fx.Node) -> Sight | None:
        """Equal pieces along the channels: the same channel of each goes with that of the others."""
        sight = self._first(node)
        pieces = node.args[1] if len(node.args) > 1 else node.kwargs.get("chunks")
        axis = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
        if sight is None or not isinstance(pieces, int) or not isinstance(axis, int):
            return None
        rank = len(cast(torch.Size, shape_of(cast(fx.Node, node.args[0]))))
        if axis % rank != sight.axis or len(sight.labels) % pieces:
            return None
        self.unite_groups(sight.labels, pieces)
        width = len(sight.labels) // pieces
        self._pieces[node] = [
            Sight(sight.axis, sight.labels[i : i + width]) for i in range(0, len(sight.labels), width)
        ]
        return None

    def _taken(self, node: fx.Node) -> Sight | None:
        """One of several pieces, or a part of a tensor that has all channels."""
        source, index = node.args
        if isinstance(source, fx.Node) and source in self._pieces:
            return self._pieces[source][index] if isinstance(index, int) else None
        sight = self._first(node)
        if sight is None or not isinstance(index, tuple):
            return None
        whole = slice(None)
        plain = all(isinstance(each, slice) for each in index) and sight.axis < len(index)
        return sight if plain and index[sight.axis] == whole else None
