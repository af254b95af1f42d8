"""The trained weights a recipe starts from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.artifacts.artifact import Artifact, open_artifact
from zoo.catalogue import checkpoints, shipped_folder
from zoo.errors import UnknownIdError, UsageError
from zoo.optional import require
from zoo.suggest import did_you_mean

if TYPE_CHECKING:
    import torch
    from torch import nn

    from zoo.contracts import Architecture


@dataclass(frozen=True)
class StartWeights:
    """label: for reports. sha256: of the weights, "" if random. trained: whether they were trained."""

    label: str
    sha256: str
    trained: bool


def load_start(model: nn.Module, architecture: Architecture, name: str) -> StartWeights:
    """Put the weights called `name` into `model`.

    "auto" takes the shipped checkpoint of the same id as the architecture, if there is one; "none" keeps the
    random ones; anything else is a checkpoint id or an artifact folder. Raises UsageError if the layers differ.
    """
    if name == "none":
        return StartWeights("random", "", trained=False)
    known = checkpoints()
    if name == "auto":
        if architecture.id not in known:
            return StartWeights("random", "", trained=False)
        name = architecture.id
    if name in known:
        artifact = open_artifact(shipped_folder(name))
    elif Path(name).is_dir():
        artifact = open_artifact(Path(name))
    else:
        raise UnknownIdError(
            f"No checkpoint or artifact folder is called '{name}'{did_you_mean(name, known)}",
            hint="See what there is:  zoo list checkpoints",
        )
    state = read_weights(artifact)
    wanted = model.state_dict()
    missing = sorted(wanted.keys() - state.keys())
    wrong = [key for key in wanted.keys() & state.keys() if wanted[key].shape != state[key].shape]
    if missing or wrong:
        key = (missing or sorted(wrong))[0]
        raise UsageError(
            f"The weights of {name} do not fit {architecture.id}: {len(missing)} tensors are missing and "
            f"{len(wrong)} have another shape, for instance {key}.",
            hint="Name the architecture they were made for, or train from scratch with --weights none.",
        )
    model.load_state_dict({key: state[key].to(wanted[key].dtype) for key in wanted})
    return StartWeights(name, _digest(state), trained=True)


def read_weights(artifact: Artifact) -> dict[str, torch.Tensor]:
    """The weights of an artifact: its model.safetensors, or, without one, the tensors inside model.onnx."""
    from safetensors.torch import load

    if "model.safetensors" in artifact.manifest.files:
        return load(artifact.read("model.safetensors"))
    return _onnx_weights(artifact.read("model.onnx"))


def _onnx_weights(model: bytes) -> dict[str, torch.Tensor]:
    """The initializers of a float network, which are called like the state dict's keys."""
    import numpy as np
    import torch

    onnx = require("onnx", "Reading weights from model.onnx")
    graph = onnx.load_model_from_string(model).graph
    return {
        tensor.name: torch.from_numpy(np.array(onnx.numpy_helper.to_array(tensor)))
        for tensor in graph.initializer
    }


def _digest(state: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].contiguous()
        digest.update(f"{key}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
