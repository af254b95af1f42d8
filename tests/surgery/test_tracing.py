"""A traced graph is the network, however its code changes tensors and asks for sizes, or tracing is refused by name."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from support.functions import Function
from zoo.errors import DisagreementError, ZooError
from zoo.modules.closures import bind_closures
from zoo.surgery import check_repeatable, reads_past_layers, tied_parameters
from zoo.surgery.tracing import trace

Code = Callable[[Any, Tensor], Any]


def network(compute: Code, **more: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    layers: dict[str, nn.Module] = {"a": nn.Conv2d(3, 8, 3, padding=1), "b": nn.Conv2d(8, 8, 3, padding=1)}
    return Function(compute, **layers, **more).eval()


def agree(net: nn.Module, batch: int = 2, side: int = 8) -> bool:
    """Whether the graph of a copy of a network computes what the network does, for another batch than it was shown."""
    bind_closures(net)
    module = trace(copy.deepcopy(net), torch.rand(1, 3, side, side))
    inputs = torch.rand(batch, 3, side, side)
    computed = module(inputs.clone())
    computed.sum().backward()  # a graph can be trained
    with torch.no_grad():
        return torch.allclose(computed, net(inputs.clone()), atol=1e-5)


def changed(change: Callable[[Tensor], Any]) -> Code:
    """A network that reads a tensor, and a part of it taken before, after a change in place."""

    def compute(net: Any, x: Tensor) -> Tensor:
        y = net.a(x)
        before, turned = y[:, 2:6], y.transpose(2, 3)
        change(y)
        return net.b(y + turned) + torch.cat([before, before], 1)

    return compute


def assigns(y: Tensor) -> None:
    y[:, 0, ...], y[..., 0], y[:, [1, 2]] = 1, 0.5, y[:, [3, 4]]


def loops_over_parts(y: Tensor) -> None:
    for part in y.chunk(4, 1):
        part.mul_(2)
    for index in range(y.size(1)):
        y[:, index] *= index


def augments(y: Tensor) -> None:
    part = y[:, :3]
    part += 1
    part *= 2


def writes_out(y: Tensor) -> None:
    torch.mul(y, 2, out=y)
    torch.add(y[:, :4], 1, out=y[:, 4:])


CHANGES: dict[str, Callable[[Tensor], Any]] = {
    "assigned": assigns,
    "loops": loops_over_parts,
    "augmented": augments,
    "out": writes_out,
    "whole": lambda y: y.mul_(2).add_(1),
    "slices of slices": lambda y: y[:, :6][:, 2:4][:, :, 3:].sigmoid_(),
    "chunk": lambda y: y.chunk(2, 1)[1].add_(y.chunk(2, 1)[0]),
    "split": lambda y: y.split([2, 6], 1)[1].mul_(3),
    "unbind": lambda y: y.unbind(1)[3].fill_(0.5),
    "tensor_split": lambda y: torch.tensor_split(y, 2, 1)[0].neg_(),
    "narrow": lambda y: y.narrow(1, 2, 5).zero_(),
    "select": lambda y: y.select(1, 2).copy_(y.select(1, 0)),
    "view": lambda y: y.view(y.size(0), -1).mul_(2),
    "reshape": lambda y: y.reshape(y.shape[0], 2, 4, 8, 8)[:, 1].add_(1),
    "unflatten": lambda y: y.unflatten(1, (2, 4))[:, 1].mul_(3),
    "transpose": lambda y: y.transpose(1, 2)[:, 0].mul_(3),
    "permute": lambda y: y.permute(0, 2, 3, 1)[..., 0].fill_(1),
    "attribute": lambda y: y.mT.mul_(2),
    "unsqueeze": lambda y: y.unsqueeze(1).mul_(2),
    "diagonal": lambda y: y.diagonal(dim1=2, dim2=3).fill_(1),
    "detached": lambda y: y.detach().mul_(2),
    "data": lambda y: y.data.mul_(2),
    "index_put": lambda y: y.index_put_((torch.tensor([0]), torch.tensor([1])), torch.tensor(0.3)),
    "index_fill": lambda y: y.index_fill_(1, torch.tensor([1, 3]), 0.0),
    "index_add": lambda y: y.index_add_(1, torch.tensor([0, 1]), y[:, 4:6] * 1),
    "scatter": lambda y: y.scatter_(1, torch.zeros(y.size(0), 1, 8, 8, dtype=torch.long), 0.5),
    "masked": lambda y: y.masked_fill_(y < 0, 0.2),
    "copied": lambda y: y.copy_(y.flip(1)),
    "function": lambda y: F.relu_(y[:, :4]),
    "by position": lambda y: F.leaky_relu(y, 0.3, True),
    "layer": lambda y: nn.ReLU(inplace=True)(y[:, 4:]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_written_in_place_is_seen_by_every_view(name: str) -> None:
    assert agree(network(changed(CHANGES[name])))


def loops_over_sizes(net: Any, x: Tensor) -> Tensor:
    n, channels, height, width = net.a(x).shape
    total = sum(1 for _ in x.shape)
    y = torch.stack([net.a(x)[:, index] * index for index in range(channels)], 1)
    return net.b(y).view(n, channels, height * width) * total


def branches_on_sizes(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    if y.dim() == 4 and isinstance(y, Tensor) and len(x.shape) == 4 and x.shape[1] == 3 and not y.is_cuda:
        y = F.pad(y, (0, y.shape[3] % 2))
    assert y.dtype == torch.float32, y.dtype
    return net.b(y)


def grid(net: Any, x: Tensor) -> Tensor:
    y = torch.cat([net.a(x)[:, :4], x.new_zeros(x.shape[0], 4, x.shape[2], x.shape[3])], 1)
    y = y + torch.linspace(-1, 1, x.shape[3]).expand(x.shape[0], 1, x.shape[2], x.shape[3])
    return net.b(y + torch.arange(64)[: x.size(3)] / math.sqrt(x.shape[1]) + torch.zeros(x.size(0), 1, 1, 1))


QUESTIONS: dict[str, Code] = {
    "loops over sizes": loops_over_sizes,
    "branches on sizes": branches_on_sizes,
    "tensors of sizes": grid,
    "list of chunks": lambda net, x: net.b(torch.cat(list(net.a(x).chunk(4, 1))[::-1], 1)),
    "enumerated": lambda net, x: net.b(torch.cat([p * i for i, p in enumerate(net.a(x).chunk(4, 1))], 1)),
    "star": lambda net, x: torch.mul(*net.a(x).split(4, 1)),
    "unpacked": lambda net, x: (lambda q, k, v, w: q * k - v * w)(*net.a(x).view(-1, 4, 2, 8, 8).unbind(1)),
    "tensors of numbers": lambda net, x: (
        net.a(x) / torch.tensor(x.shape[1] * 1.0).sqrt() + torch.tensor([x.size(3)])
    ),
    "layers on the input's device": lambda net, x: net.b.to(x.device)(net.a(x)),
    "tensors by path": lambda net, x: net.b(net.a(x)) * net.get_parameter("a.weight").data.sum(),
    "looked up by size": lambda net, x: net.a(x) * {(3, 8): 2.0}[tuple(map(int, x.shape[1:3]))],
    "length": lambda net, x: net.a(x) * len(net.a(x).chunk(4, 1)),
    "groups of the batch": lambda net, x: F.conv2d(
        net.a(x).reshape(1, -1, *x.shape[2:]), net.b.weight.repeat(x.size(0), 1, 1, 1), groups=x.size(0)
    ).view(x.size(0), 8, 6, 6),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_code_that_asks_for_sizes_is_followed(name: str) -> None:
    assert agree(network(QUESTIONS[name]), batch=3)


def wrapped(forward: Callable[..., Any]) -> Callable[..., Any]:
    """What libraries put around forward(): options of their own, which never reach it."""

    @functools.wraps(forward)
    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        as_tuple = kwargs.pop("as_tuple", False)
        result = forward(self, *args, **kwargs)
        return (result,) if as_tuple else result

    return call


class Halves(nn.Module):
    """Takes its factor by name alone."""

    def forward(self, x: Tensor, *, factor: float = 0.5, **_: Any) -> Tensor:
        return x * factor


class Wrapped(nn.Module):
    """A network whose forward() is decorated, has arguments by name, and makes a tensor of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), Halves()

    @wrapped
    def forward(
        self, x: Tensor, mask: Tensor | None = None, *, twice: bool | None = None, **kwargs: Any
    ) -> Tensor:
        y = self.b(self.a(x), **kwargs)
        y = y if mask is None else y * mask
        return y * 2 if twice else y + torch.full((1, 8, 1, 1), 0.25)


@pytest.mark.parametrize("make", [Wrapped, Halves])
def test_arguments_that_need_not_be_given_are_no_inputs(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 3, 1), make()).eval()
    assert agree(net)
    alone, x = make().eval(), torch.rand(2, 3, 8, 8)
    module = trace(copy.deepcopy(alone), x[:1])
    assert [node.name for node in module.graph.nodes if node.op == "placeholder"] == ["x"]
    assert torch.allclose(module(x), alone(x), atol=1e-6)


def test_a_graph_keeps_to_the_sizes_that_its_way_was_chosen_for() -> None:
    def compute(net: Any, x: Tensor) -> Tensor:
        return net.a(x) if x.shape[2] > 8 else net.a(x) * 2

    module = trace(network(compute), torch.rand(1, 3, 16, 16))
    module(torch.rand(2, 3, 12, 12))
    with pytest.raises(ZooError, match="goes another way for an input of this size"):
        module(torch.rand(1, 3, 8, 8))


def test_functions_set_on_a_network_belong_to_its_copies() -> None:
    net = network(lambda net, x: net.b(F.relu(net.a(x))))
    old = net.b.forward
    net.b.forward = lambda x: old(x) * 2 + x
    net.register_forward_hook(lambda module, args, output: output + net.a(args[0]))
    whole = net.forward
    net.forward = lambda x: whole(x.flip(3)) - net.b(net.a(x))
    assert agree(net)
    with torch.no_grad():
        copied, before = copy.deepcopy(net), net(torch.ones(1, 3, 8, 8))
        for parameter in copied.parameters():
            parameter.zero_()
        assert torch.equal(net(torch.ones(1, 3, 8, 8)), before)
        assert not copied(torch.ones(1, 3, 8, 8)).any()


def test_modules_are_found_whatever_their_names_are() -> None:
    named = nn.ModuleDict({key: nn.Conv2d(8, 8, 1) for key in ("in", "1x1 conv", 'quoted "name"', "class")})
    net = network(lambda net, x: sum(layer(net.a(x)) for layer in net.named.values()), named=named)
    assert agree(net)


def hides_a_layer(net: Any, x: Tensor) -> Tensor:
    return hidden(net.a(x))


hidden = nn.Conv2d(8, 8, 1)


def computes_in_half(net: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        y = net.a(x)
    with torch.autocast("cpu"):
        return net.b(y)


@torch.jit.script
def scripted(x: Tensor) -> Tensor:
    return x * 2


REFUSED: dict[str, tuple[Code, str, str]] = {
    "values": (
        lambda net, x: net.a(x) if x.mean() > 0 else x,
        "yes or no that depends on the numbers",
        "torch.where",
    ),
    "a number": (
        lambda net, x: net.a(x) * float(x.max()),
        "a number that depends on the numbers",
        "torch.where",
    ),
    "a size as a key": (
        lambda net, x: net.a(x) * {3: 2.0}[x.shape[1]],
        "getitem",
        r"tuple(map(int, x.shape))",
    ),
    "a hidden layer": (hides_a_layer, "Conv2d is not registered", "nn.ModuleList"),
    "numpy": (
        lambda net, x: net.a(torch.from_numpy(x.numpy())),
        "test_tracing.py, line",
        "torch's functions",
    ),
    "autocast": (computes_in_half, "bfloat16 inside torch.autocast", "Leave torch.autocast out"),
    "scripted": (
        lambda net, x: scripted(net.a(x)),
        "instead found type 'StandIn'",
        "Remove @torch.jit.script",
    ),
    "no tensor": (lambda net, x: {"y": 1}, "depends on no tensor", ""),
    "its own tensor": (
        lambda net, x: net.a(x) + net.norm.running_mean.add_(x.mean()).sum(),
        "own tensor",
        "training",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused_with_a_hint_that_fits(name: str) -> None:
    compute, message, hint = REFUSED[name]
    with pytest.raises(ZooError, match=message) as caught:
        trace(network(compute, norm=nn.BatchNorm2d(8)), torch.rand(1, 3, 8, 8))
    assert hint in (caught.value.hint or "")


def test_a_network_that_draws_random_numbers_is_refused_by_the_name_of_the_layer() -> None:
    net = network(lambda net, x: net.b(F.dropout(net.drop(net.a(x)))), drop=nn.Identity())
    with pytest.raises(DisagreementError, match=r"something else each time.*first in 'b' \(Conv2d\)"):
        check_repeatable(net, torch.rand(1, 3, 8, 8))
    check_repeatable(network(lambda net, x: net.b(net.a(x))), torch.rand(1, 3, 8, 8))


def test_uses_of_a_parameter_by_other_layers_and_past_its_layer_are_found() -> None:
    net = network(lambda net, x: net.c(net.b(net.a(x))) * net.a.bias.sum(), c=nn.Conv2d(8, 8, 3))
    net.c.weight = net.b.weight
    (tied,) = tied_parameters(net)
    assert [str(slot) for slot in tied] == ["b.weight", "c.weight"]
    assert [node.target for node in reads_past_layers(trace(net, torch.rand(1, 3, 8, 8)))] == ["a.bias"]
