"""Running exported files, and comparing what they compute."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.engines.onnxruntime import OnnxRuntimeEngine


def run(data: bytes, inputs: Tensor) -> Tensor:
    return torch.from_numpy(OnnxRuntimeEngine().open(data, threads=1).run(inputs.numpy()))


def psnr(one: Tensor, other: Tensor) -> float:
    one, other = one.detach(), other.detach()
    return float(-10 * torch.log10((one - other).square().mean() / (other.max() - other.min()) ** 2))
