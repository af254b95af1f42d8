"""`ptq(mixed=...)`: layers that stay in float."""

from __future__ import annotations

import copy

import numpy as np
import onnxruntime as runtime
import pytest
import torch
from torch import Tensor, fx, nn

import onnx
from support.quantized import SmallUNet, context, pictures
from zoo.contracts import Context
from zoo.engines.onnxruntime import OnnxRuntimeEngine
from zoo.errors import UnknownIdError
from zoo.export.exporter import export_onnx
from zoo.export.int8_coverage import int8_report
from zoo.options import parse_options
from zoo.quantization.fake_quant import FakeQuantize
from zoo.quantization.quantized_layers import QuantConv2d
from zoo.surgery import signal_to_error
from zoo_techniques.ptq import Ptq, PtqConfig


def applied(net: nn.Module, x: Tensor, *mixed: str, mode: str = "static") -> tuple[fx.GraphModule, Context]:
    where = context(SmallUNet(), x)
    technique = Ptq(PtqConfig(mode=mode, observer="minmax", mixed=mixed))  # type: ignore[arg-type]
    module = technique.rewrite(copy.deepcopy(net).eval(), where)
    return technique.finish(module.eval(), where), where  # type: ignore[return-value]


def chain() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [part for _ in range(3) for part in (nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())]
    return nn.Sequential(*layers, nn.Conv2d(4, 12, 1), nn.PixelShuffle(2)).eval()


def quantized_layers(module: nn.Module) -> list[str]:
    return [path for path, layer in module.named_modules() if isinstance(layer, QuantConv2d)]


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_the_named_layers_keep_their_weights_and_the_others_are_rounded(mode: str) -> None:
    net, x = chain(), pictures(2)
    module, where = applied(net, x, "2", "6", mode=mode)
    assert quantized_layers(module) == ["0", "4"]
    for path in ("2", "6"):
        assert torch.equal(module.get_submodule(path).weight, net.get_submodule(path).weight)  # type: ignore[arg-type]
    assert {"2", "6"} <= {each.layer for each in where.skipped_layers}


def test_the_input_of_a_named_layer_is_not_rounded_where_no_other_layer_takes_it() -> None:
    x = pictures(2)
    module, where = applied(chain(), x, "2")
    activations = [q for q in module.modules() if isinstance(q, FakeQuantize) and not q.weight]
    assert len(activations) == 3, "the image, and the inputs of 4 and 6"
    assert {each.layer: each.reason for each in where.skipped_layers}["0"].startswith(
        "its result is not rounded"
    )
    module, _ = applied(chain(), x, "0")
    with torch.no_grad():
        assert torch.equal(module.get_submodule("0")(x), chain()[0](x)), (
            "an image reaches a float layer as it is"
        )
    assert not any(isinstance(q, FakeQuantize) and "input" in path for path, q in module.named_modules())


class Beside(nn.Module):
    """Two layers that take one tensor; single weights of the first are far larger than the others."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 12, 1)
        self.kept, self.rounded = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        with torch.no_grad():
            self.kept.weight[3] *= 60
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x).relu()
        return self.shuffle(self.last((self.kept(y) + self.rounded(y)).relu()))


def test_a_layer_beside_an_int8_layer_keeps_its_weights_in_the_engine() -> None:
    x = pictures(2)
    module, where = applied(Beside().eval(), x, "kept")
    exported = export_onnx(module, where.architecture)
    usual, as_written = (
        runtime.InferenceSession(exported, disabled_optimizers=off)
        for off in ([], ["WeightBiasQuantization"])
    )
    outputs = [
        session.run(None, {session.get_inputs()[0].name: x.numpy()})[0] for session in (usual, as_written)
    ]
    assert signal_to_error(torch.from_numpy(outputs[1]), torch.from_numpy(outputs[0])) > 60


@pytest.mark.parametrize("mixed", [("down1",), ("down1.conv2", "head"), ("up*", "join?.*")])
def test_a_mixed_unet_computes_the_same_in_the_engine(mixed: tuple[str, ...]) -> None:
    x = pictures(2)
    module, _ = applied(SmallUNet().build(), x, *mixed)
    model = export_onnx(module, SmallUNet())
    onnx.checker.check_model(model, full_check=True)
    with torch.no_grad():
        expected = module(x).clamp(0, 1).numpy()
    found = next(iter(OnnxRuntimeEngine().open(model).run_all(x.numpy()).values()))
    assert np.abs(found - expected).max() < 0.03
    assert len(int8_report(model).int8) > 0


def test_a_pattern_that_names_nothing_is_refused() -> None:
    with pytest.raises(UnknownIdError, match="ptq: mixed: 'heed' matches no layer"):
        applied(SmallUNet().build(), pictures(1), "heed")


def test_more_layers_are_added_to_those_that_were_named() -> None:
    assert parse_options("ptq", PtqConfig, {"mixed": ("a", "b.*")}).mixed == ("a", "b.*")
    assert Ptq(PtqConfig(bits=7, mixed=("a",))).with_float_layers(["b"]).config == PtqConfig(
        bits=7, mixed=("a", "b")
    )
