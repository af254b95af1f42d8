"""`qat` with widths of single layers: given by name, or assigned by what rounding each layer does."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import fx, nn

from support.quantized import SmallUNet, context, pictures, quantized
from zoo.contracts import SilentReporter
from zoo.errors import UnknownIdError, UsageError
from zoo.export.exporter import export_onnx
from zoo.modules.output_tree import primary_output
from zoo.options import format_options, parse_options
from zoo.quantization.prepare import freeze
from zoo.quantization.quantized_layers import QuantConv2d
from zoo_techniques.qat import LayerBits, Qat
from zoo_techniques.qat.mixed_precision import WIDTHS, assign_widths, errors_by_width, round_weight
from zoo_techniques.qat.technique import QatConfig

onnx = pytest.importorskip("onnx")


def widths(module: nn.Module) -> dict[str, int]:
    return {
        name: layer.weight_quantizer.bits
        for name, layer in module.named_modules()
        if isinstance(layer, QuantConv2d)
    }


def average(module: nn.Module, chosen: dict[str, int]) -> float:
    sizes = {name: module.get_submodule(name).weight.numel() for name in chosen}
    return sum(chosen[name] * size for name, size in sizes.items()) / sum(sizes.values())


def given(*texts: str) -> tuple[LayerBits, ...]:
    return tuple(LayerBits.read(text) for text in texts)


def test_layers_get_the_widths_that_their_names_were_given() -> None:
    module, _ = quantized(
        SmallUNet().build(), pictures(1), weight_bits=4, layers=given("down*:6", "down1.conv2:3", "head:8")
    )
    found = widths(module)
    assert found["down1.conv1"] == found["down4.conv2"] == 6
    assert found["down1.conv2"] == 3, "the last one counts"
    assert found["head"] == 8
    assert {found[name] for name in found if not name.startswith(("down", "head"))} == {4}


def test_layers_in_float_do_not_count_in_an_average() -> None:
    module, _ = quantized(
        SmallUNet().build(), pictures(1), mixed=4.0, layers=given("down*:float16", "head:8")
    )
    found = widths(module)
    assert not any(name.startswith("down") for name in found)
    assert 3.5 < average(module, found) <= 4.0


def test_a_pattern_that_fits_no_layer_is_refused_by_name() -> None:
    with pytest.raises(UnknownIdError, match=r"qat: layers: 'haed' matches no layer.*did you mean 'head'"):
        quantized(SmallUNet().build(), pictures(1), layers=given("haed:8"))


def test_an_average_is_reached_and_the_report_says_how() -> None:
    net, report = SmallUNet().build(), SilentReporter()
    where = context(SmallUNet(), pictures(2))
    where.report = report
    module = Qat(QatConfig(mixed=4.5, layers=given("head:8"))).rewrite(net, where)
    found = widths(module)
    assert found["head"] == 8
    assert set(found.values()) <= set(WIDTHS)
    assert len(set(found.values())) > 2, "or one width for all would do"
    assert 4.2 < average(module, found) <= 4.5
    assert f"weights of {average(module, found):.2f} bits on average" in report.notes[0]
    assert "head" in report.notes[0].partition("8: ")[2]


class TwoPaths(nn.Module):
    """The sum of two layers of one size, of which one hardly counts."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.loud, self.quiet = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
        with torch.no_grad():
            self.quiet.weight.mul_(1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.loud(x) + self.quiet(x)


def test_what_matters_less_gets_fewer_bits_and_the_weights_stay_as_they_were() -> None:
    net = fx.symbolic_trace(TwoPaths())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    layers = {"loud": net.loud, "quiet": net.quiet}
    for wanted, expected in ((8, (8, 8)), (5, (8, 2)), (4, (6, 2)), (2, (2, 2))):
        chosen = assign_widths(net, layers, [pictures(2)], wanted, {}, per_channel=True)
        assert (chosen["loud"], chosen["quiet"]) == expected
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    pinned = assign_widths(net, layers, [pictures(2)], 5, {"quiet": 8}, per_channel=True)
    assert pinned == {"loud": 2, "quiet": 8}


class TwoHeads(nn.Module):
    """A layer that is shared under two names, and heads of which only that of the main output counts."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.again = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.again.weight = self.first.weight
        self.main, self.aside = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.again(self.first(x).relu()).relu()
        return {"aside": self.aside(y), "out": self.main(y)}


def test_errors_are_those_of_the_main_output_computed_whole() -> None:
    net, x = TwoHeads(), pictures(2)
    layers = {name: net.get_submodule(name) for name in ("first", "main", "aside")}
    found = errors_by_width(fx.symbolic_trace(net), layers, [x], primary_output, per_channel=True)
    with torch.no_grad():
        expected = net(x)["out"]
        for name, errors in found.items():
            weight = net.get_submodule(name).weight
            kept = weight.clone()
            for bits, error in zip(WIDTHS, errors, strict=True):
                weight.copy_(round_weight(kept, bits, per_channel=True))
                assert error == pytest.approx(
                    len(x) * float((net(x)["out"] - expected).square().mean()), rel=1e-4
                )
            weight.copy_(kept)
    assert set(found["aside"]) == {0.0}


def test_errors_are_measured_on_few_images_the_fewer_the_larger_they_are() -> None:
    def images(*sizes: tuple[int, int]) -> int:
        counted: list[int] = []
        main = nn.Conv2d(1, 1, 1)
        net = fx.symbolic_trace(nn.Sequential(OrderedDict(main=main)))
        batches = [torch.zeros(count, 1, side, side) for count, side in sizes]

        def keep(output: torch.Tensor) -> torch.Tensor:
            counted.append(len(output))
            return output

        errors_by_width(net, {"main": main}, batches, keep, per_channel=True)
        return sum(counted) // (1 + len(WIDTHS))

    assert images((40, 8), (40, 8), (40, 8)) == 64
    assert images((4, 256), (4, 256), (4, 256)) == 8
    assert images((1, 1024), (1, 1024)) == 1


def test_each_layer_takes_as_many_bits_in_the_file_as_it_was_given() -> None:
    module, _ = quantized(
        SmallUNet().build(), pictures(2), weight_bits=4, layers=given("bottom.conv1:6", "join1.conv1:8")
    )
    data = export_onnx(freeze(module.eval()), SmallUNet())
    found: dict[str, int] = {}
    for tensor in onnx.load_from_string(data).graph.initializer:
        name = tensor.name.partition(":")[0]
        found[name] = found.get(name, 0) + len(tensor.raw_data)
    for name, bits in {"bottom.conv1": 6, "join1.conv1": 8, "bottom.conv2": 4, "down1.conv1": 4}.items():
        assert found[f"{name}.weight"] == module.get_submodule(name).weight.numel() * bits // 8, name


@pytest.mark.parametrize("text", ["head", "head:", ":8", "head:9", "head:1", "head:x", "head:4.5", "head:٤"])
def test_a_width_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(
        UsageError,
        match="a list whose values are each a layer or pattern, a colon and 2 to 8 bits, float or float16",
    ):
        parse_options("qat", QatConfig, {"layers": (text,)})


def test_options_come_back_from_their_text_and_contradictions_are_refused() -> None:
    config = parse_options("qat", QatConfig, {"layers": ("a:b:6", "head:8"), "mixed": "4.5"})
    assert config.layers == (LayerBits("a:b", 6), LayerBits("head", 8))
    assert parse_options("qat", QatConfig, format_options(config)) == config
    with pytest.raises(UsageError, match=r"mixed=4\.5 assigns the widths"):
        parse_options("qat", QatConfig, {"mixed": "4.5", "weight_bits": "4"})


@pytest.mark.parametrize(
    ("options", "precision"),
    [
        ({}, "int8"),
        ({"bits": 4}, "int4"),
        ({"weight_bits": 4}, "int8 w4"),
        ({"mixed": 4.5}, "int8 w4.5 mixed"),
        ({"weight_bits": 4, "layers": given("head:8")}, "int8 w4 mixed"),
    ],
)
def test_the_precision_says_both_widths(options: dict[str, object], precision: str) -> None:
    assert Qat(QatConfig(**options)).precision == precision  # type: ignore[arg-type]
