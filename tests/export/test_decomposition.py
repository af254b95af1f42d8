"""Exporting without a second capture: where it is left out, and that the file computes what the network does."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from support.functions import Function
from zoo.contracts import Architecture, InputSpec, OutputSpec
from zoo.engines.onnxruntime import OnnxRuntimeEngine
from zoo.export import exporter
from zoo.export.decomposition import rename_composite_operators
from zoo.export.rewrite_rules import narrowed_rewrite_rules

pytest.importorskip("onnx")
CHANNELS = 4


class Fixed(Architecture):
    """Four channels in, whatever the network gives out."""

    id = "fixed"
    summary = "four channels"
    input = InputSpec("rgb", CHANNELS, example=(8, 8), fixed_size=True)
    output = OutputSpec("logits", 0)

    def build(self) -> nn.Module:
        raise NotImplementedError


class AnySize(Fixed):
    input = InputSpec("rgb", CHANNELS, example=(8, 8))


def _norm() -> nn.Module:
    norm = nn.BatchNorm2d(CHANNELS)
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            assert tensor is not None
            tensor.copy_(torch.rand(CHANNELS) + 0.5)
    return norm


def _conv() -> nn.Module:
    return nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)


class Residual(nn.Module):
    """As in a ResNet: the sum is written into a fresh tensor, the activation into the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = _conv(), _norm()

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        y += x
        return F.relu_(y)


class SeenTwice(nn.Module):
    """What is written to is read again, so that the name of the operator is not all that matters."""

    def __init__(self, look: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.look = _conv(), look

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        y = F.relu_(self.look(x))
        return torch.cat([x, y + 1.0], 1)


RENAMED = {
    "batch norm and activation": lambda: nn.Sequential(_conv(), _norm(), nn.ReLU(inplace=True)),
    "a chain of activations": lambda: nn.Sequential(
        _conv(), nn.SiLU(True), nn.Hardswish(True), nn.ReLU6(True)
    ),
    "transposed convolutions": lambda: nn.Sequential(
        nn.ConvTranspose2d(CHANNELS, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
        nn.ConvTranspose2d(6, CHANNELS, (2, 3), stride=(2, 1), bias=False),
        Function(lambda net, x: F.conv_transpose2d(x, torch.ones(CHANNELS, 2, 2, 2), dilation=2)),
    ),
    "enlarging by factors": lambda: nn.Sequential(
        nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=1.5, mode="bilinear"), nn.ReLU()
    ),
    "enlarging to the size of another": lambda: Function(
        lambda net, x: sum(
            F.interpolate(F.max_pool2d(x, 2), size=x.shape[-2:], mode=mode)
            for mode in ("nearest", "bilinear")
        )
    ),
    "dropout in place": lambda: nn.Sequential(
        _conv(), nn.Dropout(0.5), nn.Dropout(0.5, inplace=True), nn.ReLU()
    ),
    "a residual sum in place": Residual,
    "a tensor read after it was written to": lambda: SeenTwice(lambda x: x),
    "what dropout hands on": lambda: SeenTwice(lambda x: F.dropout(x, training=False)),
    "a classifier's end": lambda: nn.Sequential(
        _conv(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(CHANNELS, 3)
    ),
}
CAPTURED = {
    "a view": lambda: SeenTwice(lambda x: x[:, :2]),
    "a part": lambda: SeenTwice(lambda x: x.chunk(2, 1)[1]),
    "a reshaped view": lambda: SeenTwice(lambda x: x.reshape(x.shape[0], -1).reshape(x.shape)),
    "a pool to four pixels": lambda: nn.Sequential(_conv(), nn.AdaptiveAvgPool2d(2)),
    "an operator without translation": lambda: Function(lambda net, x: torch.rot90(x, 1, (2, 3))),
}


def _exported(
    net: nn.Module, monkeypatch: pytest.MonkeyPatch, architecture: Architecture
) -> tuple[bytes, list[bool]]:
    """The file, and whether the graph was captured anew."""
    anew: list[bool] = []

    def watched(graph: torch.export.ExportedProgram) -> None:
        rename_composite_operators(graph)
        inner: Callable[..., Any] = graph.run_decompositions

        def run_decompositions(table: Any = None, **options: Any) -> Any:
            result = inner(table, **options)
            anew.append(result is not graph)
            return result

        graph.run_decompositions = run_decompositions  # type: ignore[method-assign]

    monkeypatch.setattr(exporter, "rename_composite_operators", watched)
    return exporter.export_onnx(net, architecture), anew


def _check(net: nn.Module, data: bytes) -> None:
    for batch in (1, 3):
        inputs = torch.randn(batch, CHANNELS, 8, 8)
        with torch.no_grad():
            expected = net(inputs.clone())
        outputs = OnnxRuntimeEngine().open(data, threads=1).run(inputs.numpy())
        torch.testing.assert_close(torch.from_numpy(outputs), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", [Fixed(), AnySize()], ids=["fixed", "any-size"])
@pytest.mark.parametrize("name", RENAMED)
def test_renamed_operators_need_no_second_capture(
    name: str, architecture: Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    net = RENAMED[name]().eval()
    data, anew = _exported(net, monkeypatch, architecture)
    assert anew == [False]
    _check(net, data)


@pytest.mark.parametrize("name", CAPTURED)
def test_what_a_new_name_would_change_is_captured_anew(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = CAPTURED[name]().eval()
    data, anew = _exported(net, monkeypatch, Fixed())
    assert anew == [True]
    _check(net, data)


class Attention(nn.Module):
    """Over pixels, in groups of channels: queries, keys and values of these sizes and so many channels."""

    def __init__(self, *sizes: int, **options: Any) -> None:
        super().__init__()
        self.sizes, self.options = sizes, options

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(2).transpose(1, 2).reshape(x.shape[0], *self.sizes)
        return F.scaled_dot_product_attention(rows, rows * 2.0, rows + 1.0, **self.options).flatten(1)


@pytest.mark.parametrize(
    "attention",
    [
        Attention(64, 4),
        Attention(64, 4, scale=0.1),
        Attention(2, 32, 4),
        Attention(2, 4, 8, 4),
        Attention(2, 4, 8, 4, is_causal=True),
        Attention(2, 2, 2, 8, 4, scale=0.1),
    ],
    ids=lambda attention: f"{len(attention.sizes) + 1}d-{'-'.join(attention.options)}",
)
def test_attention_over_any_number_of_dimensions_exports(attention: nn.Module) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(_conv(), attention).eval()
    _check(net, exporter.export_onnx(net, Fixed()))


def test_an_operator_of_python_numbers_is_left_to_torch() -> None:
    """torch has `aten.eq.int`, and does not dispatch it."""
    program = torch.export.export(nn.ReLU(), (torch.randn(1, 3),))
    rename_composite_operators(program)
    assert program.run_decompositions({}) is program
    with program.graph.inserting_before(next(iter(program.graph.nodes))):
        program.graph.call_function(torch.ops.aten.eq.int, (1, 1))
    assert program.run_decompositions({}) is not program


class Halves(nn.Module):
    """Two slices, the pattern of a rule that has two last nodes."""

    def forward(self, x: Tensor) -> Tensor:
        return x[..., :4] * x[..., 4:].sigmoid()


def test_rules_are_tried_less_often_and_make_what_they_made(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = pytest.importorskip("onnxscript.rewriter").RewriteRule
    tried: list[str] = []
    inner = rule.match

    def watched(self: Any, model: Any, graph: Any, node: Any, *rest: Any, **options: Any) -> Any:
        tried.append(node.op_type)
        return inner(self, model, graph, node, *rest, **options)

    monkeypatch.setattr(rule, "match", watched)
    torch.manual_seed(0)
    net = nn.Sequential(_conv(), nn.ReLU(), Halves()).eval()
    files, tries = [], []
    for context in (contextlib.nullcontext, narrowed_rewrite_rules, contextlib.nullcontext):
        monkeypatch.setattr(exporter, "narrowed_rewrite_rules", context)
        tried.clear()
        files.append(exporter.export_onnx(net, Fixed()))
        tries.append(Counter(tried))
    usual, narrowed, after = tries
    assert files[0] == files[1] == files[2]
    assert usual == after
    assert narrowed < usual
    assert narrowed["Slice"] == usual["Slice"]
