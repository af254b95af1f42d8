"""Architectures as torch modules, with trained weights if asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo import plugins
from zoo.extras import require
from zoo.training.weights import load_start

if TYPE_CHECKING:
    from torch import nn


def create_model(name: str, *, weights: str = "none") -> nn.Module:
    """Build an architecture.

    Args:
        name: Its id, ``family:member`` such as "timm:resnet18", or ``path/to/module.py:factory``, which is executed.
        weights: "none" leaves those that the architecture starts with; "auto" takes the shipped checkpoint of its
            id, if there is one; any other name is an artifact, see :mod:`zoo.checkpoints.resolver`.

    Returns:
        A module from (N, C, H, W), normalised, to the network's output; in train mode unless the architecture says
        otherwise.

    Raises:
        UnknownIdError: Nothing is called so.
        UsageError: The weights do not fit.
        MissingDependencyError: torch is not installed.
    """
    require("torch", "Building a model")
    architecture = plugins.architecture(name, own_files=True)
    model = architecture.build()
    load_start(model, architecture, weights)
    return model
