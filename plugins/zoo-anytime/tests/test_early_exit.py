"""early-exit answers easy images early, the others as before, and the file skips what is not needed."""

from dataclasses import dataclass

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
from zoo.onnx.early_exits import exit_entropies
from zoo.testing import attempt, technique_checks
from zoo_anytime.decisions import Decision
from zoo_anytime.early_exit import EarlyExit, EarlyExitConfig
from zoo_anytime.early_exit.exits import Exit
from zoo_anytime.exit_loss import ExitLoss

TestEarlyExit = technique_checks(EarlyExit, architecture=Classifier())


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return Classifier().build()


def context(images: int = 256) -> Context:
    generator = torch.Generator().manual_seed(1)
    inputs = pictures(images, generator)
    return Context(Classifier(), inputs[:1], calibration_images=lambda wanted: [inputs])


def pictures(count: int, generator: torch.Generator) -> torch.Tensor:
    """Noise of a strength of its own in each channel of each image."""
    strength = torch.rand(count, 3, 1, 1, generator=generator)
    return strength * torch.rand(count, 3, 16, 16, generator=generator)


def with_exits(network: nn.Module, **options: object) -> nn.Module:
    return EarlyExit(EarlyExitConfig(**options)).rewrite(network, context()).eval()


@dataclass
class Exits:
    """The exits of a rewritten network."""

    network: nn.Module

    def logits(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        """What each exit answers, and the network at the end."""
        found: list[torch.Tensor] = []
        modules = [each for each in self.network.modules() if isinstance(each, Exit)]
        hooks = [each.register_forward_hook(lambda m, i, o: found.append(o)) for each in modules]
        decisions = [each for each in self.network.modules() if isinstance(each, Decision)]
        for each in decisions:
            each.train()  # which passes on what comes later
        last = self.network(inputs)
        for each in decisions:
            each.eval()
        for hook in hooks:
            hook.remove()
        return [*found, last]


def entropy(logits: torch.Tensor) -> torch.Tensor:
    return torch.distributions.Categorical(logits=logits).entropy()


@torch.no_grad()
def test_an_image_leaves_at_the_first_exit_that_is_sure(network: nn.Module) -> None:
    inputs = pictures(64, torch.Generator().manual_seed(3))
    first, second, last = Exits(with_exits(network)).logits(inputs)
    # Half-way between two images, so that rounding sends none of them elsewhere.
    limits = tuple(float(entropy(each).sort().values[31:33].mean()) for each in (first, second))
    net = with_exits(network, entropy=limits)
    sure = entropy(first) < limits[0], entropy(second) < limits[1]
    assert all(0 < int(each.sum()) < 64 for each in sure)
    wanted = torch.where(sure[0][:, None], first, torch.where(sure[1][:, None], second, last))
    assert torch.allclose(net(inputs), wanted, atol=1e-6)


@torch.no_grad()
def test_without_sure_images_it_is_the_network_it_was(network: nn.Module) -> None:
    inputs = torch.rand(8, 3, 16, 16)
    wanted = network(inputs)
    assert torch.allclose(with_exits(network, entropy=(0.0,))(inputs), wanted, atol=1e-5)


@torch.no_grad()
def test_exits_begin_as_a_fit_to_the_networks_own_answers(network: nn.Module) -> None:
    inputs = pictures(256, torch.Generator().manual_seed(2))
    *early, last = Exits(with_exits(network)).logits(inputs)
    centered = last - last.mean(0)
    for logits in early:
        assert (logits - last).square().mean() < 0.3 * centered.square().mean()


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"exits": 1}, ["1.1"]),
        ({"exits": 3}, ["1.0", "1.1", "2.1"]),
        ({"at": ("1", "2.0")}, ["1.1", "2.0"]),
    ],
)
def test_exits_are_where_they_are_asked_for_or_at_equal_distances(
    network: nn.Module, options: dict[str, object], names: list[str]
) -> None:
    net = with_exits(network, **options)
    assert sum(isinstance(each, Exit) for each in net.modules()) == len(names)
    called = [str(node.target) for node in net.graph.nodes if node.op == "call_module"]
    for number, name in enumerate(names, 1):
        before = called[: called.index(f"exit_{number}")]
        assert any(each.startswith(name) for each in before)
        rest = called[called.index(f"exit_{number}") :]
        assert not any(each.startswith(f"{name}.") for each in rest)


def test_what_cannot_be_is_refused_with_what_can(network: nn.Module) -> None:
    with pytest.raises(UsageError, match="no exit is possible after '3'") as refused:
        with_exits(network, at=("3",))
    assert "1.0  1.1  2" in str(refused.value.hint)
    with pytest.raises(UsageError, match="12 exits were asked for"):
        EarlyExit(EarlyExitConfig(exits=12)).rewrite(network, context())
    with pytest.raises(UsageError, match="2 exits, but 3 entropies"):
        with_exits(network, entropy=(0.1, 0.2, 0.3))
    with pytest.raises(ZooError, match="is for classifiers"):
        EarlyExit().rewrite(network, Context(plugins.architecture("unet"), torch.rand(1, 3, 16, 16)))


def test_in_training_every_exit_learns_from_every_image(network: nn.Module) -> None:
    net = with_exits(network, entropy=(100.0,)).train()
    inputs, targets = torch.rand(4, 3, 16, 16), torch.tensor([0, 1, 2, 3])
    loss = ExitLoss()
    end = loss.begin(net)
    outputs = net(inputs)
    loss.compute(inputs, outputs, targets, net).backward()
    for number in (1, 2):
        assert net.get_submodule(f"exit_{number}").classifier.weight.grad.abs().sum() > 0
    assert net.get_submodule("3.2").weight.grad is None  # that of the last output comes on top
    net.zero_grad()
    loss.compute(inputs, net(inputs), None, net).backward()
    assert net.get_submodule("exit_1").classifier.weight.grad.abs().sum() > 0
    end()
    net.eval()


def test_exits_that_are_trained_by_themselves_leave_the_network_as_it_was(network: nn.Module) -> None:
    trial = attempt([EarlyExit(EarlyExitConfig(joint=False))], Classifier(), steps=2)
    before, after = dict(trial.original.named_parameters()), dict(trial.finished.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(value.requires_grad for value in after.values())
    net = with_exits(network)
    exits = {name: value for name, value in net.named_parameters() if name.startswith("exit_")}
    assert exits
    assert not any(
        torch.equal(after[name], value) for name, value in exits.items() if name.endswith("weight")
    )


def test_pruned_and_in_integers_the_file_still_skips_what_is_not_needed() -> None:
    others = [plugins.technique(name) for name in ("channel-prune", "qat")]
    trial = attempt([EarlyExit(EarlyExitConfig(entropy=(1.7,))), *others], Classifier())
    assert trial.comparison.agrees, trial.comparison.first
    assert exit_entropies(trial.exported) == pytest.approx([1.7, 1.7])
    graph = onnx.load_from_string(trial.exported).graph
    layers = [node.name for node in graph.node if node.op_type == "Conv"]
    assert any(name.startswith("exit_1") for name in layers)
    assert not [name for name in layers if name.startswith(("exit_2", "2."))]
    inputs = np.random.default_rng(0).random((3, 3, 16, 16), dtype=np.float32)
    session = OnnxRuntimeEngine().open(trial.exported, threads=1)
    together = session.run(inputs)
    apart = np.concatenate([session.run(each[None]) for each in inputs])
    assert np.allclose(together, apart, atol=1e-4)
