"""Networks to learn from, by the name of a checkpoint, an artifact or an architecture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo import plugins
from zoo.architectures.weight_option import split_weights
from zoo.artifacts.artifact import open_artifact
from zoo.checkpoints.resolver import find_location
from zoo.contracts import Architecture, Teacher
from zoo.errors import UnknownIdError, UsageError, ZooError
from zoo.modules.state_digest import state_digest
from zoo.onnx.check import load_checked_model
from zoo.surgery.plain_weights import make_weights_plain
from zoo.training.inputs import denormalise
from zoo.training.weights import build_start, fit_weights, load_start, read_weights

if TYPE_CHECKING:
    from zoo.artifacts.artifact import Artifact
    from zoo.contracts import InputSpec, Session


def load_teacher(name: str) -> Teacher:
    """Return the teacher called `name`: an artifact, or else an architecture with trained weights.

    An architecture brings them itself, or they are named, ``./mynet.py:make(weights=mynet.pth)``. The artifact is
    looked up as :mod:`zoo.checkpoints.resolver` says. One whose weights do not fit its architecture, because a recipe
    changed the structure or the arithmetic, is run by the engine instead.

    Raises:
        UnknownIdError: Nothing is called so.
        UsageError: It is an architecture without trained weights.
    """
    found = find_location(name)
    if found is not None:
        return _of_artifact(open_artifact(found.path), name)
    name, weights = split_weights(name)
    try:
        architecture = plugins.architecture(name, own_files=True)
    except UnknownIdError as error:
        raise UnknownIdError(
            f"No checkpoint, artifact folder or architecture is called '{name[:100]}'.",
            hint="List the checkpoints:  zoo list checkpoints",
        ) from error
    net = _built(architecture, weights or "auto")
    trained = load_start(net, architecture, weights).trained if weights else architecture.trained
    if not trained:
        raise UsageError(
            f"The architecture '{name}' has no trained weights to learn from.",
            hint=f"Train it first, and name the artifact:  zoo train {name} --out DIR  then teacher=DIR",
        )
    make_weights_plain(net)
    return Teacher(
        net, architecture.input, architecture.output, architecture.feature_blocks(),
        state_digest(net.state_dict()),
    )  # fmt: skip


def _of_artifact(artifact: Artifact, name: str) -> Teacher:
    manifest = artifact.manifest
    state = read_weights(artifact)
    # a checkpoint may be called after the architecture that it has become: lighter-unet
    for candidate in (manifest.architecture, name):
        try:
            architecture = plugins.architecture(candidate)
        except ZooError:
            continue  # a third party's that is not installed, a file of its maker's, a folder
        net = _built(architecture, "blank")
        if not fit_weights(net, state, architecture):
            make_weights_plain(net)
            blocks = architecture.feature_blocks()
            return Teacher(net, manifest.input, manifest.output, blocks, state_digest(state))
    session = plugins.engine("onnxruntime").open(load_checked_model(artifact))
    return Teacher(
        ExportedNet(session, manifest.input), manifest.input, manifest.output, (), state_digest(state),
        readable=False,
    )  # fmt: skip


def _built(architecture: Architecture, weights: str) -> nn.Module:
    with torch.random.fork_rng():  # what is trained draws the same numbers with and without a teacher
        return build_start(architecture, weights).eval()


class ExportedNet(nn.Module):
    """A model.onnx in an engine, as a module without gradients. (N, C, H, W), normalised, -> its output."""

    def __init__(self, session: Session, spec: InputSpec) -> None:
        super().__init__()
        self._session = session
        self._spec = spec

    def forward(self, x: Tensor) -> Tensor:
        raw = denormalise(x.detach().float(), self._spec)  # the file normalises by itself
        outputs = self._session.run(raw.cpu().contiguous().numpy())
        return torch.from_numpy(outputs).to(x.device)

    def __deepcopy__(self, memo: dict[int, Any]) -> ExportedNet:
        return self  # it has no state, and sessions cannot be copied
