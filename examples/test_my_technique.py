"""The technique of my_technique.py keeps the promises of the contract, and one of its own.

cd examples && python -m pytest test_my_technique.py
"""

import torch
from my_technique import SeparableFilters, separated
from torch import nn

from zoo.testing import technique_checks

TestSeparableFilters = technique_checks(SeparableFilters)


def test_at_full_rank_nothing_is_lost() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, (3, 5), stride=(1, 2), padding=(1, 2))
    inputs = torch.rand(1, 4, 9, 9)
    with torch.no_grad():
        assert torch.allclose(separated(conv, 12)(inputs), conv(inputs), atol=1e-5)
