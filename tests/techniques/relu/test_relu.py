"""`relu`: which activations become rectifiers, and how the difference is made good."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from support.rewriting import context, mean_error, odd_net, reasons, rewritten, smooth
from zoo.architectures.timm_models import TimmArchitecture
from zoo.cost import model_cost
from zoo.errors import NoEffectError, UsageError
from zoo.options import parse_options
from zoo.testing.trial import attempt, rewrite
from zoo.testing.workbench import Inert
from zoo_techniques.relu import Relu
from zoo_techniques.relu.technique import ReluConfig


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def kinds(net: nn.Module) -> list[str]:
    """The activations, in order."""
    return [
        type(module).__name__
        for module in net.modules()
        if type(module).__module__ in ("torch.nn.modules.activation", "timm.layers.activations")
    ]


# -------------------------------------------------------------------------------------------------- what changes


def test_every_like_of_a_rectifier_becomes_one() -> None:
    net = odd_net()
    assert kinds(net) == ["LeakyReLU", "PReLU", "SiLU", "GELU", "Hardswish", "ELU"]
    assert kinds(rewritten(Relu(), net, smooth(4))) == ["ReLU"] * 6
    assert kinds(rewritten(Relu(ReluConfig(to="relu6")), net, smooth(4))) == ["ReLU6"] * 6


def test_relu6_and_gates_stay_and_the_last_activation_too() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)
            self.clip, self.gate = nn.ReLU6(), nn.Sigmoid()
            self.mid, self.last = nn.SiLU(), nn.LeakyReLU()
            self.unused = nn.SiLU()

        def forward(self, x: Tensor) -> Tensor:
            x = self.clip(self.conv(x))
            return self.last(self.mid(x) * self.gate(x))

    ctx, net = context(smooth(1)), Gated()
    new = Relu().rewrite(net, ctx)
    assert kinds(new) == ["ReLU6", "Sigmoid", "ReLU", "LeakyReLU", "SiLU"]
    found = reasons(ctx)
    assert "gate" in found["gate"]
    assert "output" in found["last"]
    assert kinds(Relu(ReluConfig(relu6=True)).rewrite(net, ctx))[0] == "ReLU"


class Calls(nn.Module):
    """Activations called in code, one of them in place; (N, 3, H, W) -> (N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.slope = nn.Parameter(torch.rand(8))
        self.act, self.head = nn.SiLU(), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.leaky_relu(self.conv1(x), 0.3, inplace=True)
        x = functional.prelu(self.act(self.conv2(x)), self.slope)
        return self.head(functional.gelu(x, approximate="tanh").mean((2, 3)))


def test_activations_called_in_code_are_replaced_in_a_graph() -> None:
    net, data = Calls().eval(), smooth(12)
    plain = rewritten(Relu(ReluConfig(absorb="none")), net, data)
    assert isinstance(plain, fx.GraphModule)
    called = [node.target for node in plain.graph.nodes if node.op == "call_function"]
    assert called == [functional.relu] * 3
    assert kinds(plain) == ["ReLU"]
    rectified = copy.deepcopy(net)
    with torch.no_grad():
        x = rectified.conv1(data).relu()
        x = rectified.conv2(x).relu().relu().relu()
        torch.testing.assert_close(plain(data), rectified.head(x.mean((2, 3))))
    fitted = rewritten(Relu(), net, data[:8])
    assert mean_error(fitted, net, data[8:]) < 0.3 * mean_error(plain, net, data[8:])


def test_code_that_cannot_be_traced_is_named_and_the_rest_is_done() -> None:
    class Branches(Calls):
        def forward(self, x: Tensor) -> Tensor:
            x = self.act(self.conv1(x))
            if x.mean() > 10:
                x = x + 1
            return self.head(functional.silu(self.conv2(x)).mean((2, 3)))

    ctx = context(smooth(1), lambda: [smooth(4)])
    new = Relu().rewrite(Branches().eval(), ctx)
    assert kinds(new) == ["ReLU"]
    assert "its code calls an activation" in reasons(ctx)["the network"]


# --------------------------------------------------------------------------------------- making it good again


def test_refitting_makes_most_of_it_good_on_inputs_not_seen() -> None:
    net, data = odd_net(), smooth(20)
    fitted = rewritten(Relu(), net, data[:16])
    plain = rewritten(Relu(ReluConfig(absorb="none")), net, data)
    assert mean_error(fitted, net, data[16:]) < 0.3 * mean_error(plain, net, data[16:])


class Leaky(nn.Module):
    """A small U-Net with norms, means and a flattened classifier: what doubling can and cannot pass."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.act1 = nn.PReLU(8)
        self.conv2, self.act2 = nn.Conv2d(8, 8, 3, padding=1), nn.LeakyReLU(0.2)
        self.pool, self.down = nn.AvgPool2d(2), nn.Conv2d(8, 8, 3, padding=1)
        self.act3, self.up = nn.LeakyReLU(0.1), nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.join, self.act4 = nn.Conv2d(16, 6, 3, padding=1), nn.LeakyReLU(-0.3)
        self.maximum, self.flat = nn.MaxPool2d(2), nn.Flatten()
        self.act5, self.squash = nn.LeakyReLU(0.2), nn.AdaptiveAvgPool2d(2)
        self.mix, self.head = nn.Conv2d(6, 6, 1), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act2(self.conv2(self.act1(self.norm(self.conv1(x)))))
        deep = self.act3(self.down(self.pool(x)))
        x = self.act4(self.join(torch.cat([self.up(deep), x], dim=1)))
        x = self.act5(self.mix(self.maximum(x)))
        return self.head(self.flat(self.squash(x)))


def test_doubling_is_exact_and_costs_what_a_hand_count_says() -> None:
    torch.manual_seed(1)
    net, data = Leaky().train(), smooth(4)
    with torch.no_grad():
        for _ in range(5):
            net(data)
        nn.init.uniform_(net.act1.weight, -0.5, 0.5)
        nn.init.uniform_(net.norm.bias)
    ctx = context(data)
    new = Relu(ReluConfig(absorb="double")).rewrite(copy.deepcopy(net).eval(), ctx)
    torch.testing.assert_close(new(data), net.eval()(data), rtol=1e-4, atol=1e-5)
    assert kinds(new) == ["ReLU", "ReLU", "ReLU", "LeakyReLU", "ReLU"]
    assert reasons(ctx) == {"act4": "'maximum' after it is not a linear layer"}
    area = 24 * 24
    by_name = {layer.name: layer.macs for layer in model_cost(new, data[:1]).layers}
    assert by_name["conv1"] == area * 3 * 16 * 9
    assert by_name["conv2"] == area * 16 * 16 * 9
    assert by_name["down"] == area // 4 * 16 * 16 * 9
    assert by_name["up"] == area // 4 * 16 * 8 * 4
    assert by_name["join"] == area * 24 * 6 * 9
    assert by_name["head"] == 48 * 5


def test_only_leaky_rectifiers_can_be_doubled() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 8, 3))
    ctx = context(smooth(1))
    new = Relu(ReluConfig(absorb="double")).rewrite(net, ctx)
    assert kinds(new) == ["SiLU"]
    assert "not a sum of rectifiers" in reasons(ctx)["1"]


# -------------------------------------------------------------------------------------------------- whole recipes


def test_classifier_of_timm_keeps_its_shape_and_its_gates() -> None:
    net, data = TimmArchitecture("mobilenetv3_small_050").build().eval(), smooth(2, size=32)
    new = rewritten(Relu(), net, data)
    assert new(data).shape == (2, 1000)
    assert "Hardswish" in kinds(net)
    assert "Hardswish" not in kinds(new)
    assert kinds(new).count("Hardsigmoid") == kinds(net).count("Hardsigmoid") > 0


def test_relu_and_qat_run_in_onnx_runtime() -> None:
    from zoo_techniques.qat import Qat

    assert attempt([Relu(), Qat()]).agreement > 30


def test_nothing_to_replace_fails_by_name() -> None:
    with pytest.raises(NoEffectError, match="relu changed nothing"):
        rewrite(Relu(), Inert())


def test_options_that_contradict_each_other_are_refused() -> None:
    for wrong in ({"to": "relu6", "relu6": "yes"}, {"to": "relu6", "absorb": "double"}, {"to": "gelu"}):
        with pytest.raises(UsageError):
            parse_options("relu", ReluConfig, wrong)
