"""Every classification network of timm, as `timm:NAME`, and those in timm's format on the Hub, as `hf-hub:OWNER/NAME`.

Wightman, "PyTorch Image Models", https://github.com/huggingface/pytorch-image-models.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, get_args

from zoo.architectures.hub_files import HubFile, fetch_hub_file
from zoo.artifacts.safetensors_check import checked_tensors
from zoo.contracts import Architecture, InputSpec, OutputSpec
from zoo.contracts.architecture import Interpolation
from zoo.errors import InputError, IntegrityError, UnknownIdError, UsageError, ZooError
from zoo.extras import require
from zoo.options import format_options, option, parse_options
from zoo.recipes.grammar import Stage, parse_stage
from zoo.schema import parse_json
from zoo.storage.atomic import read_bytes
from zoo.suggest import did_you_mean

if TYPE_CHECKING:
    from torch import nn

#: Classes given to networks that timm knows as feature extractors only.
_CLASSES = 1000
_INTERPOLATIONS = get_args(Interpolation)
_HUB = "hf-hub:"
_LARGEST = 1 << 36
_SAFE = ("model.safetensors", "open_clip_model.safetensors")


@dataclass(frozen=True)
class TimmConfig:
    """Options of a network of timm, as in ``timm:resnet18.a1_in1k(classes=10)``."""

    classes: int | None = option(
        None, minimum=1, maximum=1 << 20, help="number of classes; its published number if none"
    )
    size: int | None = option(
        None,
        minimum=8,
        maximum=4096,
        unit="pixel",
        help="height and width of the example; the published ones if none",
    )


class TimmArchitecture(Architecture):
    """A network of timm by its name there: ``timm:resnet18``, or with the tag of its weights ``timm:resnet18.a1_in1k``.

    With a tag, or as ``timm:hf-hub:OWNER/NAME``, :meth:`build` loads the published weights from the Hub, from
    safetensors files only; ``@REVISION`` behind the name pins the commit. Without, the weights are random.
    Input size, normalisation, crop and classes are those the network was published with. Nothing is downloaded and
    nothing is built before :meth:`build`, except the description of a network on the Hub.

    Raises:
        UnknownIdError: timm has no such network.
        UsageError: An option is wrong.
        MissingDependencyError: timm is not installed.
    """

    family: ClassVar[bool] = True
    summary = "any image classifier in timm, by its name there (timm:resnet18.a1_in1k)"

    def __init__(self, member: str | None = None) -> None:
        super().__init__(member)
        if not member:
            raise UsageError(
                "'timm' is a family of architectures: write timm:NAME.", hint="timm:resnet18.a1_in1k"
            )
        require("timm", f"timm:{member}")
        name, bracket, options = member.partition("(")
        stage = parse_stage(f"timm{bracket}{options}", "network")
        self._config = parse_options("timm", TimmConfig, stage.option_map)
        self._name, _, self._revision = name.strip().partition("@")
        self._fetched: list[HubFile] = []
        if self._name.startswith(_HUB):
            self._published, self._build_name, self._arguments = self._described()
        else:
            self._published, self._build_name, self._arguments = _registered(self._name), self._name, {}
        self.trained = self._name.startswith(_HUB) or "." in self._name
        self._options = _text(self._config)
        self.id = f"timm:{self._name}{self._options}"
        self._specify()

    @property
    def named(self) -> str:  # type: ignore[override]
        """Return the name with the revision whose weights were loaded; "" before."""
        revision = self._fetched[-1].revision if self._fetched else ""
        return f"timm:{self._name}@{revision}{self._options}" if revision else ""

    @property
    def weights_from(self) -> str:  # type: ignore[override]
        """Return repository, revision, file and sha256 of the weights that were loaded; "" before."""
        return str(self._fetched[-1]) if self._fetched else ""

    def identity(self) -> str:
        """Return where the weights are from, with their sha256."""
        return self.weights_from

    def build(self) -> nn.Module:
        """Return the network, with its published weights if it is named with their tag.

        Raises:
            ZooError: timm cannot build it, or its weights cannot be loaded.
        """
        if not self.trained:
            return self.build_blank()
        file = self._fetch()
        checked_tensors(read_bytes(file.path.resolve(), _LARGEST), str(file.path))
        net = self._created(file)
        _check_finite(net, str(file))
        return net

    def build_blank(self) -> nn.Module:
        """Return the network with random weights; nothing is downloaded."""
        return self._created(None)

    def published_as(self) -> str:
        """Return the name with the tag of published weights."""
        published = self._published
        known = published.tag and published.hf_hub_id and not self.trained
        return f", or write timm:{self._name}.{published.tag}{self._options}" if known else ""

    # ----------------------------------------------------------------------------------------------- details

    def _described(self) -> tuple[Any, str, dict[str, Any]]:
        """Return the published settings, the name in timm and the arguments of a network on the Hub."""
        from timm.models._pretrained import PretrainedCfg

        repository = self._name.removeprefix(_HUB)
        file = fetch_hub_file(repository, ("config.json",), self._revision)
        self._revision = file.revision  # of the weights too
        where = f"{repository}/config.json"
        described = parse_json(read_bytes(file.path.resolve(), 1 << 24), where, error=InputError)
        if not isinstance(described, dict) or not isinstance(described.get("architecture"), str):
            raise InputError(f"{where} does not describe a network of timm.")
        settings = described.get("pretrained_cfg", described)
        known = set(PretrainedCfg.__dataclass_fields__)
        settings = {key: value for key, value in settings.items() if key in known and value is not None}
        settings |= {key: described[key] for key in ("num_classes",) if described.get(key) is not None}
        settings |= {"hf_hub_id": repository, "architecture": described["architecture"]}
        settings["input_size"] = tuple(settings.get("input_size", (3, 224, 224)))
        arguments = described.get("model_args") or {}
        _registered(described["architecture"])
        return PretrainedCfg(**settings), described["architecture"], dict(arguments)

    def _specify(self) -> None:
        published, config = self._published, self._config
        channels, height, width = published.input_size
        if config.size is not None:
            height = width = config.size
        self.summary = f"{self._name} of timm, {height} x {width}"
        self.paper = published.paper_name or ""
        self.task = "classification"
        self.input = InputSpec(
            kind="rgb",
            channels=channels,
            example=(height, width),
            fixed_size=bool(published.fixed_input_size),
            mean=tuple(published.mean),
            std=tuple(published.std),
            crop_pct=min(1.0, published.crop_pct),
            interpolation=published.interpolation if published.interpolation in _INTERPOLATIONS else None,
        )
        self.output = OutputSpec(kind="logits", channels=config.classes or published.num_classes or _CLASSES)

    def _fetch(self) -> HubFile:
        """Fetch the weights, once for all copies of this object."""
        if not self._fetched:
            published = self._published
            if not published.hf_hub_id:
                raise InputError(
                    f"The weights '{self._name}' are published at {published.url or 'no address'}, not on the Hub as "
                    "safetensors.",
                    hint=f"Download them, and name the file:  timm:{self._name.partition('.')[0]} --weights FILE",
                )
            repository, _, tag = published.hf_hub_id.partition("@")
            name = published.hf_hub_filename or ""
            own = (f"{name.rpartition('.')[0]}.safetensors",) if name and name not in _PICKLES else ()
            self._fetched.append(fetch_hub_file(repository, own or _SAFE, self._revision or tag))
        return self._fetched[-1]

    def _created(self, file: HubFile | None) -> nn.Module:
        import timm

        arguments: dict[str, Any] = {**self._arguments, "num_classes": self.output.channels}
        if self._config.size is not None and self._published.fixed_input_size:
            arguments["img_size"] = self._config.size
        if file is not None:
            settings = copy.copy(self._published)
            settings.source, settings.file, settings.custom_load = "", str(file.path), False
            arguments["pretrained_cfg"] = settings
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                net: nn.Module = timm.create_model(self._build_name, pretrained=file is not None, **arguments)
            except Exception as error:  # whatever a network of timm needs beyond timm
                raise ZooError(f"timm cannot build '{self._name}': {error}") from error
        return net


class HubArchitecture(TimmArchitecture):
    """A network in timm's format on the Hub, ``hf-hub:OWNER/NAME``: another way to write ``timm:hf-hub:OWNER/NAME``."""

    summary = "any image classifier in timm's format on the Hugging Face Hub (hf-hub:OWNER/NAME)"

    def __init__(self, member: str | None = None) -> None:
        if not member:
            raise UsageError("'hf-hub' is a family of architectures: write hf-hub:OWNER/NAME.")
        super().__init__(f"{_HUB}{member}")


#: Names of pickled weights whose safetensors form has a name of its own.
_PICKLES = ("pytorch_model.bin", "open_clip_pytorch_model.bin")


def _text(config: TimmConfig) -> str:
    """Return the options that are not the defaults, as they are written behind a name."""
    stated, defaults = format_options(config), format_options(TimmConfig())
    said = {key: text for key, text in stated.items() if text != defaults[key]}
    return str(Stage.of("timm", said)).removeprefix("timm")


def _check_finite(net: nn.Module, where: str) -> None:
    for key, value in net.state_dict().items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise IntegrityError(f"The tensor '{key}' of {where} holds numbers that are NaN or infinite.")


def _registered(name: str) -> Any:
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
