"""Weights are put into a network in the form that they have."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from zoo.surgery.plain_weights import make_weights_plain
from zoo.training.weights import fit_weights


def normed(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    hooked = nn.utils.spectral_norm(nn.Conv2d(8, 8, 3))
    return nn.Sequential(parametrizations.weight_norm(nn.Conv2d(3, 8, 3)), nn.ReLU(), hooked).eval()


@pytest.mark.parametrize("plain", [False, True], ids=["what weights are computed from", "their values"])
def test_a_network_that_computes_its_weights_takes_both_forms_of_a_state(plain: bool) -> None:
    trained, fresh, x = normed(0), normed(1), torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        expected = trained(x)
    if plain:
        make_weights_plain(trained)
    assert fit_weights(fresh, trained.state_dict()) == ""
    make_weights_plain(fresh)
    with torch.no_grad():
        assert torch.equal(fresh(x), expected)


def test_a_state_that_fits_neither_way_is_refused() -> None:
    state = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).state_dict()
    assert "2 have another shape" in fit_weights(normed(0), state)
