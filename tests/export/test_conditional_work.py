"""Work that no image of a batch needs is skipped, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import onnx
from onnx import GraphProto
from zoo.contracts import Architecture, InputSpec, OutputSpec
from zoo.cost import onnx_cost
from zoo.engines.onnxruntime import OnnxRuntimeEngine
from zoo.export.exporter import export_onnx
from zoo.onnx.check import check_onnx


class Early(nn.Module):
    """Three convolutions, and after each an answer that is final for images of few enough brightness."""

    def __init__(self, per_image: bool = True) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, 4, 3, padding=1) for channels in (3, 4, 4))
        self.heads = nn.ModuleList(nn.Linear(4, 5) for _ in range(3))
        self.per_image = per_image

    def forward(self, x: Tensor) -> Tensor:
        bright = x.mean((1, 2, 3), keepdim=False)[:, None]
        answers = []
        for conv, head in zip(self.convs, self.heads, strict=True):
            x = conv(x).relu()
            answers.append(head(x.mean((2, 3))))
        first, second, third = answers
        if not self.per_image:  # classes from here and there
            return torch.where(first > second, first, third)
        return torch.where(bright < 0.3, first, torch.where(bright < 0.6, second, third))


class EarlyArchitecture(Architecture):
    id = "early"
    summary = "ends early"
    task = "classification"
    input = InputSpec("rgb", 3, example=(16, 16))
    output = OutputSpec("logits", 5)


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)


def convolutions(graph: GraphProto) -> list[str]:
    return [node.name for node in graph.node if node.op_type == "Conv"]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return Early().eval()


@pytest.fixture(scope="module")
def exported(network: nn.Module) -> bytes:
    return export_onnx(network, EarlyArchitecture())


def test_what_a_choice_may_not_need_is_in_its_branch(exported: bytes) -> None:
    graph = onnx.load_from_string(exported).graph
    held = [convolutions(each) for each in graphs(graph)]
    assert [each for each in held if each] == [["convs.0"], ["convs.1"], ["convs.2"]]
    for part in graphs(graph):  # engines prepare weights where they find them
        names = {tensor.name for tensor in part.initializer}
        assert {f"{conv}.weight" for conv in convolutions(part)} <= names
    onnx.checker.check_model(exported, full_check=True)
    check_onnx(exported, EarlyArchitecture.input, EarlyArchitecture.output)


@pytest.mark.parametrize("brightness", [[0.1], [0.4], [0.9], [0.1, 0.2], [0.1, 0.4, 0.9], [0.9, 0.1]])
def test_every_image_gets_its_answer_whatever_the_batch(
    network: nn.Module, exported: bytes, brightness: list[float]
) -> None:
    inputs = torch.rand(len(brightness), 3, 16, 16) * 0.1 + torch.tensor(brightness)[:, None, None, None]
    with torch.no_grad():
        wanted = network(inputs).numpy()
    found = OnnxRuntimeEngine().open(exported, threads=1).run(inputs.numpy())
    assert np.allclose(found, wanted, atol=1e-5)


def test_the_cost_of_a_file_counts_all_branches(network: nn.Module, exported: bytes) -> None:
    cost = onnx_cost(exported, (1, 3, 16, 16))
    assert cost.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert cost.macs == 16 * 16 * 9 * 4 * (3 + 4 + 4) + 3 * 4 * 5
    assert [layer.name for layer in cost.layers] == [
        "convs.0",
        "heads.0",
        "convs.1",
        "heads.1",
        "convs.2",
        "heads.2",
    ]


class Masked(nn.Module):
    """A convolution, and a second one where the image is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Conv2d(4, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        y = torch.where(x.mean(1, keepdim=True) < 0.5, y, self.second(y).relu())
        logits: Tensor = self.head(y).mean((2, 3))
        return logits


def test_a_choice_for_each_position_is_a_branch_where_no_position_may_need_it() -> None:
    torch.manual_seed(0)
    net = Masked().eval()
    data = export_onnx(net, EarlyArchitecture())
    held = [convolutions(each) for each in graphs(onnx.load_from_string(data).graph)]
    assert [each for each in held if each] == [["first", "head"], ["second"]]
    dark, bright = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    bright[:, :, 3, 5] = 1
    session = OnnxRuntimeEngine().open(data, threads=1)
    for inputs in (dark, bright, torch.cat([dark, bright])):
        with torch.no_grad():
            assert np.allclose(session.run(inputs.numpy()), net(inputs).numpy(), atol=1e-5)


def test_a_choice_of_single_values_needs_both_sides() -> None:
    data = export_onnx(Early(per_image=False).eval(), EarlyArchitecture())
    assert not [node for node in onnx.load_from_string(data).graph.node if node.op_type == "If"]
