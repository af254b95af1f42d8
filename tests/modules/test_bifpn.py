"""A BiFPN block lets every map see every other, through the fusion that it is given."""

import pytest
import torch

from zoo.modules.bifpn import BiFpnBlock, WeightedMean

SIDES = (16, 8, 4)


def maps(requires_grad: bool = False) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(1, 2, side, side, generator=generator).requires_grad_(requires_grad) for side in SIDES]


def test_weights_below_zero_count_as_zero_and_the_others_share_one() -> None:
    mean = WeightedMean(3)
    mean.weight.data = torch.tensor([3.0, -2.0, 1.0])
    first, second, third = (torch.full((1, 1, 2, 2), value) for value in (4.0, 100.0, 8.0))
    assert torch.allclose(mean(first, second, third), torch.full((1, 1, 2, 2), 5.0), rtol=1e-4)


@pytest.mark.parametrize("level", range(len(SIDES)))
def test_every_map_depends_on_every_other_and_keeps_its_size(level: int) -> None:
    given = maps(requires_grad=True)
    found = BiFpnBlock(len(SIDES), WeightedMean)(given)
    assert [each.shape for each in found] == [each.shape for each in given]
    found[level].sum().backward()
    assert all(each.grad.abs().sum() > 0 for each in given)


def test_the_fusion_is_made_for_as_many_maps_as_meet() -> None:
    asked: list[int] = []

    def fuse(inputs: int) -> WeightedMean:
        asked.append(inputs)
        return WeightedMean(inputs)

    BiFpnBlock(4, fuse)
    assert asked == [2, 2, 2, 3, 3, 2]
