"""Which layers and operators treat the channels of a tensor one by one, so that some can be removed."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase

from zoo.modules.same_padding import SamePad2d

#: What comes out has the channels that went in.
SAME_MODULES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.ELU, nn.SELU, nn.CELU, nn.Mish, nn.Hardtanh,
    nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.LogSigmoid, nn.Identity, nn.Dropout,
    nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d,
    nn.LPPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Upsample, nn.ZeroPad2d, SamePad2d,
    nn.ReflectionPad2d, nn.ReplicationPad2d, nn.ConstantPad2d,
)  # fmt: skip
#: The same, as functions and methods.
SAME_FUNCTIONS: frozenset[Any] = frozenset(
    {
        functional.relu, functional.relu6, functional.leaky_relu, functional.silu, functional.gelu, functional.elu,
        functional.selu, functional.mish, functional.hardtanh, functional.hardswish, functional.hardsigmoid,
        functional.sigmoid, functional.tanh, functional.softplus, functional.dropout, functional.dropout2d,
        functional.max_pool2d, functional.avg_pool2d, functional.adaptive_avg_pool2d,
        functional.adaptive_max_pool2d, functional.interpolate, functional.upsample, torch.relu, torch.sigmoid,
        torch.tanh, torch.clamp, torch.clip, torch.neg, torch.abs, torch.exp, torch.sqrt, torch.square,
        operator.neg, "contiguous", "clone", "relu", "sigmoid", "tanh", "clamp", "clip", "float", "half", "neg",
        "abs", "exp", "sqrt", "square", "detach", "type_as",
    }
)  # fmt: skip
#: Several tensors channel by channel: those at the same place stand or fall together.
PAIRWISE: frozenset[Any] = frozenset(
    {
        operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, torch.add, torch.sub, torch.mul,
        torch.div, torch.pow, torch.maximum, torch.minimum, torch.where, "add", "sub", "mul", "div", "pow", "add_",
        "mul_",
    }
)  # fmt: skip
#: They have numbers of their own for each channel.
NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.PReLU)
#: They give several tensors.
SPLITS: frozenset[Any] = frozenset({"chunk", torch.chunk})
