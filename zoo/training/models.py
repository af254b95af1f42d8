"""Architectures as torch modules, with trained weights if asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo import plugins
from zoo.architectures.weight_option import split_weights
from zoo.extras import require
from zoo.training.weights import build_start, load_start

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn


def create_model(
    name: str, *, weights: str | Path | None = None, weights_key: str = "", partial: bool = False
) -> nn.Module:
    """Build an architecture.

    Args:
        name: Its id, ``family:member`` such as "timm:resnet18", or ``path/to/module.py:factory``, which is executed.
        weights: None or "none" leaves those that the architecture starts with; "auto" takes the shipped checkpoint of
            its id, if there is one; a file of weights (.safetensors, .pth, .ckpt) is read without executing code in it;
            any other name is an artifact, see :mod:`zoo.checkpoints.resolver`.
        weights_key: Which set of weights to take from a file that holds several; "" for the one that fits.
        partial: Whether a file may lack tensors of the network, or hold others.

    Returns:
        A module from (N, C, H, W), normalised, to the network's output; in train mode unless the architecture says
        otherwise. One with several inputs is called with those.

    Raises:
        UnknownIdError: Nothing is called so.
        UsageError: The weights do not fit.
        MissingDependencyError: torch is not installed.
    """
    require("torch", "Building a model")
    from zoo.modules.several_inputs import with_own_inputs

    name, named = split_weights(name)
    architecture = plugins.architecture(name, own_files=True)
    wanted = named or str(weights or "none")
    model = build_start(architecture, wanted)
    load_start(model, architecture, wanted, entry=weights_key, partial=partial)
    return with_own_inputs(model)
