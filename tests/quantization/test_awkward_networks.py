"""Networks written in ordinary but awkward ways are quantized as what they compute."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, prune

from support.exported import run as run_file
from support.functions import Function
from zoo.contracts import Architecture, Context, InputSpec, OutputSpec
from zoo.errors import DisagreementError, ZooError
from zoo.export.exporter import export_onnx
from zoo.quantization.prepare import calibrate, freeze, prepare
from zoo.surgery.agreement import Reference, accept_disagreement, signal_to_error
from zoo.surgery.plain_weights import make_weights_plain
from zoo.surgery.tracing import trace

SIDE = 32


class Own(Architecture):
    """Whatever network a test makes: RGB in, ten numbers out."""

    id, summary, task = "own", "a network of a test", "classification"
    input = InputSpec("rgb", 3, example=(SIDE, SIDE), fixed_size=True)
    output = OutputSpec("logits", 10)


def inputs(seed: int = 0, count: int = 4) -> Tensor:
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=SIDE, mode="bilinear")


def head(x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x, 2).flatten(1)[:, :10]


def conv(*sizes: int, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(*sizes, 3, padding=1, **options)


def quantized(net: nn.Module) -> nn.Module:
    batches = [inputs(1), inputs(2)]
    context = Context(Own(), batches[0][:1], lambda: batches)
    module = prepare(net, context, technique="ptq")
    calibrate(module, batches)
    return freeze(module).eval()


def agreement(net: nn.Module) -> float:
    """Signal to error, in dB, of the network's int8 file in ONNX Runtime."""
    net = net.eval()
    with torch.no_grad():
        expected = net(inputs(3))
    file = export_onnx(quantized(copy.deepcopy(net)), Own())
    return signal_to_error(expected, run_file(file, inputs(3)))


def writes_through_slices(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    x[:, :8].mul_(-4.0)
    x[:, 8:, 1:][:, :, 2:] += 1
    x[:, 0] = x[:, 1] * 2
    return head(F.relu(net.b(x)))


def writes_through_a_transposed_view(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    turned = y.transpose(2, 3)
    turned[:, :8].mul_(2)
    return head(F.relu(net.b(y + turned)))


def reads_the_state_of_an_lstm(net: Any, x: Tensor) -> Tensor:
    _, (hidden, cell) = net.lstm(F.avg_pool2d(net.a(x), 8).flatten(2).transpose(1, 2))
    return net.linear(torch.cat([hidden[-1], cell[0]], 1))


def writes_into_a_chunk(net: Any, x: Tensor) -> Tensor:
    first, second = net.a(x).chunk(2, 1)
    first.mul_(3)
    return head(F.relu(net.b(torch.cat([second, first], 1))))


def moves_to_a_device(net: Any, x: Tensor) -> Tensor:
    return head(F.relu(net.b(F.relu(net.a(x.to(net.a.weight.device).float())))))


def calls_by_keyword(net: Any, x: Tensor) -> Tensor:
    parts = torch.hsplit(F.relu(input=net.b(input=net.a(input=x))), 4)
    return head(net.c(input=torch.cat(tensors=parts, dim=1)))


def reads_a_bias_elsewhere(net: Any, x: Tensor) -> Tensor:
    y = F.relu(net.norm(net.a(x)))
    return head(F.relu(net.b(y + net.a.bias.view(1, -1, 1, 1))))


def reads_a_weight_elsewhere(net: Any, x: Tensor) -> Tensor:
    return head(net.b(F.relu(net.a(x)) * net.a.weight.abs().mean() * 10))


def decodes_with_the_weight_of_its_encoder(net: Any, x: Tensor) -> Tensor:
    y = F.conv_transpose2d(F.relu(net.a(x)), net.a.weight, padding=1)
    return head(net.b(F.relu(F.conv2d(y, net.a.weight, padding=1))))


def pools_with_indices(net: Any, x: Tensor) -> Tensor:
    y, _ = F.max_pool2d(3 * net.a(x), 2, return_indices=True)
    values, _ = net.b(y).sort(dim=1)
    return head(net.c(values.max(dim=3, keepdim=True)[0] + values))


def pools_beyond_the_border(net: Any, x: Tensor) -> Tensor:
    y = F.avg_pool2d(net.a(x)[:, :, :31, :31], 2, ceil_mode=True)
    return head(F.relu(net.b(y)))


def divides_by_another_number(net: Any, x: Tensor) -> Tensor:
    y = F.avg_pool2d(net.a(x), 2, divisor_override=3)
    return head(F.relu(net.b(net.average(y))))


def clamps_to_an_int_and_a_float(net: Any, x: Tensor) -> Tensor:
    return head(F.relu(net.b(torch.clamp(net.a(x), 0, 0.5))))


def uses_a_shuffle_twice(net: Any, x: Tensor) -> Tensor:
    y = F.relu(net.shuffle(net.up(F.relu(net.a(x)))))
    return head(net.c(F.relu(net.shuffle(net.again(F.avg_pool2d(y, 2))))))


def calls_a_layer_three_times(net: Any, x: Tensor) -> Tensor:
    x = F.relu(net.a(x))
    for _ in range(3):
        x = x + F.relu(net.b(x))
    return head(x)


def has_a_layer_with_the_name_of_what_is_added(net: Any, x: Tensor) -> Tensor:
    return head(F.relu(net.quantizers(net.b(net.a(x)))))


def attends_past_a_mask(net: Any, x: Tensor, excluded: float = -1e9) -> Tensor:
    tokens = F.avg_pool2d(net.a(x), 4).flatten(2).transpose(1, 2)
    kept = torch.tril(torch.ones(64, 64)) * x.amax((1, 2, 3)).ceil().view(-1, 1, 1)
    mask = torch.where(kept > 0, 0.0, excluded)
    scores = 4 * F.layer_norm(net.query(tokens), (16,)) @ F.layer_norm(tokens, (16,)).transpose(1, 2)
    return net.linear((tokens + (scores + mask).softmax(-1) @ tokens)[:, ::13].flatten(1)[:, :32])


def attends_past_an_infinite_mask(net: Any, x: Tensor) -> Tensor:
    return attends_past_a_mask(net, x, -float("inf"))


def pools_over_a_border_that_never_wins(net: Any, x: Tensor) -> Tensor:
    y = F.max_pool2d(F.pad(net.a(x), (1, 1, 1, 1), value=-1e9), 3)
    return head(F.relu(net.b(y)))


COMPUTED = [
    attends_past_a_mask, attends_past_an_infinite_mask, pools_over_a_border_that_never_wins,
    has_a_layer_with_the_name_of_what_is_added,
    writes_through_slices, writes_through_a_transposed_view,
    reads_the_state_of_an_lstm, writes_into_a_chunk,
    moves_to_a_device, calls_by_keyword, reads_a_bias_elsewhere,
    reads_a_weight_elsewhere, decodes_with_the_weight_of_its_encoder, pools_with_indices, pools_beyond_the_border,
    divides_by_another_number,
    clamps_to_an_int_and_a_float, uses_a_shuffle_twice, calls_a_layer_three_times,
]  # fmt: skip


def layers() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(16)
    with torch.no_grad():
        for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
            values.uniform_(0.5, 2)
    up, again = conv(16, 64), conv(16, 64)
    again.weight = up.weight
    return {
        "a": conv(3, 16), "b": conv(16, 16, padding_mode="reflect"), "c": conv(16, 16), "norm": norm, "up": up,
        "again": again, "shuffle": nn.PixelShuffle(2), "average": nn.AvgPool2d(2, divisor_override=2),
        "lstm": nn.LSTM(16, 16, batch_first=True), "linear": nn.Linear(32, 10), "query": nn.Linear(16, 16),
        "quantizers": conv(16, 16),
    }  # fmt: skip


@pytest.mark.parametrize("compute", COMPUTED, ids=lambda compute: compute.__name__)
def test_the_file_computes_what_the_network_does(compute: Callable[..., Tensor]) -> None:
    assert agreement(Function(compute, **layers())) > 25


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = conv(3, 16), conv(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return head(F.relu(self.b(F.relu(self.a(x)))))


def test_hooks_of_the_network_itself_belong_to_it() -> None:
    net = Plain()
    net.register_forward_pre_hook(lambda module, args: ((args[0] - 0.5) * 4,))
    net.register_forward_hook(lambda module, args, output: output * 3)
    assert agreement(net) > 25


def test_hooks_and_methods_set_on_a_layer_belong_to_it() -> None:
    net = Plain()
    net.a.register_forward_hook(lambda module, args, output: output.clamp(-0.1, 0.1) * 5)
    net = nn.Sequential(conv(3, 3), net)
    net[1].b._conv_forward = lambda x, weight, bias: F.conv2d(x.flip(1), weight, bias, padding=1)
    assert agreement(net) > 25


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "computed",
    [nn.utils.weight_norm, nn.utils.spectral_norm, parametrizations.weight_norm, parametrizations.spectral_norm,
     parametrizations.orthogonal, lambda layer: prune.l1_unstructured(layer, "weight", 0.3)],
    ids=["weight norm", "spectral norm", "weight norm, parametrized", "spectral norm, parametrized", "orthogonal",
         "pruned"],
)  # fmt: skip
def test_computed_weights_become_plain_exactly(computed: Callable[[nn.Module], nn.Module]) -> None:
    net = Plain()
    net.b = computed(net.b)
    net.train()(inputs())  # spectral norms move on
    net.eval()
    with torch.no_grad():
        expected = net(inputs())
        assert make_weights_plain(net) == ["b.weight"]
        assert torch.equal(net(inputs()), expected)
    assert set(net.state_dict()) == {"a.weight", "a.bias", "b.weight", "b.bias"}
    assert make_weights_plain(net) == []
    assert copy.deepcopy(net) is not net


class Doubled(nn.Module):
    """A parametrization."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight * 2


@pytest.mark.parametrize(
    "computed",
    [
        lambda layer: parametrize.register_parametrization(layer, "weight", Doubled()),
        lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    ],
    ids=["parametrized", "pruned"],
)
def test_a_weight_that_another_layer_holds_stays_when_the_computed_one_becomes_plain(
    computed: Callable[[nn.Module], nn.Module],
) -> None:
    net = Plain()
    net.a, net.first = conv(16, 16), conv(3, 16)
    net.b.weight = net.a.weight
    computed(net.b)
    whole = nn.Sequential(net.first, net).eval()
    with torch.no_grad():
        expected = whole(inputs())
        make_weights_plain(whole)
        assert torch.equal(whole(inputs()), expected)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_code_that_reads_what_a_weight_is_computed_from_is_refused() -> None:
    net = Function(lambda net, x: net.a(x) * net.a.weight_g.mean(), a=nn.utils.weight_norm(conv(3, 16)))
    with pytest.raises(ZooError, match=r"reads what a weight is computed from.*weight_g"):
        make_weights_plain(net, inputs())


def test_tied_layers_are_separated_and_that_is_said() -> None:
    net = Plain()
    net.a = conv(16, 16)
    net.b.weight = net.a.weight
    whole = nn.Sequential(conv(3, 16), net)
    context = Context(Own(), inputs(count=1))
    prepare(whole, context, technique="ptq")
    assert "Quantization: 1.b.weight was tied to 1.a.weight" in context.report.notes[0]


def test_a_graph_that_computes_something_else_is_refused_by_the_name_of_the_module() -> None:
    def compute(net: Any, x: Tensor) -> Tensor:
        return head(net.b(F.relu(net.a(x)) * (2 if isinstance(x, torch.fx.Proxy) else 3)))

    net = Function(compute, a=conv(3, 16), b=conv(16, 16)).eval()
    with pytest.raises(DisagreementError, match=r"Tracing changed what Function computes.*first at 'b'"):
        trace(net, inputs())
    with accept_disagreement() as accepted:
        trace(net, inputs())
    assert len(accepted) == 1


def test_a_reference_names_the_first_layer_behind_which_a_graph_differs() -> None:
    module = trace(nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 8), nn.ReLU(), nn.Flatten()), inputs())
    reference = Reference(module, inputs())
    with torch.no_grad():
        module.get_submodule("2").weight[0] *= 2
    with pytest.raises(DisagreementError, match=r"Breaking it changed .* first at '3'"):
        reference.check(module, "Breaking it")
