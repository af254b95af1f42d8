"""Every classification network of torchvision with its published weights, as `torchvision:NAME`.

https://docs.pytorch.org/vision/stable/models.html
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, get_args
from urllib.parse import urlsplit

from zoo.contracts import Architecture, InputSpec, OutputSpec
from zoo.contracts.architecture import Interpolation
from zoo.errors import IntegrityError, NetworkError, UnknownIdError, UsageError
from zoo.extras import require
from zoo.storage.atomic import sha256_of
from zoo.suggest import did_you_mean

if TYPE_CHECKING:
    from torch import nn

_INTERPOLATIONS = get_args(Interpolation)
#: The start of the sha256 in the name of each published file.
_SHA256_START = re.compile(r"-([0-9a-f]{8,64})\.pth$")


class TorchvisionArchitecture(Architecture):
    """A classifier of torchvision: ``torchvision:resnet18``, or with weights ``torchvision:resnet18.IMAGENET1K_V1``.

    The weights, by default torchvision's best, are those published at download.pytorch.org. Such a file is a pickle; it
    is read with ``weights_only=True``, which executes nothing, and must have the sha256 that its name states. Input
    size, normalisation and crop are those of the weights. Nothing is downloaded before :meth:`build`.

    Raises:
        UnknownIdError: torchvision has no such classifier, or no such weights of it.
        MissingDependencyError: torchvision is not installed.
    """

    family: ClassVar[bool] = True
    summary = "any image classifier in torchvision, with its published weights (torchvision:resnet18)"
    trained = True

    def __init__(self, member: str | None = None) -> None:
        super().__init__(member)
        if not member:
            raise UsageError(
                "'torchvision' is a family of architectures: write torchvision:NAME.",
                hint="torchvision:resnet18",
            )
        self._name, _, tag = member.partition(".")
        self._weights = _weights_of(self._name, tag)
        self._loaded: list[str] = []
        transforms = self._weights.transforms()
        crop, resized = transforms.crop_size[0], transforms.resize_size[0]
        self.id = f"torchvision:{self._name}.{self._weights.name}"
        self.summary = f"{self._name} of torchvision, {crop} x {crop}"
        self.task = "classification"
        how = str(transforms.interpolation.value)
        self.input = InputSpec(
            kind="rgb",
            channels=3,
            example=(crop, crop),
            mean=tuple(transforms.mean),
            std=tuple(transforms.std),
            crop_pct=min(1.0, crop / resized),
            interpolation=how if how in _INTERPOLATIONS else None,  # type: ignore[arg-type]
        )
        self.output = OutputSpec(kind="logits", channels=len(self._weights.meta["categories"]))

    @property
    def weights_from(self) -> str:  # type: ignore[override]
        """Return the address and the sha256 of the weights that were loaded; "" before."""
        return self._loaded[-1] if self._loaded else ""

    def identity(self) -> str:
        """Return where the weights are from, with their sha256."""
        return self.weights_from

    def build(self) -> nn.Module:
        """Return the network with its published weights.

        Raises:
            NetworkError: They are not in the cache, and cannot be downloaded.
            IntegrityError: The file is not the published one.
        """
        import torch

        path = _download(self._weights.url)
        digest = sha256_of(path.resolve())
        stated = _SHA256_START.search(path.name)
        if stated is None or not digest.startswith(stated[1]):
            raise IntegrityError(
                f"{path} is damaged: its sha256 is {digest}, which does not start as its name states.",
                hint=f"Remove it, and run the command again:  rm {path}",
            )
        net = self.build_blank()
        net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self._loaded[:] = [f"{self._weights.url} sha256:{digest}"]
        return net

    def build_blank(self) -> nn.Module:
        """Return the network with random weights; nothing is downloaded."""
        from torchvision.models import get_model

        more: dict[str, Any] = {}
        if self._name in ("googlenet", "inception_v3"):  # their auxiliary heads are for training only
            more = {"init_weights": False}
        net: nn.Module = get_model(self._name, num_classes=self.output.channels, **more)
        return net


def _weights_of(name: str, tag: str) -> Any:
    """Return torchvision's record of some weights of a classifier."""
    torchvision = require("torchvision", f"torchvision:{name}")
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        raise UnknownIdError(
            f"torchvision has no classifier '{name}'{did_you_mean(name, names)}",
            hint='List them with:  python -c "import torchvision.models as m; print(*m.list_models(module=m))"',
        )
    weights = torchvision.models.get_model_weights(name)
    known = [each.name for each in weights]
    if tag and tag not in known:
        raise UnknownIdError(
            f"torchvision has no '{name}' trained as '{tag}'{did_you_mean(tag, known)}",
            hint=f"Known: {', '.join(known)}",
        )
    return weights[tag] if tag else weights.DEFAULT


def _download(url: str) -> Path:
    """Return the file of an address in torch's cache, downloaded if it is not there."""
    import torch

    name = Path(urlsplit(url).path).name
    path = Path(torch.hub.get_dir(), "checkpoints", name)
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except OSError as error:
            raise NetworkError(
                f"{name} is not in the cache, and {url} cannot be downloaded: {error}.",
                hint=f"Download it elsewhere, and copy it to {path}",
            ) from error
    return path
