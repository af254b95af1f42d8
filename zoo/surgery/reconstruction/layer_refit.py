"""Refitting the weights of a layer to inputs that are no longer those it was trained on.

The layer keeps its form: the new weight and bias are the best ones over the moments of its patches, with a ridge term
that pulls towards the trained weight.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from zoo.surgery.reconstruction.patches import Layer, dense_weight, extract_patches, store_dense_weight
from zoo.surgery.reconstruction.statistics import ActivationStatistics, fits_in_memory, relative_error

_RIDGE = 3e-2


def refit_unsupported_reason(layer: nn.Module) -> str | None:
    """Return why a layer cannot be refitted, or None."""
    if type(layer) not in (nn.Conv2d, nn.ConvTranspose2d, nn.Linear):
        return f"not refitted: {type(layer).__name__} is not a plain Conv2d, ConvTranspose2d or Linear"
    assert isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))
    groups, _, inputs, taps = dense_weight(layer).shape
    if not fits_in_memory(groups, inputs * taps):
        return f"not refitted: its patches of {inputs * taps} numbers are too wide"
    return None


class LayerRefit:
    """A :class:`~zoo.surgery.reconstruction.LayerReplacement` of the same kind; without data the layer stays as it is.

    Args:
        layer: The layer to refit.
        ridge: The pull towards the trained weight, over the mean variance of a patch element.
    """

    def __init__(self, layer: Layer, ridge: float = _RIDGE) -> None:
        self._layer, self._ridge = layer, ridge
        self._moments = ActivationStatistics(dense_weight(layer).flatten(2), layer.bias)

    def observe(self, image: Tensor, at: Tensor, targets: Tensor | None = None) -> None:
        """Add the data of one image, (1, in, H, W), at some positions; see the protocol."""
        seen = extract_patches(self._layer, image, at).float().cpu()
        self._moments.add(seen.reshape(len(seen), len(dense_weight(self._layer)), -1), targets)

    @torch.no_grad()
    def build(self) -> tuple[nn.Module, float]:
        """Return the refitted layer and its relative error."""
        new, moments = copy.deepcopy(self._layer), self._moments
        if not moments.count:
            return new, 0.0
        width = dense_weight(new)[0, 0].numel()
        problem = moments.problem(self._ridge * max(1.0, width / moments.count))
        best = problem.solution()
        store_dense_weight(new, best)
        bias = problem.bias(best)
        if bias is not None and new.bias is not None:
            new.bias.copy_(bias)
        return new, relative_error(problem.error(best), moments.target_power())
