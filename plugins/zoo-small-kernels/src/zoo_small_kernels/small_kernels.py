"""Convolutions whose neighbourhood matters little become 1 x 1, fitted by least squares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from zoo.contracts import Context, Phase, Technique
from zoo.errors import NoEffectError
from zoo.options import option

# torch is imported inside the functions: recipes are checked, and `zoo list` answers, without it.
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from zoo.surgery.reconstruction import Layer

#: Calibration images to fit on, and output positions of each image to rank the convolutions by.
_IMAGES, _POSITIONS = 16, 4096
_RIDGE = 1e-6


@dataclass(frozen=True)
class SmallKernelsConfig:
    """Options of `small-kernels`.

    share: part of the weights of all k x k convolutions that lie in those to become 1 x 1.
    """

    share: float = option(
        0.5, help="share of the k x k convolutions' weights to replace at most", minimum=0.001, maximum=1.0
    )


class SmallKernels(Technique):
    """Replace the convolutions that lose least by 1 x 1 convolutions with a ninth of the weights (of 3 x 3).

    Each candidate is fitted to its own outputs on calibration data, y = V x + c with x the input under the kernel's
    centre, by linear least squares; those with the smallest relative error are replaced, and fitted once more to what
    the network now feeds into them. Deep in a network neighbours resemble each other, and little is lost.
    """

    contract = 1
    id = "small-kernels"
    summary = "the convolutions that lose least by it become 1x1, fitted by least squares"
    phase = Phase.STRUCTURE
    Config = SmallKernelsConfig

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """Return the network with the best candidates replaced."""
        from zoo.surgery import find_candidates
        from zoo.surgery.reconstruction import fitting_batches, replace_layers

        candidates = find_candidates(model, context, self.id, unsupported_reason)
        batches = fitting_batches(context, True, _IMAGES) or [context.example_input]
        errors = _errors(model, candidates, batches, context.seed)
        sizes = {name: cast("Tensor", layer.weight).numel() for name, layer in candidates.items()}
        left = self.config.share * sum(sizes.values())
        chosen: dict[nn.Module, str] = {}
        for name in sorted(errors, key=errors.__getitem__):
            if sizes[name] > left:
                context.skip_layer(self.id, name, f"1x1 would miss {errors[name]:.0%} of its outputs")
                continue
            left -= sizes[name]
            chosen[candidates[name]] = name
        if not chosen:
            raise NoEffectError(
                f"{self.id} found no convolution with at most {self.config.share:.0%} of the weights to replace.",
                hint=f"Allow more:  {self.id}(share=1)",
            )
        return replace_layers(model, chosen, CentreReplacement, batches, context, self.id)


def unsupported_reason(layer: nn.Module) -> str | None:
    """Return why a 1 x 1 convolution with the same stride would not give outputs of the same size, or None."""
    from torch import nn

    if type(layer) is not nn.Conv2d:
        return f"{type(layer).__name__} is not a plain Conv2d"
    if max(layer.kernel_size) == 1:
        return "1x1 kernel"
    if layer.groups > 1:
        return f"grouped (groups={layer.groups})"
    centred = tuple(d * (k // 2) for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
    if layer.padding != centred or layer.padding_mode != "zeros" or not all(k % 2 for k in layer.kernel_size):
        return "its kernel is not centred on its pixel"
    return None


def _errors(
    model: nn.Module, candidates: Mapping[str, nn.Module], batches: Sequence[Tensor], seed: int
) -> dict[str, float]:
    """Return the relative error of each candidate's 1 x 1 form on its own inputs, if the network calls it."""
    import torch

    from zoo.surgery import evaluating, watch
    from zoo.surgery.reconstruction import draw_positions, pixels_at

    generator = torch.Generator().manual_seed(seed)
    fits: dict[nn.Module, CentreReplacement] = {}

    def observe(layer: nn.Module, given: Tensor, output: Tensor) -> None:
        fit = fits.setdefault(layer, CentreReplacement(cast("Layer", layer)))
        for image, wanted in zip(given, output, strict=True):
            at = draw_positions(wanted.shape[-2:], _POSITIONS, generator)
            fit.observe(image[None], at, pixels_at(wanted, at))

    with evaluating(model):
        for batch in batches:
            watch(model, candidates.values(), batch, observe)
    return {name: fits[layer].build()[1] for name, layer in candidates.items() if layer in fits}


class CentreReplacement:
    """Fit the 1 x 1 form of one convolution; a :class:`zoo.surgery.reconstruction.LayerReplacement`."""

    def __init__(self, layer: Layer) -> None:
        import torch
        from torch import nn

        from zoo.surgery.reconstruction import ActivationStatistics, dense_weight

        self._conv = cast(nn.Conv2d, layer)
        weight = dense_weight(layer)  # (1, out, in, taps)
        self._centre = weight.shape[-1] // 2
        bias = torch.zeros(layer.out_channels) if layer.bias is None else layer.bias
        self._statistics = ActivationStatistics(weight[..., self._centre], bias)

    def observe(self, image: Tensor, at: Tensor, targets: Tensor | None = None) -> None:
        """Add the pixels of an image (1, in, H, W) under the kernel's centre, and the outputs wanted there."""
        from zoo.surgery.reconstruction import extract_patches

        pixels = extract_patches(self._conv, image, at)[..., self._centre]  # (positions, in)
        self._statistics.add(pixels[:, None], targets)

    def build(self) -> tuple[nn.Module, float]:
        """Return the 1 x 1 convolution, and its error relative to the outputs wanted."""
        import torch
        from torch import nn

        from zoo.surgery.reconstruction import match_layer, relative_error, store_dense_weight

        conv, problem = self._conv, self._statistics.problem(_RIDGE)
        weight = problem.solution()
        small = nn.Conv2d(conv.in_channels, conv.out_channels, 1, stride=conv.stride)
        store_dense_weight(small, weight)
        with torch.no_grad():
            small.bias.copy_(problem.bias(weight))
        return match_layer(conv, small), relative_error(
            problem.error(weight), self._statistics.target_power()
        )
