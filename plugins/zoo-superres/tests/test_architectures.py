"""The networks keep the promises of the architecture contract, and have the published numbers of weights."""

import pytest
import torch
from torch import nn

from zoo import plugins
from zoo.contracts import Context, InputSpec
from zoo.errors import UnknownIdError
from zoo.testing import architecture_checks, attempt
from zoo_superres.architectures import BiFpnSrArchitecture, SesrM3Architecture
from zoo_superres.bifpn import BiFpnSr
from zoo_superres.collapse import Collapse
from zoo_superres.luma import luma_of

# The file of a SESR network is held against the network by the checks of the technique `collapse`.
TestSesr = architecture_checks(SesrM3Architecture, export=False)
TestSesrX4 = architecture_checks(SesrM3Architecture, member="x4", export=False)
TestBiFpnSr = architecture_checks(BiFpnSrArchitecture, member="x3", export=False)


class SmallBiFpnSr(BiFpnSrArchitecture):
    """Two resolutions instead of five, whose file is soon made."""

    input = InputSpec("rgb", 3, multiple_of=2, example=(32, 32))

    def build(self) -> nn.Module:
        return BiFpnSr(self.factor, widths=(8, 12), layers=1)


def test_the_file_of_a_bifpn_computes_what_the_network_computes() -> None:
    found = attempt([], SmallBiFpnSr("x3")).comparison
    assert found.agrees, found.first


PUBLISHED = {"m3": 8_912, "m5": 13_520, "m7": 18_128, "m11": 27_344, "xl": 105_376}


def convolution_weights(net: nn.Module) -> int:
    return sum(each.weight.numel() for each in net.modules() if isinstance(each, nn.Conv2d))


@pytest.mark.parametrize("size", PUBLISHED)
def test_collapsed_it_has_the_published_number_of_weights_and_computes_the_same(size: str) -> None:
    torch.manual_seed(0)
    net, inputs = plugins.architecture(f"sesr-{size}").build().eval(), torch.rand(1, 3, 24, 20)
    with torch.no_grad():
        wanted = net(inputs)
        folded = Collapse().rewrite(net, Context(None, inputs))
        assert torch.allclose(folded(inputs), wanted, atol=1e-5)
    assert convolution_weights(folded) == PUBLISHED[size]
    assert not [name for name, _ in folded.named_parameters() if name.endswith("bias")]


def test_training_computes_what_evaluation_computes() -> None:
    torch.manual_seed(0)
    net, inputs = SesrM3Architecture().build(), torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(net.train()(inputs), net.eval()(inputs), atol=1e-5)


def test_the_chroma_is_only_resized() -> None:
    torch.manual_seed(0)
    net, inputs = SesrM3Architecture().build().eval(), torch.rand(1, 3, 16, 16)
    resize = nn.Upsample(scale_factor=2, mode="bicubic")
    with torch.no_grad():
        outputs = net(inputs)
    assert torch.allclose(outputs - luma_of(outputs), resize(inputs) - luma_of(resize(inputs)), atol=1e-5)
    assert not torch.allclose(luma_of(outputs), luma_of(resize(inputs)), atol=1e-2)


def test_a_factor_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(UnknownIdError, match="no member 'x3'") as refused:
        plugins.architecture("sesr-m5:x3")
    assert "sesr-m5:x4" in str(refused.value.hint)
