"""How many images the layers of a network should be fitted on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import Tensor, nn

from zoo.surgery.hooks import evaluating, watch

if TYPE_CHECKING:
    from zoo.contracts import InputSpec

#: Positions that the layers with the smallest feature maps should see: a few times as many as a convolution of a
#: few hundred channels has unknowns.
_POSITIONS = 16_384
#: What one pass over all images may cost: multiplications, and bytes of the images.
_MACS = 4e11
_BYTES = 1 << 27
_LEAST, _MOST = 16, 512


def images_to_fit(model: nn.Module, spec: InputSpec, example: Tensor) -> int:
    """Return how many images suffice for the layers with the smallest feature maps, as far as they are affordable.

    A least-squares fit needs more positions than unknowns. The last stage of a ResNet-20 has 64 positions in each
    image and 576 unknowns: fitted on 256 images instead of 16, its pruned network keeps 8.5 points of accuracy more.
    Networks for RAW files are fitted on 16 crops, each of which is a file that is simulated or decoded.

    Args:
        model: The network.
        spec: Its input.
        example: A calibration image, (1, C, H, W).
    """
    if spec.kind == "packed-raw":
        return _LEAST
    positions: list[int] = []
    macs = 0

    def look(module: nn.Module, given: Tensor, output: Tensor) -> None:
        nonlocal macs
        weight = module.weight
        assert isinstance(weight, Tensor)
        count = output.shape[-2] * output.shape[-1]
        macs += weight.numel() * count
        # What works on the mean of an image has one position in each, however large the image is.
        if count > 1 or weight[0, 0].numel() > 1:
            positions.append(count)

    with evaluating(model):
        watch(model, [module for module in model.modules() if isinstance(module, nn.Conv2d)], example, look)
    wanted = math.ceil(_POSITIONS / min(positions, default=_POSITIONS))
    affordable = min(_MACS / max(macs, 1), _BYTES / (4 * example.numel()))
    return max(_LEAST, min(wanted, _MOST, int(affordable)))
