"""Convolutions whose neighbourhood tells little become 1 x 1, fitted by least squares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.contracts import Context, Phase, Technique
from zoo.errors import NoEffectError
from zoo.options import option

# torch is imported inside the functions: recipes are checked, and `zoo list` answers, without it.
if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class SmallKernelsConfig:
    """Options of `small-kernels`.

    share: part of the weights of all k x k convolutions that lie in those to become 1 x 1.
    """

    share: float = option(
        0.5, help="part of the k x k convolutions' weights that may go", minimum=0.001, maximum=1.0
    )


class SmallKernels(Technique):
    """Replace the convolutions that lose least by 1 x 1 convolutions with a ninth of the weights (of 3 x 3).

    Each candidate is fitted to its own outputs on calibration data, y = V x + c with x the input under the kernel's
    centre, by linear least squares; those with the smallest relative error are replaced. Deep in a network neighbours
    resemble each other, and little is lost.
    """

    contract = 1
    id = "small-kernels"
    summary = "the convolutions that lose least by it become 1x1, fitted by least squares"
    phase = Phase.STRUCTURE
    Config = SmallKernelsConfig

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """Fit all, replace the best."""
        from zoo.surgery.hooks import evaluating, watch
        from zoo.surgery.module_tree import names_of, replace_module

        names = names_of(model)
        fits = {layer: _Fit(layer) for layer in names if _eligible(layer)}
        batches = context.calibration() if context.calibration else [context.example_input]
        with evaluating(model):
            for batch in batches:
                watch(model, fits, batch, lambda layer, given, output: fits[layer].add(given, output))
        solved = {layer: fit.solve() for layer, fit in fits.items() if fit.seen}
        left = self.config.share * sum(layer.weight.numel() for layer in fits)
        replaced = 0
        for layer, (small, error) in sorted(solved.items(), key=lambda item: item[1][1]):
            if layer.weight.numel() > left:
                context.skip_layer(
                    self.id, names[layer][0], f"1x1 would miss {error:.0%} of its outputs' variance"
                )
                continue
            left -= layer.weight.numel()
            model = replace_module(model, layer, small)
            replaced += 1
        if not replaced:
            raise NoEffectError(
                f"{self.id} found no convolution with at most {self.config.share:.0%} of the weights to replace.",
                hint=f"Allow more:  {self.id}(share=1)",
            )
        return model


def _eligible(layer: nn.Module) -> bool:
    """Whether a 1 x 1 convolution with the same stride gives outputs of the same size."""
    from torch import nn

    return (
        type(layer) is nn.Conv2d
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and max(layer.kernel_size) > 1
        and not isinstance(layer.padding, str)
        and all(
            kernel % 2 and padding == dilation * (kernel // 2)
            for kernel, padding, dilation in zip(
                layer.kernel_size, layer.padding, layer.dilation, strict=True
            )
        )
    )


class _Fit:
    """The normal equations of one convolution: E[x x'], E[y x'] and E[y y'], with a 1 appended to x."""

    def __init__(self, layer: nn.Conv2d) -> None:
        import torch

        features = layer.in_channels + 1
        self.layer = layer
        self.seen = 0
        self.xx = torch.zeros(features, features, dtype=torch.float64)
        self.yx = torch.zeros(layer.out_channels, features, dtype=torch.float64)
        self.yy = torch.zeros(layer.out_channels, dtype=torch.float64)

    def add(self, given: Tensor, output: Tensor) -> None:
        import torch

        down, right = self.layer.stride
        x = given[:, :, ::down, ::right].transpose(0, 1).flatten(1).double().cpu()
        x = torch.cat([x, torch.ones(1, x.shape[1], dtype=x.dtype)])
        y = output.transpose(0, 1).flatten(1).double().cpu()
        self.seen += x.shape[1]
        self.xx += x @ x.T
        self.yx += y @ x.T
        self.yy += y.square().sum(1)

    def solve(self) -> tuple[nn.Conv2d, float]:
        """The 1 x 1 convolution, and the part of the outputs' variance that it misses."""
        import torch
        from torch import nn

        conv = self.layer
        ridge = 1e-6 * self.xx.diagonal().mean() * torch.eye(len(self.xx), dtype=self.xx.dtype)
        solution = torch.linalg.solve(self.xx + ridge, self.yx.T).T
        missed = self.yy - 2 * (solution * self.yx).sum(1) + ((solution @ self.xx) * solution).sum(1)
        variance = self.yy - self.yx[:, -1].square() / self.seen
        small = nn.Conv2d(conv.in_channels, conv.out_channels, 1, stride=conv.stride)
        with torch.no_grad():
            small.weight.copy_(solution[:, :-1, None, None])
            small.bias.copy_(solution[:, -1])
        return small.to(conv.weight), float(missed.sum() / variance.sum().clamp(min=1e-12))
