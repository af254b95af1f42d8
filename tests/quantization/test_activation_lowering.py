"""Hard-swish, hard-sigmoid and PReLU in the operators that ONNX Runtime computes in integers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime as runtime
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import onnx
from support.functions import Function
from support.quantized import Classifier, context, pictures
from zoo.export.exporter import export_onnx
from zoo.quantization.activation_lowering import lower_activations
from zoo.quantization.lowering import lower_operators
from zoo.surgery import propagate_shapes, signal_to_error, trace
from zoo_techniques.ptq import Ptq, PtqConfig
from zoo_techniques.qat import Qat, QatConfig

#: What may be computed in float: the network's input is rounded and its last layer gives floats.
_AROUND = {"QuantizeLinear": 1, "DequantizeLinear": 2, "Gemm": 1, "MatMul": 1, "Add": 1}


def conv(*sizes: int, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(*sizes, 3, padding=1, **options)


class MobileBlock(nn.Module):
    """Expansion, depthwise convolution, squeeze-and-excitation and projection, as in MobileNetV3."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.dw, self.project = conv(3, 16, stride=2), conv(16, 16, groups=16), nn.Conv2d(16, 8, 1)
        self.reduce, self.expand = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 16, 1)
        self.act, self.gate = nn.Hardswish(), nn.Hardsigmoid()
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.dw(self.act(self.stem(x))))
        x = x * self.gate(self.expand(self.reduce(self.pool(x)).relu()))
        return self.head(self.pool(self.project(x)).flatten(1))


def written_out(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    x = x * (F.relu6(x + 3.0) / 6)
    return net.head(net.b(x * torch.clamp(0.2 * x + 0.5, 0, 1)).mean((2, 3)))


def added(net: Any, x: Tensor) -> Tensor:
    x = net.a(x).relu()
    return net.head((x + F.hardswish(net.b(x))).mean((2, 3)))


def with_slopes(net: Any, x: Tensor) -> Tensor:
    return net.head(net.many(net.b(net.one(net.a(x)))).mean((2, 3)))


def layers(**more: nn.Module) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {"a": conv(3, 8), "b": conv(8, 8), "head": nn.Linear(8, 10), **more}


def sloped() -> nn.Module:
    many = nn.PReLU(8)
    with torch.no_grad():
        many.weight.copy_(torch.linspace(-0.2, 0.9, 8))
    return Function(with_slopes, **layers(one=nn.PReLU(), many=many))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "squeeze and excitation": MobileBlock,
    "written out": lambda: Function(written_out, **layers()),
    "added": lambda: Function(added, **layers()),
    "slopes": sloped,
}


def example() -> Tensor:
    return 4 * pictures(2, channels=3, size=64) - 2


@pytest.mark.parametrize("name", NETWORKS)
def test_plain_onnx_runtime_computes_them_in_integers_and_as_the_network(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, x, where = NETWORKS[name]().eval(), example(), context(Classifier(), example())
    with torch.no_grad():
        expected = net(x)
    technique = Ptq(PtqConfig(observer="minmax"))
    module = technique.finish(technique.rewrite(net, where).eval(), where)
    options = runtime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "seen.onnx"), 4
    runtime.InferenceSession(export_onnx(module, where.architecture), options)
    nodes = onnx.load(tmp_path / "seen.onnx").graph.node
    counts: dict[str, int] = {}
    for node in nodes:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    moving = {"Transpose", "Reshape", "Flatten", "Squeeze", "Sub", "Div"}
    floats = {
        kind: n
        for kind, n in counts.items()
        if not kind.startswith(("QLinear", "QGemm")) and kind not in moving
    }
    assert all(n <= _AROUND.get(kind, 0) for kind, n in floats.items()), counts
    with torch.no_grad():
        assert signal_to_error(expected, module(x)) > 25


@pytest.mark.parametrize("name", NETWORKS)
def test_the_rewritten_network_computes_the_same_in_float(name: str) -> None:
    net, x = NETWORKS[name]().eval(), example()
    with torch.no_grad():
        expected = net(x)
    module = trace(net, x)
    propagate_shapes(module, x)
    lower_operators(module, lambda *_: None)
    propagate_shapes(module, x)
    lower_activations(module)
    with torch.no_grad():
        assert signal_to_error(expected, module(x)) > 100
    left = (nn.Hardswish, nn.Hardsigmoid, nn.PReLU)
    assert not any(isinstance(layer, left) for layer in module.modules())


def test_with_all_rounding_off_a_file_still_clips_where_a_hard_sigmoid_does() -> None:
    from support.onnx_models import plain_run
    from zoo.explanation.switchable_file import SwitchableFile

    def gated(net: Any, x: Tensor) -> Tensor:
        return net.head(F.hardsigmoid(net.b(F.hardswish(net.a(x)))).mean((2, 3)))

    net, x, where = Function(gated, **layers()).eval(), example(), context(Classifier(), example())
    with torch.no_grad():
        for layer in (net.a, net.b):
            layer.weight.mul_(6)  # type: ignore[operator]
        expected = net(x)
    technique = Ptq(PtqConfig(observer="minmax", bias_correction=False))
    module = technique.rewrite(net, where).eval()
    weights = {
        f"{name}.weight": module.get_submodule(name).weight.detach().numpy() for name in ("a", "b", "head")
    }
    weights = {name: weight.copy() for name, weight in weights.items()}
    switches = SwitchableFile(export_onnx(technique.finish(module, where), where.architecture), weights)
    off = switches.file([each.name for each in switches.quantizers])
    spec = Classifier.input
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (spec.mean, spec.std))
    assert signal_to_error(expected, torch.from_numpy(plain_run(off, (x * std + mean).numpy()))) > 60


def test_a_slope_above_one_stays_as_it_is() -> None:
    slopes = nn.PReLU(8)
    with torch.no_grad():
        slopes.weight[3], slopes.weight[4] = 1.5, 0.1
    net = Function(with_slopes, **layers(one=nn.Identity(), many=slopes)).eval()
    module = trace(net, example())
    propagate_shapes(module, example())
    lower_activations(module)
    assert any(isinstance(layer, nn.PReLU) for layer in module.modules())
    with torch.no_grad():
        assert torch.equal(net(example()), module(example()))  # the graph has the layers of the network


def test_a_shared_layer_is_not_changed_for_one_of_its_uses() -> None:
    def twice(net: Any, x: Tensor) -> Tensor:
        x = net.b(F.hardsigmoid(net.a(x)))
        return net.head(net.b(F.hardswish(x)).mean((2, 3)))

    net = Function(twice, **layers()).eval()
    with torch.no_grad():
        expected = net(example())
    module = trace(net, example())
    propagate_shapes(module, example())
    lower_activations(module)
    with torch.no_grad():
        assert signal_to_error(expected, module(example())) > 100


def test_slopes_go_on_learning() -> None:
    where = context(Classifier(), example())
    module = Qat(QatConfig()).rewrite(sloped(), where)
    assert isinstance(module, fx.GraphModule)
    module.train()(example()).square().mean().backward()
    gradient = module.get_submodule("many").weight.grad
    assert isinstance(gradient, Tensor)
    assert float(gradient.abs().min()) > 0
