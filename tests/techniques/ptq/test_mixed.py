"""`ptq(mixed=...)`: layers that stay in float or have other widths."""

from __future__ import annotations

import copy

import numpy as np
import onnxruntime as runtime
import pytest
import torch
from torch import Tensor, fx, nn

import onnx
from support.quantized import SmallUNet, context, pictures
from zoo.contracts import Context, Technique
from zoo.engines.onnxruntime import OnnxRuntimeEngine
from zoo.errors import UnknownIdError, UsageError
from zoo.export.exporter import export_onnx
from zoo.export.int8_coverage import int8_report
from zoo.options import parse_options
from zoo.quantization.fake_quant import FakeQuantize
from zoo.quantization.layer_numbers import LayerNumbers
from zoo.quantization.quantized_layers import QuantConv2d
from zoo.surgery import signal_to_error
from zoo_techniques.ptq import Ptq, PtqConfig
from zoo_techniques.qat import Qat


def applied(net: nn.Module, x: Tensor, *mixed: str, mode: str = "static") -> tuple[fx.GraphModule, Context]:
    where = context(SmallUNet(), x)
    numbers = tuple(map(LayerNumbers.read, mixed))
    technique = Ptq(PtqConfig(mode=mode, observer="minmax", mixed=numbers))  # type: ignore[arg-type]
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

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.act, self.last = nn.Conv2d(4, 8, 3, padding=1), act, nn.Conv2d(8, 12, 1)
        self.kept, self.rounded = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        with torch.no_grad():
            self.kept.weight[3] *= 60
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.first(x))
        return self.shuffle(self.last((self.kept(y) + self.rounded(y)).relu()))


@pytest.mark.parametrize("act", [nn.ReLU(), nn.Hardtanh(0, 0.5)], ids=["relu", "clip"])
def test_a_layer_beside_an_int8_layer_keeps_its_weights_in_the_engine(act: nn.Module) -> None:
    x = pictures(2)
    module, where = applied(Beside(act).eval(), x, "kept")
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
    config = parse_options("ptq", PtqConfig, {"bits": "7", "mixed": ("a", "c:float16")})
    assert Ptq(config).with_float_layers(["b"]).config == parse_options(
        "ptq", PtqConfig, {"bits": "7", "mixed": ("a", "c:float16", "b:float")}
    )


@pytest.mark.parametrize("text", ["", ":6", "head:", "head:9", "head:1", "head:half", "head:4.5", "head:٤"])
def test_numbers_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(
        UsageError, match="a list whose values are each a layer or pattern, alone or with a colon"
    ):
        parse_options("ptq", PtqConfig, {"mixed": (text,)})


class Residual(nn.Module):
    """A picture and what a small network adds to it; the picture passes a convolution, too."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.head = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1)
        self.direct = nn.Conv2d(4, 12, 1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(self.direct(x) + self.head(self.first(x).relu()))


@pytest.mark.parametrize("technique", [Ptq(PtqConfig(observer="minmax")), Qat()])
@pytest.mark.parametrize("numbers", ["float", "float16"])
def test_the_last_layers_compute_unrounded_in_plain_onnx_runtime(technique: Technique, numbers: str) -> None:
    net, x, where = Residual().eval(), pictures(2), context(SmallUNet(), pictures(2))
    option = "mixed" if technique.id == "ptq" else "layers"
    given = (f"direct:{numbers}", f"head:{numbers}")
    technique = type(technique)(parse_options(technique.id, technique.Config, {option: given}))
    module = technique.finish(technique.rewrite(copy.deepcopy(net), where).eval(), where)
    exported = export_onnx(module, where.architecture)
    weights = {tensor.name: tensor for tensor in onnx.load_from_string(exported).graph.initializer}
    stored = onnx.TensorProto.FLOAT16 if numbers == "float16" else onnx.TensorProto.FLOAT
    assert {weights[f"{path}.weight"].data_type for path in ("direct", "head")} == {stored}
    with torch.no_grad():
        for path in ("first", "direct", "head"):  # the same network with the weights that are in the file
            net.get_submodule(path).weight.copy_(module.get_submodule(path).weight)  # type: ignore[operator]
            net.get_submodule(path).bias.copy_(module.get_submodule(path).bias)  # type: ignore[operator]
        expected = net.direct(x) + net.head(module.get_submodule("first")(rounded_input(module, x)).relu())
    session = runtime.InferenceSession(exported)
    found = session.run(None, {"input": x.numpy()})[0]
    assert signal_to_error(net.shuffle(expected).clamp(0, 1), torch.from_numpy(found)) > 90


def rounded_input(module: nn.Module, x: Tensor) -> Tensor:
    (quantizer,) = (q for q in module.modules() if isinstance(q, FakeQuantize) and not q.weight)
    return quantizer(x)  # type: ignore[no-any-return]


class Tokens(nn.Module):
    """A convolution and two linear layers for each of its positions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.kept, self.last = nn.Conv2d(4, 8, 3, 2, 1), nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.kept(self.conv(x).flatten(2).transpose(1, 2)).relu())


def test_linear_layers_are_stored_in_16_bits_and_others_have_the_widths_they_were_given() -> None:
    module, where = applied(Tokens().eval(), pictures(2), "kept:float16", "conv:5")
    assert module.get_submodule("conv").weight_quantizer.bits == 5  # type: ignore[union-attr]
    exported = onnx.load_from_string(export_onnx(module, where.architecture))
    halves = [t for t in exported.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16]
    assert [(tensor.name, len(tensor.raw_data)) for tensor in halves] == [("kept.weight", 2 * 8 * 16)]
    assert "kept" in {node.name for node in exported.graph.node}
