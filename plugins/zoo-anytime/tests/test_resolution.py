"""resolution computes at the largest size within a budget, with the weights of the network."""

from dataclasses import replace

import pytest
import torch
from small_classifier import Classifier
from torch import nn

import onnx
from zoo import plugins
from zoo.contracts import Context
from zoo.cost.module_cost import model_cost
from zoo.errors import NoEffectError, UsageError, ZooError
from zoo.testing import attempt, technique_checks
from zoo_anytime.early_exit import EarlyExit
from zoo_anytime.resolution import Resolution, ResolutionConfig, reduced

EXAMPLE = torch.rand(1, 3, 32, 24, generator=torch.Generator().manual_seed(0))


class Rectangular(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.input = replace(self.input, example=(32, 24))


TestResolution = technique_checks(Resolution, architecture=Rectangular())


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return Rectangular().build()


def rewritten(network: nn.Module, **options: object) -> nn.Module:
    context = Context(Rectangular(), EXAMPLE)
    return Resolution(ResolutionConfig(**options)).rewrite(network, context).eval()


@pytest.mark.parametrize(
    ("options", "size"),
    [({}, (22, 16)), ({"macs": 0.8}, (28, 21)), ({"macs": 0.26}, (16, 12)), ({"height": 10}, (10, 8))],
)
@torch.no_grad()
def test_it_computes_what_the_network_computes_at_that_size(
    network: nn.Module, options: dict[str, object], size: tuple[int, int]
) -> None:
    wanted, whole = network(reduced(EXAMPLE, size)), model_cost(network, EXAMPLE).macs
    net = rewritten(network, **options)
    assert torch.allclose(net(EXAMPLE), wanted, atol=1e-5)
    if "macs" in options:
        assert model_cost(net, EXAMPLE).macs <= options["macs"] * whole


def test_images_are_reduced_without_leaving_pixels_out() -> None:
    images = torch.rand(1, 3, 32, 24)
    assert torch.allclose(reduced(images, (16, 12)), nn.functional.avg_pool2d(images, 2))
    assert torch.allclose(reduced(images, (10, 8)).mean((2, 3)), images.mean((2, 3)), atol=0.05)
    flat = torch.full((1, 3, 32, 24), 0.3)
    assert torch.allclose(reduced(flat, (9, 7)), flat[:, :, :9, :7])


def test_what_cannot_be_is_refused(network: nn.Module) -> None:
    with pytest.raises(UsageError, match="computes at a height of 32 already"):
        rewritten(network, height=40)
    with pytest.raises(NoEffectError, match="needs at most 1% of the MACs"):
        rewritten(network, macs=0.01)
    fixed = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 32 * 24, 6)).eval()
    with pytest.raises(ZooError, match="its weights are made for one size"):
        rewritten(fixed)
    with pytest.raises(ZooError, match="resolution is for classifiers"):
        Resolution().rewrite(network, Context(plugins.architecture("unet"), EXAMPLE))


def test_a_smaller_network_may_have_exits() -> None:
    trial = attempt([Resolution(), EarlyExit()], Rectangular())
    assert trial.comparison.agrees, trial.comparison.first
    assert [node.op_type for node in onnx.load_from_string(trial.exported).graph.node].count("If") == 1
