"""`stage-prune` on U-Nets, on encoder-decoders of other forms and on classifiers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from support.surgery_nets import context, parameters, relative_error, shapes, small_unet, smooth
from zoo.architectures.timm_models import TimmArchitecture
from zoo.contracts import Context
from zoo.cost import model_cost
from zoo.errors import UnknownIdError, UsageError, ZooError
from zoo.surgery import trace
from zoo_techniques.stage_prune import StagePrune
from zoo_techniques.stage_prune.technique import StagePruneConfig


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def pruned(model: nn.Module, ctx: Context | None = None, **options: Any) -> nn.Module:
    return StagePrune(StagePruneConfig(**options)).rewrite(copy.deepcopy(model), ctx or context())


# ----------------------------------------------------------------------------------------------------- the U-Net


def test_a_dropped_stage_takes_its_encoder_and_its_decoder_with_it() -> None:
    net = small_unet()
    gone = ("bottom.", "up4.", "join4.")
    left = {name: shape for name, shape in shapes(net).items() if not name.startswith(gone)}
    # up3 now takes what the fourth encoder stage gives, which has as many channels as the decoder stage had
    assert shapes(pruned(net)) == left


def test_a_kept_decoder_stage_loses_the_channels_of_the_dropped_up_convolution() -> None:
    net = small_unet()
    found = shapes(pruned(net, decoder="keep"))
    assert found["join4.conv1.weight"] == (12, 12, 3, 3)
    gone = {"bottom.conv1", "bottom.conv2", "up4"}
    assert {name.rpartition(".")[0] for name in shapes(net)} - {n.rpartition(".")[0] for n in found} == gone


@pytest.mark.parametrize("decoder", ["drop", "keep"])
@pytest.mark.parametrize("drop", [1, 2, 3, 4])
def test_output_has_its_size_at_every_input_size(drop: int, decoder: str) -> None:
    net = small_unet()
    found = pruned(net, drop=drop, decoder=decoder, refine=False)
    for height, width in ((16, 32), (48, 16)):
        picture = torch.rand(2, 4, height, width)
        with torch.no_grad():
            assert found(picture).shape == net(picture).shape


def test_each_further_stage_costs_less() -> None:
    example = smooth(1)
    costs = [model_cost(pruned(small_unet(), drop=drop, refine=False), example) for drop in (1, 2, 3, 4)]
    assert [cost.macs for cost in costs] == sorted((cost.macs for cost in costs), reverse=True)
    # what is left of drop=4: the two convolutions of the first encoder stage, and the head
    assert costs[3].parameters == 2 * (4 * 4 * 9 + 4) + 4 * 12 + 12


def test_the_hole_is_fitted_to_the_trained_network() -> None:
    net, unseen = small_unet(), smooth(4, seed=9)
    silenced = pruned(net)
    with torch.no_grad():
        silenced.up3.weight.zero_()
    assert relative_error(pruned(net), net, unseen) < 0.2 * relative_error(silenced, net, unseen)


def test_a_bottom_that_adds_nothing_new_is_bridged_exactly() -> None:
    """The decoder stage is linear in what the encoder gives: least squares must find that."""

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Conv2d(4, 6, 3, padding=1)
            self.pool = nn.MaxPool2d(2)
            self.bottom = nn.Conv2d(6, 8, 3, padding=1)
            self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
            self.join = nn.Conv2d(12, 5, 1)
            with torch.no_grad():
                self.up.weight.zero_()

        def forward(self, x: Tensor) -> Tensor:
            skip = self.down(x)
            return self.join(torch.cat([skip, self.up(self.bottom(self.pool(skip)))], 1))

    net = Linear().eval()
    ctx = context()
    found = pruned(net, ctx)
    assert relative_error(found, net, smooth(2, seed=5)) < 1e-3
    assert shapes(found)["join.weight"] == (5, 6, 1, 1)
    assert [left.layer for left in ctx.skipped_layers] == ["up"]


def test_the_result_depends_on_the_seed_alone() -> None:
    first, second = pruned(small_unet()).state_dict(), pruned(small_unet()).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_result_can_be_copied_traced_and_pruned_again() -> None:
    once = pruned(small_unet())
    twice = pruned(once)
    assert parameters(twice) < parameters(copy.deepcopy(once))
    trace(twice, smooth(1))
    assert {name.partition(".")[0] for name in shapes(twice)} == {
        "down1", "down2", "down3", "up2", "up1", "join2", "join1", "head"
    }  # fmt: skip


@pytest.mark.parametrize("drop", [5, 9])
def test_more_stages_than_there_are_is_refused_with_their_number(drop: int) -> None:
    with pytest.raises(UsageError, match="has 4 stages that can be dropped") as refusal:
        pruned(small_unet(), drop=drop)
    assert refusal.value.hint == "Use drop=4 or less."


def test_without_data_there_is_nothing_to_bridge_with() -> None:
    with pytest.raises(UsageError, match="stage-prune needs calibration data"):
        pruned(small_unet(), context(smooth(1), None))


# ------------------------------------------------------------------------------------- other encoder-decoders


class Interpolating(nn.Module):
    """No skip, strided convolutions down, interpolation and a sum up, an SE block at the top."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4, 8, 3, padding=1)
        self.gate = nn.Conv2d(8, 8, 1)
        self.down1 = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.down2 = nn.Conv2d(12, 16, 3, stride=2, padding=1)
        self.up2 = nn.Conv2d(16, 12, 1)
        self.up1 = nn.Conv2d(12, 8, 1)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        top = self.stem(x).relu()
        top = top * self.gate(top.mean((2, 3), keepdim=True)).sigmoid()
        middle = self.down1(top).relu()
        deep = self.down2(middle).relu()
        middle = middle + functional.interpolate(self.up2(deep), size=middle.shape[2:])
        top = top + functional.interpolate(self.up1(middle), scale_factor=2.0)
        return self.head(top)


@pytest.mark.parametrize("drop", [1, 2])
def test_networks_that_interpolate_and_add_are_bridged_too(drop: int) -> None:
    net = Interpolating().eval()
    found = pruned(net, drop=drop)
    assert model_cost(found, smooth(1)).macs < model_cost(net, smooth(1)).macs
    assert "down2.weight" not in shapes(found)
    assert ("down1.weight" in shapes(found)) == (drop == 1)
    assert relative_error(found, net, smooth(2, seed=5)) < 0.3
    assert found(torch.rand(1, 4, 24, 40)).shape == (1, 3, 24, 40)


def test_global_pooling_is_not_a_stage() -> None:
    with pytest.raises(UsageError, match="has 2 stages"):
        pruned(Interpolating(), drop=3)


# ------------------------------------------------------------------------------------------------- classifiers


def classifier(name: str) -> tuple[nn.Module, Context]:
    net = TimmArchitecture(name).build().eval()
    example = torch.rand(1, 3, 64, 64)
    return net, Context(TimmArchitecture(name), example, lambda: [torch.rand(2, 3, 64, 64)])


def test_the_last_block_of_a_resnet_stage_goes() -> None:
    net, ctx = classifier("resnet18")
    found = pruned(net, ctx)
    block = sum(value.numel() for name, value in net.named_parameters() if name.startswith("layer4.1."))
    assert parameters(net) - parameters(found) == block
    assert isinstance(found.layer4[1], nn.Identity)
    assert any("layer4.1" in note for note in ctx.report.notes)


def test_a_named_stage_loses_as_many_blocks_as_asked_for() -> None:
    net, ctx = classifier("mobilenetv3_small_100")
    found = pruned(net, ctx, stage="blocks.3", blocks=1)
    gone = shapes(net).keys() - shapes(found).keys()
    assert gone == {name for name in shapes(net) if name.startswith("blocks.3.1.")}
    with pytest.raises(UsageError, match=r"cannot drop 2 blocks of blocks\.3") as refusal:
        pruned(net, ctx, stage="blocks.3", blocks=2)
    assert "blocks.3 (1)" in str(refusal.value)


class Biased(nn.Module):
    """Blocks that may be given something beside the tensor, as attention with one table of positions for all."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([_BiasedBlock() for _ in range(3)])
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, shared=None)
        return self.head(x.mean((2, 3)))


class _BiasedBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor, shared: Tensor | None) -> Tensor:
        return x + self.conv(x) + (0 if shared is None else shared)


def test_a_dropped_block_may_be_given_more_than_its_input() -> None:
    net = Biased()
    assert parameters(pruned(net)) == parameters(net) - parameters(net.blocks[2])


def test_a_block_whose_weights_are_read_elsewhere_stays() -> None:
    class Read(Biased):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.blocks[2].conv.weight.mean()

    found = pruned(Read())
    found(torch.rand(1, 4, 8, 8))
    assert [isinstance(block, nn.Identity) for block in found.blocks] == [False, True, False]


def test_a_stage_that_is_not_there_is_refused_with_the_nearest() -> None:
    net, ctx = classifier("resnet18")
    with pytest.raises(UnknownIdError, match=r"no stage 'layer5'.*did you mean 'layer4'"):
        pruned(net, ctx, stage="layer5")


def test_layers_after_the_hole_are_fitted() -> None:
    class Staged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.Sequential(*(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1)) for _ in range(3)))
            self.last = nn.Conv2d(4, 6, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.blocks(x)).mean((2, 3))

    net, unseen = Staged().eval(), smooth(4, seed=5)
    fitted, bare = pruned(net), pruned(net, refine=False)
    assert relative_error(fitted, net, unseen) < 0.5 * relative_error(bare, net, unseen)


def test_a_network_with_nothing_to_drop_is_refused_by_name() -> None:
    with pytest.raises(ZooError, match="stage-prune finds nothing to drop in Sequential"):
        pruned(nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 1)))
