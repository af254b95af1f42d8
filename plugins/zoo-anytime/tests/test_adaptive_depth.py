"""adaptive-depth lets positions halt between residual blocks, and the file skips the blocks that none needs."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from small_classifier import Classifier
from torch import nn

import onnx
from zoo import plugins
from zoo.contracts import Context
from zoo.engines.onnxruntime import OnnxRuntimeEngine
from zoo.errors import UsageError, ZooError
from zoo.export.exporter import export_onnx
from zoo.surgery import trace
from zoo.testing import attempt, technique_checks
from zoo_anytime.adaptive_depth import AdaptiveDepth, AdaptiveDepthConfig
from zoo_anytime.adaptive_depth.halting import Halting
from zoo_anytime.adaptive_depth.ponder_cost import PonderCost
from zoo_anytime.adaptive_depth.stages import find_stages

TestAdaptiveDepth = technique_checks(AdaptiveDepth)
EXAMPLE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
#: The blocks of the small classifier that may be skipped, by stage.
BLOCKS = [["1.0", "1.1"], ["2.1", "2.2"]]


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return Classifier().build()


def context() -> Context:
    inputs = torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    return Context(Classifier(), EXAMPLE, calibration_images=lambda wanted: [inputs])


def pictures(count: int) -> torch.Tensor:
    """Noise of a strength of its own in each channel of each image."""
    generator = torch.Generator().manual_seed(3)
    strength = torch.rand(count, 3, 1, 1, generator=generator)
    return strength * torch.rand(count, 3, 16, 16, generator=generator)


def adaptive(network: nn.Module, **options: object) -> nn.Module:
    return AdaptiveDepth(AdaptiveDepthConfig(**options)).rewrite(network, context()).eval()


def halting_of(network: nn.Module) -> dict[str, Halting]:
    return {name: each for name, each in network.named_modules() if isinstance(each, Halting)}


def let_some_positions_halt(network: nn.Module) -> None:
    """Give the scores weights by which some positions halt before each block, and others do not."""
    generator = torch.Generator().manual_seed(2)
    for each in halting_of(network).values():
        each.pooled.weight.data = 0.5 * torch.randn(each.pooled.weight.shape, generator=generator)
        each.pooled.bias.data.zero_()
        if each.conv is not None:
            each.conv.weight.data = 3 * torch.randn(each.conv.weight.shape, generator=generator)


def convolutions(graph: onnx.GraphProto, inside: bool = False) -> Iterator[tuple[str, bool]]:
    """The convolutions of a graph by name, and whether they are in a branch."""
    for node in graph.node:
        if node.op_type == "Conv":
            yield node.name, inside
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from convolutions(attribute.g, True)


@torch.no_grad()
@pytest.mark.parametrize("spatial", [True, False])
def test_it_starts_as_the_network_it_was(network: nn.Module, spatial: bool) -> None:
    inputs = torch.rand(8, 3, 16, 16)
    wanted = network(inputs)
    found = adaptive(network, spatial=spatial)(inputs)
    assert (found - wanted).square().mean() < 1e-4 * wanted.square().mean()


@torch.no_grad()
@pytest.mark.parametrize("spatial", [True, False])
def test_a_result_is_the_sum_of_states_weighted_by_scores_until_they_reach_the_threshold(
    network: nn.Module, spatial: bool
) -> None:
    """The rule as published, position by position, for the first stage."""
    net = adaptive(network, at=("1",), threshold=0.8, spatial=spatial)
    let_some_positions_halt(net)
    first, second = halting_of(net).values()
    seen: dict[nn.Module, torch.Tensor] = {}
    for each in (first.score, second.score, net.get_submodule("share_1_3")):
        each.register_forward_hook(lambda m, i, o: seen.__setitem__(m, o))
    inputs = pictures(32)
    net(inputs)
    scores = [each.expand(32, 1, 16, 16) for each in (seen[first.score], seen[second.score])]
    early, late = scores[0] >= 0.8, scores[0] + scores[1] >= 0.8
    assert 0 < int(early.sum()) < int(late.sum()) < late.numel()
    states = [network[0](inputs)]
    for block, halted in zip(network[1], (early, late), strict=True):
        states.append(torch.where(halted, states[-1], block(states[-1])))
    weights = [scores[0], scores[1], 1 - scores[0] - scores[1]]
    weights[2] = torch.where(late, 0, weights[2])
    weights[1] = torch.where(early, 0, torch.where(late, 1 - scores[0], weights[1]))
    weights[0] = torch.where(early, 1, weights[0])
    wanted = sum(weight * state for weight, state in zip(weights, states, strict=True))
    assert torch.allclose(seen[net.get_submodule("share_1_3")], wanted, atol=1e-5)


def test_stages_are_found_in_any_network_by_their_sums(network: nn.Module) -> None:
    assert [list(stage.blocks) for stage in find_stages(trace(network, EXAMPLE))] == BLOCKS
    resnet = trace(plugins.architecture("resnet20").build().eval(), torch.rand(1, 3, 32, 32))
    stages = find_stages(resnet)
    assert [(stage.name, len(stage.blocks)) for stage in stages] == [
        ("layer1", 3),
        ("layer2", 2),
        ("layer3", 2),
    ]
    acts = [[str(node.target) for node in stage.states] for stage in stages]
    assert acts[1] == ["layer2.0.act2", "layer2.1.act2", "layer2.2.act2"]

    class Apart(nn.Module):
        """Blocks before activations, the middle one's result read twice, around all of them a long link."""

        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, padding=1)
            self.blocks = nn.ModuleList(
                nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)) for _ in range(3)
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            first = self.stem(x)
            second = first + self.blocks[0](first)
            third = second + self.blocks[1](second)
            fourth = third + self.blocks[2](third)
            return (first + fourth).relu() + third

    found = find_stages(trace(Apart().eval(), EXAMPLE))
    assert [list(stage.blocks) for stage in found] == [["blocks.0.1", "blocks.1.1"], ["blocks.2.1"]]


def test_without_residual_blocks_it_is_refused_with_what_there_is(network: nn.Module) -> None:
    plain = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
    with pytest.raises(ZooError, match="adaptive-depth finds no residual blocks in Sequential") as refused:
        adaptive(plain)
    assert "early-exit" in str(refused.value.hint)
    with pytest.raises(UsageError, match="no residual blocks can be skipped in '3'") as unknown:
        adaptive(network, at=("3",))
    assert "1  2" in str(unknown.value.hint)
    assert len(halting_of(adaptive(network, at=("2",)))) == 2


def test_the_ponder_cost_is_the_share_of_blocks_and_lowers_by_higher_scores(network: nn.Module) -> None:
    net = adaptive(network)
    cost = PonderCost(0.99)
    end = cost.begin(net)
    inputs = torch.rand(4, 3, 16, 16)

    def measured() -> torch.Tensor:
        return cost.compute(inputs, net(inputs), None, net)

    before = measured()
    assert 0.99 < before.item() <= 1
    before.backward()
    biases = [each.pooled.bias for each in halting_of(net).values()]
    assert all(bias.grad.item() < 0 for bias in biases)
    with torch.no_grad():
        biases[0].fill_(10.0)  # all positions halt before the first of four blocks
        assert 0.49 < measured().item() <= 0.5
        biases[2].fill_(10.0)
        assert measured().item() == 0
    end()
    assert not any(each.score._forward_hooks for each in halting_of(net).values())


@torch.no_grad()
def test_in_the_file_every_block_is_skipped_that_no_position_needs(network: nn.Module) -> None:
    net = adaptive(network)
    let_some_positions_halt(net)
    for each in halting_of(net).values():
        each.pooled.weight.data /= 100
        each.conv.weight.data /= 100
        each.pooled.bias.data.fill_(10.0)
    for name in ("1.0.conv1", "2.1.conv1"):  # what is skipped may hold anything
        net.get_submodule(name).weight.data.fill_(torch.nan)
    data = export_onnx(net, Classifier())
    skipped = {name for name, inside in convolutions(onnx.load_from_string(data).graph) if inside}
    assert skipped == {
        "1.0.conv1", "1.0.conv2", "1.1.conv1", "1.1.conv2", "halting_1_2.conv", "halting_1_2.pooled",
        "2.1.conv1", "2.1.conv2", "2.2.conv1", "2.2.conv2", "halting_2_2.conv", "halting_2_2.pooled",
    }  # fmt: skip
    inputs = np.random.default_rng(0).random((2, 3, 16, 16), dtype=np.float32)
    assert np.isfinite(OnnxRuntimeEngine().open(data, threads=1).run(inputs)).all()


@torch.no_grad()
@pytest.mark.parametrize("spatial", [True, False])
def test_the_file_answers_each_image_as_torch_does_whatever_the_batch(
    network: nn.Module, spatial: bool
) -> None:
    net = adaptive(network, spatial=spatial, threshold=0.8)
    let_some_positions_halt(net)
    inputs = pictures(6)
    session = OnnxRuntimeEngine().open(export_onnx(net, Classifier()), threads=1)
    wanted = net(inputs).numpy()
    assert np.allclose(session.run(inputs.numpy()), wanted, atol=1e-4)
    apart = np.concatenate([session.run(each[None].numpy()) for each in inputs])
    assert np.allclose(apart, wanted, atol=1e-4)


@pytest.mark.parametrize("rounding", ["ptq", "qat"])
def test_pruned_and_in_integers_the_file_still_skips_what_is_not_needed(rounding: str) -> None:
    others = [plugins.technique(name) for name in ("channel-prune", rounding)]
    trial = attempt([AdaptiveDepth(), *others], Classifier())
    assert trial.comparison.agrees, trial.comparison.first
    found = dict(convolutions(onnx.load_from_string(trial.exported).graph))
    assert all(found[f"{stage[0]}.conv1"] for stage in BLOCKS)
    widths = {
        name: each.weight.shape[0] for name, each in trial.finished.named_modules() if name == "1.0.conv1"
    }
    assert widths == {"1.0.conv1": 4}
