"""Residual links and skip connections of a traced network, what cutting one costs, and cutting it.

Where the branch ends in a linear convolution, which may be followed by a batch norm, the convolution can learn to
replace the link: exactly if it takes what the link carries, conv(x) + x being a convolution (Ding et al., "RepVGG",
CVPR 2021; Zagoruyko and Komodakis, "DiracNets", 2017), else by least squares from what it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, fx, nn

from zoo.surgery import (
    DataFlow,
    area_of,
    calls_of,
    concatenated_inputs,
    evaluating,
    identity_conv,
    input_channels,
    insert_after,
    keep_inputs,
    layer_of,
    on_device_of,
    residual_sums,
    shape_of,
)
from zoo.surgery.reconstruction import RefitTarget, is_refittable, refit_unsupported_reason


@dataclass(frozen=True)
class Link:
    """A link that can be cut.

    Attributes:
        name: The block's name.
        node: The sum or concatenation.
        carried: What the link brings there.
        kept: What is there without it; None for a concatenation.
        ends: For a sum, the convolution that ends the branch and the batch norm behind it, if there are any; for a
            concatenation, the convolutions that read it.
        exact: Whether the convolution can take over the link exactly.
    """

    name: str
    node: fx.Node
    carried: fx.Node
    kept: fx.Node | None
    ends: tuple[nn.Module, ...] = ()
    exact: bool = False


def residual_links(module: fx.GraphModule) -> list[Link]:
    """Return the sums in which one side is the input of the other's layers, or one layer away from it."""
    found, names = list[Link](), set[str]()
    for each in residual_sums(module, DataFlow(module)):
        name = _unique(each.block, names) or each.node.name
        names.add(name)
        ends = _ends(module, each.computed)
        exact = bool(ends) and _takes(module, ends, each.carried)
        found.append(Link(name, each.node, each.carried, each.computed, ends, exact))
    return found


def skip_links(module: fx.GraphModule) -> list[Link]:
    """Return the concatenated tensors that skip a reduction in size which the others went through."""
    flow, found = DataFlow(module), list[Link]()
    names = set[str]()
    for node in flow.nodes:
        parts = concatenated_inputs(node) or []
        takers = [layer_of(module, user) for user in node.users]
        if len(set(parts)) < 2 or not all(
            t is not None and is_refittable(t) and _alone(module, t) for t in takers
        ):
            continue
        for part in parts:
            others = [p for p in parts if p is not part and _went_deeper(flow, part, p)]
            if others and parts.count(part) == 1:
                name = _unique(str(part.target) if part.op == "call_module" else part.name, names)
                names.add(name)
                found.append(Link(name, node, part, None, tuple(cast("list[nn.Module]", takers))))
    return found


def _unique(name: str, taken: set[str]) -> str:
    number, numbered = 1, name
    while numbered in taken:
        number += 1
        numbered = f"{name}#{number}"
    return numbered


def _alone(module: fx.GraphModule, layer: nn.Module) -> bool:
    return len(calls_of(module, layer)) == 1 and cast(nn.Conv2d, layer).groups == 1


def _went_deeper(flow: DataFlow, part: fx.Node, other: fx.Node) -> bool:
    if not flow.depends_on(other, part):
        return False
    sizes = [area_of(node) for node in flow.between(part, other)]
    return min((size for size in sizes if size), default=0) < (area_of(part) or 0)


def _ends(module: fx.GraphModule, node: fx.Node) -> tuple[nn.Module, ...]:
    """The convolution a branch ends with, and the batch norm behind it."""
    norm: nn.Module | None = None
    while len(node.users) == 1:
        layer = layer_of(module, node)
        if isinstance(layer, nn.Conv2d):
            plain = refit_unsupported_reason(layer) is None and len(calls_of(module, layer)) == 1
            return () if not plain else (layer,) if norm is None else (layer, norm)
        if type(layer) is nn.BatchNorm2d and norm is None:
            if layer.running_mean is None or float(_scale(layer).abs().min()) < 1e-4:
                return ()
            norm = layer
        elif not isinstance(layer, (nn.Identity, nn.Dropout, nn.Dropout2d)):
            return ()
        node = cast(fx.Node, node.args[0])
    return ()


def _takes(module: fx.GraphModule, ends: tuple[nn.Module, ...], carried: fx.Node) -> bool:
    """Whether the convolution takes what the link carries, pixel by pixel."""
    conv = cast(nn.Conv2d, ends[0])
    padding = conv._reversed_padding_repeated_twice[::2]  # (width, height)
    reach = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    return (
        calls_of(module, conv)[0].args[0] is carried
        and conv.stride == (1, 1)
        and conv.in_channels == conv.out_channels
        and all(k % 2 for k in conv.kernel_size)
        and [2 * p for p in padding[::-1]] == reach
    )


def _scale(norm: nn.BatchNorm2d) -> Tensor:
    scale = (cast(Tensor, norm.running_var) + norm.eps).rsqrt()
    return scale if norm.weight is None else scale * norm.weight.detach()


class _Without(fx.Interpreter):
    """Runs a traced network, and from each of some links on also as if the link were not there."""

    def outputs(self, links: Sequence[Link], given: Tensor) -> Iterator[tuple[Link, Tensor]]:
        """Each link with the output without it. What comes before a link is computed once for all of them."""
        nodes = list(self.graph.nodes)
        last = max((nodes.index(link.node) for link in links), default=-1)
        self.args_iter, self.env = iter([given]), {}
        for at, node in enumerate(nodes[: last + 1]):
            for link in links:
                if link.node is node:
                    yield link, self._rest(nodes[at:], link)
            self._step(node)

    def _rest(self, nodes: list[fx.Node], link: Link) -> Tensor:
        """The output without a link, from its node on; what the others still need is left alone."""
        held = dict(self.env)
        self.env[link.node] = self._without(link)
        for node in nodes[1:]:
            self._step(node)
        output = cast(Tensor, self.env[nodes[-1]])
        self.env = held
        return output

    def _step(self, node: fx.Node) -> None:
        self.env[node] = self.run_node(node)
        for done in self.user_to_last_uses.get(node, []):
            self.env.pop(done, None)

    def _without(self, link: Link) -> Tensor:
        if link.kept is not None:
            return cast(Tensor, self.env[link.kept])
        parts = cast("list[fx.Node]", concatenated_inputs(link.node))
        return torch.cat([self.env[p] * (p is not link.carried) for p in parts], dim=1)


def errors_without(
    module: fx.GraphModule, links: Sequence[Link], batches: Sequence[Tensor], tried: Callable[[Link], None]
) -> dict[str, float]:
    """Return the relative error of the output without each of the links, nothing being fitted; 0 for exact links.

    Args:
        module: The traced network.
        links: The links to try.
        batches: Inputs, (N, C, H, W) each.
        tried: Called when a link was tried on one more batch.
    """
    missed, power = {link.name: 0.0 for link in links}, 0.0
    tries = [link for link in links if not link.exact]
    with evaluating(module):
        for batch in batches if tries else []:
            given = on_device_of(module, batch)
            wanted = module(given)
            power += float(wanted.double().square().sum())
            for link, output in _Without(module).outputs(tries, given):
                missed[link.name] += float((output - wanted).double().square().sum())
                tried(link)
    return {name: (error / power) ** 0.5 if power > 0 else 0.0 for name, error in missed.items()}


def absorb_link(link: Link) -> None:
    """Add the identity to the convolution of an exact link."""
    conv = cast(nn.Conv2d, link.ends[0])
    outputs = torch.arange(conv.out_channels)
    center = [k // 2 for k in conv.kernel_size]
    with torch.no_grad():
        amount = 1 / _scale(cast(nn.BatchNorm2d, link.ends[1])) if len(link.ends) > 1 else torch.ones(())
        within = outputs % (conv.in_channels // conv.groups)
        conv.weight[outputs, within, center[0], center[1]] += amount.to(conv.weight)


class LinkCut:
    """Cut a link of a traced network.

    Make it before outputs are recorded: a 1 x 1 convolution that computes the identity is then inserted behind the
    sum.

    Attributes:
        layers: The layers to refit after :meth:`apply`, to what is recorded of their sources through :meth:`view`.
    """

    def __init__(self, module: fx.GraphModule, link: Link) -> None:
        self._module, self.link = module, link
        self._probe: fx.Node | None = None
        self.layers: dict[nn.Module, RefitTarget] = {}
        if link.kept is None:
            self.layers = {end: RefitTarget(link.name, end) for end in link.ends}
        elif link.ends and not link.exact and area_of(link.node):
            channels = cast(torch.Size, shape_of(link.node))[1]
            probe = identity_conv(channels, like=cast(Tensor, link.ends[0].weight))
            self._probe = insert_after(module, link.node, "probe", probe)
            module.recompile()
            self.layers = {link.ends[0]: RefitTarget(link.name, probe)}

    def view(self, layer: nn.Module, output: Tensor) -> Tensor:
        """Return what the convolution must compute for the batch norm behind it to produce `output`, (N, C, H, W)."""
        if self._probe is None or layer is not layer_of(self._module, self._probe) or len(self.link.ends) < 2:
            return output
        norm = cast(nn.BatchNorm2d, self.link.ends[1])
        scale = _scale(norm)
        shift = -cast(Tensor, norm.running_mean) * scale
        shift = shift if norm.bias is None else shift + norm.bias.detach()
        return (output - shift[:, None, None]) / scale[:, None, None]

    def apply(self) -> None:
        """Cut the link; unused layers are left to :func:`zoo.surgery.clean_up_graph`."""
        link = self.link
        if link.kept is None:
            parts = cast("list[fx.Node]", concatenated_inputs(link.node))
            start = sum(cast(torch.Size, shape_of(p))[1] for p in parts[: parts.index(link.carried)])
            stop = start + cast(torch.Size, shape_of(link.carried))[1]
            for layer in link.ends:
                index = torch.arange(input_channels(layer))
                keep_inputs(layer, index[(index < start) | (index >= stop)])
            link.node.args = ([part for part in parts if part is not link.carried], *link.node.args[1:])
            return
        if link.exact:
            absorb_link(link)
        (self._probe or link.node).replace_all_uses_with(link.kept)


def held_at_once(module: fx.GraphModule) -> int:
    """Return the most bytes of activations that are alive at the same time on the example input.

    Each tensor counts from when it is computed until its last use; what an engine saves by fusing or overwriting is not
    considered.
    """
    last = {source: node for node in module.graph.nodes for source in node.all_input_nodes}
    held = most = 0
    sizes: dict[fx.Node, int] = {}
    for node in module.graph.nodes:
        shape = None if node.op == "get_attr" else shape_of(node)
        if shape is not None:
            sizes[node] = shape.numel() * node.meta["tensor_meta"].dtype.itemsize
            held += sizes[node]
            most = max(most, held)
        for source in node.all_input_nodes:
            if last[source] is node:
                held -= sizes.get(source, 0)
    return most
