"""Preparing a sample's inputs for a torch network; the exported graph does the same by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from zoo.contracts.random_inputs import random_inputs

if TYPE_CHECKING:
    from zoo.contracts import InputSpec


def normalise(inputs: torch.Tensor, spec: InputSpec) -> torch.Tensor:
    """Return (N, C, H, W) in [0, 1] with zero mean and unit deviation per channel, if `spec` asks for it."""
    if not spec.mean:
        return inputs
    return (inputs - _per_channel(spec.mean, inputs)) / _per_channel(spec.std, inputs)


def denormalise(inputs: torch.Tensor, spec: InputSpec) -> torch.Tensor:
    """Undo :func:`normalise`.

    Args:
        inputs: (N, C, H, W), normalised.
        spec: Input of the network.

    Returns:
        (N, C, H, W) in [0, 1].
    """
    if not spec.mean:
        return inputs
    return inputs * _per_channel(spec.std, inputs) + _per_channel(spec.mean, inputs)


def example_of(spec: InputSpec) -> torch.Tensor:
    """Return noise of the example size, (1, C, H, W), normalised; always the same."""
    return normalise(random_tensor(spec), spec)


def random_tensor(spec: InputSpec, seed: int = 0) -> torch.Tensor:
    """Return noise of the example size as a dataset could yield it, (1, C, H, W)."""
    if spec.parts:
        return torch.from_numpy(random_inputs(spec))
    return torch.rand(1, spec.channels, *spec.example, generator=torch.Generator().manual_seed(seed))


def _per_channel(values: tuple[float, ...], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, -1, 1, 1)
