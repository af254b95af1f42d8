"""small-kernels keeps the promises of the technique contract, and those of its own."""

import pytest
import torch
from torch import nn

from zoo.errors import NoEffectError
from zoo.testing import technique_checks
from zoo.testing.trial import rewrite
from zoo_small_kernels.small_kernels import CentreReplacement, SmallKernels, SmallKernelsConfig

TestSmallKernels = technique_checks(SmallKernels)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_that_only_uses_its_centre_is_replaced_exactly(stride: int, bias: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, stride=stride, padding=1, bias=bias)
    with torch.no_grad():
        conv.weight[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0
        fit = CentreReplacement(conv)
        for image in torch.rand(2, 1, 4, 12, 12):
            wanted = conv(image)[0].flatten(1).T
            fit.observe(image, torch.arange(len(wanted)), wanted)
        small, missed = fit.build()
        inputs = torch.rand(2, 4, 12, 12)
        assert missed < 1e-3
        assert torch.allclose(small(inputs), conv(inputs), atol=1e-4)


def test_the_share_bounds_what_is_replaced() -> None:
    def wide(net: nn.Module) -> int:
        convs = (m for m in net.modules() if isinstance(m, nn.Conv2d) and m.groups == 1)
        return sum(m.weight.numel() for m in convs if m.kernel_size == (3, 3))

    before, after, _ = rewrite(SmallKernels(SmallKernelsConfig(share=0.3)))
    assert 0.7 * wide(before) <= wide(after) < wide(before)


def test_a_share_too_small_for_any_convolution_is_refused() -> None:
    with pytest.raises(NoEffectError, match="no convolution"):
        rewrite(SmallKernels(SmallKernelsConfig(share=0.001)))
