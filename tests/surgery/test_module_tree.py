"""Finding modules by name and replacing them wherever they hang."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from zoo.errors import UnknownIdError
from zoo.surgery import module_slots, names_of, replace_module, replace_named


def net() -> nn.Module:
    """`shared` hangs at three places: in two blocks and in a list within one of them."""
    shared = nn.Linear(4, 4)
    root = nn.Module()
    root.left = nn.Sequential(shared, nn.ReLU())
    root.right = nn.Module()
    root.right.parts = nn.ModuleList([nn.Linear(4, 2), shared])
    root.right.named = nn.ModuleDict({"it": shared})
    return root


def test_every_place_is_met_in_order_with_its_parent() -> None:
    root = net()
    found = list(module_slots(root))
    assert [place.name for place in found] == [
        "", "left", "left.0", "left.1", "right", "right.parts", "right.parts.0", "right.parts.1",
        "right.named", "right.named.it",
    ]  # fmt: skip
    assert found[0].parent is None
    for place in found[1:]:
        assert getattr(place.parent, place.attribute) is place.module
        assert root.get_submodule(place.name) is place.module


def test_names_are_grouped_by_module() -> None:
    root = net()
    assert names_of(root)[root.left[0]] == ["left.0", "right.parts.1", "right.named.it"]
    assert len(names_of(root)) == len(list(root.modules()))


@pytest.mark.parametrize("name", ["left.0", "right.parts.1", "right.named.it"])
def test_shared_module_stays_shared(name: str) -> None:
    root, new = net(), nn.Linear(4, 4)
    assert replace_named(root, name, new) is root
    assert root.left[0] is root.right.parts[1] is root.right.named["it"] is new
    assert torch.equal(root.left(torch.ones(1, 4)), new(torch.ones(1, 4)).relu())


def test_root_is_replaced_by_returning_the_other() -> None:
    root, new = net(), nn.ReLU()
    assert replace_named(root, "", new) is new
    assert replace_module(new, new, root) is root


def test_module_can_be_wrapped_in_its_own_replacement() -> None:
    root = net()
    for module in names_of(root):
        if isinstance(module, nn.Linear):
            replace_module(root, module, nn.Sequential(module))
    assert isinstance(root.left[0][0], nn.Linear)
    assert root.left[0] is root.right.parts[1]
    assert isinstance(root.right.parts[0][0], nn.Linear)


def test_module_that_is_not_there_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownIdError, match=r"no module 'left\.7'; did you mean 'left\.[01]'"):
        replace_named(net(), "left.7", nn.ReLU())


def test_a_replacement_answers_what_networks_ask_a_layer() -> None:
    class Padding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, (3, 5))

        def forward(self, x: Tensor) -> Tensor:
            height, width = self.conv.kernel_size
            return self.conv(nn.functional.pad(x, (width // 2, width // 2, height // 2, height // 2)))

    net = Padding()
    replace_module(net, net.conv, nn.Sequential(nn.Conv2d(2, 2, (3, 1)), nn.Conv2d(2, 2, (1, 5))))
    assert net(torch.zeros(1, 2, 8, 8)).shape == (1, 2, 8, 8)
    own = nn.Conv2d(2, 2, 1)
    replace_module(net, net.conv, own)
    assert own.kernel_size == (1, 1)
