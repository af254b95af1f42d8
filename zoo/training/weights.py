"""The trained weights a recipe starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.artifacts.artifact import open_artifact
from zoo.artifacts.safetensors_check import checked_tensors
from zoo.checkpoints.resolver import find_shipped, locate_artifact
from zoo.errors import UsageError
from zoo.extras import require
from zoo.modules.state_digest import state_digest
from zoo.onnx.check import load_checked_model
from zoo.training.weight_files import find_weight_file
from zoo.training.weight_loading import check_finite, load_weight_file, make_plain

if TYPE_CHECKING:
    import torch
    from torch import nn

    from zoo.artifacts.artifact import Artifact
    from zoo.contracts import Architecture


_COUNTER = "num_batches_tracked"
#: Labels of weights that come with the architecture.
_RANDOM, _OWN = "random", "its own"


@dataclass(frozen=True)
class StartWeights:
    """The weights that training starts from.

    Attributes:
        label: For reports.
        sha256: Of the weights, "" if random.
        trained: Whether they were trained.
        remark: What was loaded, in a sentence; "" if that needs no words.
        named: Whether `label` is the name of an artifact; it may be that of a file, or say that there is none.
    """

    label: str
    sha256: str
    trained: bool
    remark: str = ""
    named: bool = False


def load_start(
    model: nn.Module, architecture: Architecture, name: str, *, entry: str = "", partial: bool = False
) -> StartWeights:
    """Put the weights called `name` into `model`.

    Args:
        model: Changed in place; from :func:`build_start`.
        architecture: Of `model`.
        name: "auto" takes those that the architecture brings itself, or the checkpoint of its id that is part
            of this installation, if there is one; "none" keeps what `model` has; a file of weights is read as
            :mod:`zoo.training.weight_files` says; any other name is looked up as :mod:`zoo.checkpoints.resolver`
            says.
        entry: The place in a file of weights that holds those to take, such as "ema"; "" for the one that fits.
        partial: Whether a file may lack tensors of the network, or hold others.

    Raises:
        UsageError: The layers differ.
        IntegrityError: The file is damaged, or the network then has numbers that are not finite.
        InputError: The file cannot be read without executing code.
    """
    found = _loaded(model, architecture, name, entry, partial=partial)
    check_finite(model, model.state_dict(), f"The weights of {architecture.id} ({found.label})")
    return found


def _loaded(
    model: nn.Module, architecture: Architecture, name: str, entry: str, *, partial: bool
) -> StartWeights:
    if name in ("auto", "none"):
        if architecture.trained or not model.state_dict():  # without any, none are random
            said = f"Weights: {architecture.weights_from}." if architecture.weights_from else ""
            return StartWeights(_OWN, state_digest(model.state_dict()), trained=True, remark=said)
        shipped = find_shipped(architecture.id) if name == "auto" else None
        if shipped is None:
            return StartWeights(_RANDOM, "", trained=False, remark=_random_remark(architecture))
        name, artifact = architecture.id, open_artifact(shipped)
    elif (path := find_weight_file(name)) is not None:
        remark = load_weight_file(model, architecture, path, entry=entry, partial=partial)
        return StartWeights(path.name, state_digest(model.state_dict()), trained=True, remark=remark)
    else:
        artifact = locate_artifact(name, subset=False)
    if entry or partial:
        raise UsageError(
            "--weights-key and --partial are for files of weights; an artifact holds one whole set."
        )
    state = read_weights(artifact)
    reason = fit_weights(model, state, architecture)
    if reason:
        raise UsageError(
            f"The weights of {name} do not fit {architecture.id}: {reason}.",
            hint="Name the architecture that they belong to, or train from scratch with --weights none.",
        )
    return StartWeights(name, state_digest(state), trained=True, named=True)


def build_start(architecture: Architecture, name: str) -> nn.Module:
    """Return a network for :func:`load_start` to put the weights called `name` into.

    One with several inputs is called with the array that holds them.
    """
    from zoo.modules.several_inputs import with_one_input

    network = architecture.build() if name in ("auto", "none") else architecture.build_blank()
    return with_one_input(network, architecture.input.parts)


def _random_remark(architecture: Architecture) -> str:
    return (
        f"{architecture.id} has random weights: none were named. Its cost is measured as usual; its outputs mean "
        f"nothing. Name trained ones with --weights{architecture.published_as()}."
    )


def fit_weights(
    model: nn.Module, state: Mapping[str, torch.Tensor], architecture: Architecture | None = None
) -> str:
    """Put a state into `model` if it fits.

    Where a network computes weights when it uses them, as under weight norm, the state may hold what they are
    computed from, or their values. If it holds values, they are plain tensors of `model` afterwards, in plain layers.

    Args:
        model: Changed in place if the state fits.
        state: Weights (...,) of any shape, by their keys in the state dict.
        architecture: Of `model`; None if all layers are of torch's own classes.

    Returns:
        Why it does not fit; "" if it did.
    """
    reason = _misfit(model, state)
    if reason and make_plain(model, architecture):
        reason = _misfit(model, state)
    if not reason:
        _put_weights(model, state)
    return reason


def _misfit(model: nn.Module, state: Mapping[str, torch.Tensor]) -> str:
    """Return why `state` does not fit `model`, "" if it does.

    The counters of batch norms are optional, and so are levels, which older artifacts have where networks begin.
    """
    from zoo.quantization.fake_quant import LOWEST_LEVEL

    wanted, optional = model.state_dict(), (_COUNTER, LOWEST_LEVEL)
    missing = sorted(key for key in wanted.keys() - state.keys() if not key.endswith(optional))
    wrong = sorted(key for key in wanted.keys() & state.keys() if wanted[key].shape != state[key].shape)
    if not (missing or wrong):
        return ""
    return (
        f"{len(missing)} tensors are missing and {len(wrong)} have another shape, for instance "
        f"{(missing or wrong)[0]}"
    )


def _put_weights(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Put a state that fits into `model`."""
    wanted = model.state_dict()
    model.load_state_dict(
        {key: state[key].to(old.dtype) if key in state else old for key, old in wanted.items()}
    )


def read_weights(artifact: Artifact) -> dict[str, torch.Tensor]:
    """Return the weights of an artifact: model.safetensors, or, without one, the tensors inside model.onnx."""
    from safetensors.torch import load

    if "model.safetensors" in artifact.manifest.files:
        source = str(artifact.path / "model.safetensors")
        return load(checked_tensors(artifact.read("model.safetensors"), source))
    return _onnx_weights(load_checked_model(artifact))


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
