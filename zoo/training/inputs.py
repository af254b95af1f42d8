"""What happens to a sample's inputs before a torch net sees them; the exported graph does the same itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from zoo.contracts import InputSpec


def normalise(inputs: torch.Tensor, spec: InputSpec) -> torch.Tensor:
    """(N, C, H, W) in [0, 1] to zero mean and unit deviation per channel, if `spec` asks for it."""
    if not spec.mean:
        return inputs
    mean = torch.tensor(spec.mean, dtype=inputs.dtype, device=inputs.device).view(1, -1, 1, 1)
    std = torch.tensor(spec.std, dtype=inputs.dtype, device=inputs.device).view(1, -1, 1, 1)
    return (inputs - mean) / std
