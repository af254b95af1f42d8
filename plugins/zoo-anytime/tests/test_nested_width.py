"""nested-width makes thin networks inside a wide one; each computes on top of the ones before it."""

import numpy as np
import pytest
import torch
from small_classifier import Classifier
from torch import nn

import onnx
from zoo import plugins
from zoo.contracts import Context
from zoo.cost.module_cost import model_cost
from zoo.engines.onnxruntime import OnnxRuntimeEngine
from zoo.errors import UsageError, ZooError
from zoo.onnx.early_exits import exit_entropies, with_exit_entropies
from zoo.surgery import trace
from zoo.testing import attempt, technique_checks
from zoo_anytime.decisions import exits_closed
from zoo_anytime.nested_width import NestedWidth, NestedWidthConfig
from zoo_anytime.nested_width.groups import ChannelGroups

TestNestedWidth = technique_checks(NestedWidth, architecture=Classifier())
EXAMPLE = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return Classifier().build()


def context() -> Context:
    inputs = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    return Context(Classifier(), EXAMPLE, calibration_images=lambda wanted: [inputs])


def divided(network: nn.Module, **options: object) -> nn.Module:
    return NestedWidth(NestedWidthConfig(**options)).rewrite(network, context()).eval()


@torch.no_grad()
def test_a_sub_network_needs_nothing_of_later_groups(network: nn.Module) -> None:
    inputs = torch.rand(5, 3, 16, 16)
    found: dict[int, torch.Tensor] = {}
    net = divided(network, groups=3, entropy=(0.0,))
    for number in (1, 2):
        net.get_submodule(f"exit_{number}").register_forward_hook(
            lambda module, given, output, number=number: found.__setitem__(number, output)
        )
    net(inputs)
    whole = dict(found)
    for kept in (2, 1):
        for name, value in net.named_parameters():
            if f".group_{kept + 1}." in name:
                value.fill_(torch.nan)
        net(inputs)
        assert all(torch.equal(found[number], whole[number]) for number in range(1, kept + 1))
        assert all(not torch.isfinite(found[number]).all() for number in range(kept + 1, 3))


@torch.no_grad()
def test_groups_that_see_all_channels_would_be_the_network_it_was(network: nn.Module) -> None:
    """Where the weights by which groups see later ones are zero, dividing changes nothing."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.in_channels > 3:
            rows, columns = layer.out_channels // 2, layer.in_channels // 2
            layer.weight[:rows, columns:] = 0
    # The statistics of batch norms become those of the images in any case.
    for norm in (each for each in network.modules() if isinstance(each, nn.BatchNorm2d)):
        norm.momentum = None
        norm.train()
    batch = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    network(batch)
    wanted = network.eval()(batch)
    net = divided(network, groups=2)
    with exits_closed(net):
        assert torch.allclose(net(batch), wanted, atol=0.02)


def test_it_takes_the_triangle_of_the_multiplications(network: nn.Module) -> None:
    before = model_cost(network, EXAMPLE).macs
    for groups, share in ((2, 0.75), (4, 0.625)):
        after = model_cost(divided(Classifier().build(), groups=groups), EXAMPLE).macs
        # The first layer sees all colours, and there are classifiers for each sub-network.
        assert share * before < after < (share + 0.06) * before


@torch.no_grad()
def test_channels_that_a_shortcut_pads_stay_with_their_group() -> None:
    torch.manual_seed(0)
    architecture = plugins.architecture("resnet20")
    module = trace(architecture.build().eval(), torch.rand(1, 3, 16, 16))
    groups = ChannelGroups(module, 4)
    last = next(node for node in module.graph.nodes if node.op == "output").args[0]
    for node in module.graph.nodes:
        if node in groups and node is not last:
            found = groups.of(node)
            channels = sorted(channel for group in found for channel in group)
            assert channels == list(range(len(channels)))
            assert {len(group) for group in found} == {len(channels) // 4}
    (pad, *_) = (node for node in module.graph.nodes if node.target is nn.functional.pad)
    assert groups.of(pad)[0] == (0, 1, 8, 9, 10, 11, 24, 25)
    made = NestedWidth().rewrite(architecture.build().eval(), Context(architecture, torch.rand(2, 3, 32, 32)))
    assert made(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_what_cannot_be_divided_is_refused(network: nn.Module) -> None:
    with pytest.raises(UsageError, match="1 sub-networks besides the widest, but 2 entropies"):
        divided(network, groups=2, entropy=(0.1, 0.2))
    normed = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6)
    )
    with pytest.raises(ZooError, match=r"cannot divide the channels at .*GroupNorm"):
        divided(normed)
    flat = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 14 * 14, 6))
    with pytest.raises(ZooError, match="cannot follow the channels at"):
        divided(flat)
    with pytest.raises(ZooError, match="ends in a linear layer"):
        divided(nn.Sequential(network, nn.Softmax(1)))
    with pytest.raises(ZooError, match="nested-width is for classifiers"):
        NestedWidth().rewrite(network, Context(plugins.architecture("unet"), EXAMPLE))


def test_pruned_and_in_integers_the_file_skips_the_groups_that_are_not_needed() -> None:
    others = [plugins.technique(name) for name in ("channel-prune", "qat")]
    trial = attempt([NestedWidth(NestedWidthConfig(groups=2, entropy=(1.7,))), *others], Classifier())
    assert trial.comparison.agrees, trial.comparison.first
    assert exit_entropies(trial.exported) == pytest.approx([1.7])
    graph = onnx.load_from_string(trial.exported).graph
    layers = [node.name for node in graph.node if node.op_type == "Conv"]
    assert any("group_1" in name for name in layers)
    assert not [name for name in layers if "group_2" in name]
    inputs = np.random.default_rng(0).random((3, 3, 16, 16), dtype=np.float32)
    for limit in (0.0, 1e9):
        session = OnnxRuntimeEngine().open(with_exit_entropies(trial.exported, [limit]), threads=1)
        together = session.run(inputs)
        apart = np.concatenate([session.run(each[None]) for each in inputs])
        assert np.allclose(together, apart, atol=1e-4)
