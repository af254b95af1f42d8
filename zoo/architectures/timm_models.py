"""Every classification network of timm, as `timm:NAME`.

Wightman, "PyTorch Image Models", https://github.com/huggingface/pytorch-image-models.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, ClassVar

from zoo.contracts import Architecture, InputSpec, OutputSpec
from zoo.errors import UnknownIdError, UsageError, ZooError
from zoo.extras import require
from zoo.suggest import did_you_mean

if TYPE_CHECKING:
    from torch import nn

#: Classes given to networks that timm knows as feature extractors only.
_CLASSES = 1000
_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")


class TimmArchitecture(Architecture):
    """A network of timm by its name there (``timm:resnet18``, ``timm:resnet18.a1_in1k``), with random weights.

    Input size, normalisation and classes are those the network was published with; nothing is downloaded and
    nothing is built before :meth:`build`.

    Raises:
        UnknownIdError: timm has no such network.
        MissingDependencyError: timm is not installed.
    """

    family: ClassVar[bool] = True
    summary = "any image classifier in timm, by its name there (timm:resnet18)"

    def __init__(self, member: str | None = None) -> None:
        super().__init__(member)
        if not member:
            raise UsageError("'timm' is a family of architectures: write timm:NAME.", hint="timm:resnet18")
        require("timm", f"timm:{member}")
        config = _config(member)
        channels, height, width = config.input_size
        self.id = f"timm:{member}"
        self.summary = f"{member} of timm, {height} x {width}"
        self.paper = config.paper_name or ""
        self.task = "classification"
        self.input = InputSpec(
            kind="rgb",
            channels=channels,
            example=(height, width),
            fixed_size=bool(config.fixed_input_size),
            mean=tuple(config.mean),
            std=tuple(config.std),
            crop_pct=min(1.0, config.crop_pct),
            interpolation=config.interpolation if config.interpolation in _INTERPOLATIONS else None,
        )
        self.output = OutputSpec(kind="logits", channels=config.num_classes or _CLASSES)

    def build(self) -> nn.Module:
        import timm

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return timm.create_model(str(self.member), pretrained=False, num_classes=self.output.channels)
            except Exception as error:  # whatever a network of timm needs beyond timm
                raise ZooError(f"timm cannot build '{self.member}': {error}") from error


def _config(name: str) -> Any:
    """timm's record of a network, from its registry alone."""
    import timm
    from timm.models import get_pretrained_cfg

    base, dot, tag = name.partition(".")
    names = timm.list_models()
    if base not in names:
        raise UnknownIdError(
            f"timm has no network '{base}'{did_you_mean(base, names)}",
            hint='List its networks with:  python -c "import timm; print(*timm.list_models())"',
        )
    known = [each for each in timm.list_pretrained(f"{base}*") if each.partition(".")[0] == base]
    if dot and name not in known:
        raise UnknownIdError(
            f"timm has no '{base}' trained as '{tag}'{did_you_mean(name, known)}",
            hint=f"Known here: {', '.join([base, *known])}",
        )
    return get_pretrained_cfg(name)
