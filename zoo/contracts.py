"""What an architecture, a technique, a dataset, an engine and a device profile are.

These are the contracts between zoo and every plugin, built-in or not. The module imports no torch and no
numpy: discovery and legality work without them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    import torch
    from torch import nn

    FloatArray = npt.NDArray[np.float32]

#: The version of these contracts. A plugin states the one it was written for in its `contract` attribute.
CONTRACT_VERSION = 1


class Phase(str, Enum):
    """What a technique works on; a recipe runs structure, then training, then numerics."""

    STRUCTURE = "structure"
    TRAINING = "training"
    NUMERICS = "numerics"


# --------------------------------------------------------------------------------------------- architectures

Task = Literal["raw-to-rgb", "segmentation", "classification"]
#: The task of a network by the kind of its output.
TASKS: Mapping[str, Task] = {"rgb": "raw-to-rgb", "mask": "segmentation", "logits": "classification"}


@dataclass(frozen=True)
class InputSpec:
    """What a network takes in.

    kind:        "packed-raw" (amplified sensor data, one channel per colour-filter position), "rgb" or "gray".
    channels:    channels of the network's input tensor (N, channels, H, W), float32 in [0, 1].
    multiple_of: H and W must be multiples of this.
    example:     (H, W) of the input tensor used for tracing and for the cost figures.
    fixed_size:  True if only `example` is accepted.
    mosaic:      "bayer" (2x2 cell, 4 channels), "xtrans" (6x6 cell, 9 channels) or None.
    white_balance: True if the camera's white-balance gains are applied to the packed data.
    mean, std:   normalisation per channel, done inside the exported graph; empty for none.
    halo:        packed-raw: input pixels on each side of a tile that its output depends on, when tiles
                 start at multiples of `multiple_of`; None if unknown.
    target_level: packed-raw: mean of the green channel after amplification that the network is used to;
                 None if unknown.
    """

    kind: Literal["packed-raw", "rgb", "gray"]
    channels: int
    multiple_of: int = 1
    example: tuple[int, int] = (256, 256)
    fixed_size: bool = False
    mosaic: Literal["bayer", "xtrans"] | None = None
    white_balance: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    halo: int | None = None
    target_level: float | None = None


@dataclass(frozen=True)
class OutputSpec:
    """What a network gives.

    kind:     "rgb" (N, 3, scale*H, scale*W), sRGB in [0, 1], clipped inside the exported graph; "mask"
              (N, channels, scale*H, scale*W), probabilities in [0, 1], the sigmoid inside the net; or "logits".
    channels: channels (or classes) of the output.
    scale:    output pixels per input pixel along each side; 0 for outputs that are not images.
    """

    kind: Literal["rgb", "mask", "logits"]
    channels: int
    scale: int = 0


class Architecture:
    """A named builder of an `nn.Module` plus what one must know to compress it.

    A subclass sets the class attributes and implements :meth:`build`. A *family* (``timm:resnet18``) sets
    ``family = True`` and is constructed with the part after the colon; it sets specs in ``__init__``.
    """

    contract: ClassVar[int] = CONTRACT_VERSION
    family: ClassVar[bool] = False
    #: whether :meth:`build` gives trained weights, which it finds by itself
    trained: bool = False
    #: what a recipe file calls it, where that is not what the user typed
    named: str = ""
    id: str
    summary: str
    paper: str = ""
    task: Task
    input: InputSpec
    output: OutputSpec

    def __init__(self, member: str | None = None) -> None:
        self.member = member

    def build(self) -> nn.Module:
        """A freshly initialised network in float32; initialisation follows torch's global seed."""
        raise NotImplementedError

    def identity(self) -> str:
        """What its networks depend on beyond its name and version, such as a digest of a file; "" for nothing.

        It is part of the fingerprint.
        """
        return ""

    def stages(self) -> Sequence[Mapping[str, Any]]:
        """Names of the modules of each stage, outermost first: {"down": ..., "up": ...}. May be empty."""
        return ()


# ------------------------------------------------------------------------------------------------ techniques


class Reporter(Protocol):
    """Where long work tells of its progress. Techniques print nothing; they call this."""

    def note(self, message: str) -> None:
        """One line worth reading."""

    def start(self, task: str, total: float | None, unit: str = "steps") -> None:
        """A task of `total` units (None if unknown) begins; it replaces the task before. Unit "s" is seconds."""

    def advance(self, amount: float = 1, **figures: float | str) -> None:
        """The task went on by `amount`; `figures` are shown beside the bar (loss=0.031)."""

    def finish(self) -> None:
        """The task is done."""


class SilentReporter:
    """A reporter that keeps the notes and shows nothing."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def start(self, task: str, total: float | None, unit: str = "steps") -> None:
        pass

    def advance(self, amount: float = 1, **figures: float | str) -> None:
        pass

    def finish(self) -> None:
        pass


@dataclass(frozen=True)
class LeftAlone:
    """A layer a technique did not touch, and why."""

    technique: str
    layer: str
    reason: str


@dataclass(frozen=True)
class LossTerm:
    """One addend of the training objective.

    compute: called with (inputs, outputs, targets, model) of a batch; returns a scalar tensor.
    module:  what is trained beside the net for this term's sake, and kept with the state of an interrupted
             training; never exported. Several terms may share one.
    begin:   called with the net when a training of it begins, for what must be attached to it (hooks); returns
             what takes it away again at the end. A recipe trains up to twice, the second time another net.
    """

    name: str
    weight: float
    compute: Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None, nn.Module], torch.Tensor]
    module: nn.Module | None = None
    begin: Callable[[nn.Module], Callable[[], None]] | None = None


@dataclass
class Context:
    """What a technique may use.

    example_input: one batch (1, C, H, W) in the range the network was built for.
    calibration:   called, gives a few batches of typical inputs; None when no data is there.
    teacher:       the network as it was before the recipe, in eval mode; None when there is none.
    seed:          every random choice is derived from it.
    """

    architecture: Architecture
    example_input: torch.Tensor
    calibration: Callable[[], Iterable[torch.Tensor]] | None = None
    teacher: nn.Module | None = None
    seed: int = 0
    report: Reporter = field(default_factory=SilentReporter)
    left_alone: list[LeftAlone] = field(default_factory=list)

    def leave(self, technique: str, layer: str, reason: str) -> None:
        """Record a layer that `technique` leaves as it is. Never skip one silently."""
        self.left_alone.append(LeftAlone(technique, layer, reason))


class Technique:
    """One compression method: a small class around a config dataclass.

    Config:     a frozen dataclass; its fields are the recipe's options (see :mod:`zoo.options`).
    phase:      what it works on; phases order a recipe (structure, training, numerics).
    before:     ids of techniques it must come before, beyond what the phases already say.
    after:      ids of techniques it must come after.
    conflicts:  ids it can never share a recipe with.
    repeatable: whether it may appear twice in one recipe.
    retrains:   whether the net is trained after the rewrite; False for post-training methods.
    shrinks:    whether the exported file must have fewer bytes or fewer multiplications afterwards; False for
                what makes a graph easier to run without either.

    Implement what is needed of :meth:`rewrite`, :meth:`objective`, :meth:`finish`; inherit the rest.
    The model handed in may be changed in place and must be returned (or its replacement).
    """

    contract: ClassVar[int] = CONTRACT_VERSION
    id: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str] = ""
    phase: ClassVar[Phase]
    Config: ClassVar[type]
    before: ClassVar[frozenset[str]] = frozenset()
    after: ClassVar[frozenset[str]] = frozenset()
    conflicts: ClassVar[frozenset[str]] = frozenset()
    repeatable: ClassVar[bool] = False
    retrains: ClassVar[bool] = True
    shrinks: ClassVar[bool] = True

    def __init__(self, config: Any = None) -> None:
        self.config = self.Config() if config is None else config

    def identity(self) -> str:
        """What the result depends on beyond the options, such as a digest of a file that one names; "" for nothing.

        It is part of the recipe's fingerprint. Raises ZooError if an option names what is not there.
        """
        return ""

    @property
    def precision(self) -> str:
        """What the net computes in afterwards, for the manifest ("int4"); "" where the file tells."""
        return ""

    def adapt(self, spec: InputSpec) -> InputSpec:
        """What the net takes in after the rewrite: never less than `spec` asks for, but sides may have to be
        multiples of more, and tiles may need a wider border. Asked before any work is done.
        """
        return spec

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """The new structure, initialised from the trained weights, never from scratch where a closed form exists."""
        return model

    def objective(self, context: Context) -> Sequence[LossTerm]:
        """What training must also minimise."""
        return ()

    def finish(self, model: nn.Module, context: Context) -> nn.Module:
        """What happens after training: fold, freeze, bake scales."""
        return model


# -------------------------------------------------------------------------------------------------- datasets


@dataclass(frozen=True)
class Sample:
    """One picture to train or evaluate on.

    name, scene: for reports and for splitting; all samples of a scene fall in one split.
    inputs:  float32 (C, H, W), as the network takes them.
    target:  float32 (channels, scale*H, scale*W) in [0, 1], or None for unlabelled data.
    """

    name: str
    scene: str
    inputs: FloatArray
    target: FloatArray | None


Split = Literal["train", "val", "test"]


class Dataset:
    """A stream of samples; memory does not grow with the number of them.

    Config is a frozen dataclass like a technique's (``--data 'darkroom(photos=DIR)'``).
    """

    contract: ClassVar[int] = CONTRACT_VERSION
    id: ClassVar[str]
    summary: ClassVar[str]
    Config: ClassVar[type]
    #: tasks of the architectures that can use it
    tasks: ClassVar[frozenset[str]]

    def __init__(self, config: Any = None) -> None:
        self.config = self.Config() if config is None else config

    def scenes(self, split: Split) -> Sequence[str]:
        """Names of the scenes of a split; deterministic, and disjoint between splits."""
        raise NotImplementedError

    def crops(self, architecture: Architecture, size: int, seed: int, start: int = 0) -> Iterator[Sample]:
        """An endless, reproducible stream of training crops of `size` x `size` input-tensor pixels.

        Crop number k depends on (seed, k) alone; `start` is the number of the first.
        """
        raise NotImplementedError

    def frames(self, architecture: Architecture, split: Split, seed: int = 0) -> Iterator[Sample]:
        """Whole frames of a split, each made when asked for; deterministic."""
        raise NotImplementedError

    def identity(self) -> str:
        """A string that changes when the data does; part of the recipe's fingerprint."""
        raise NotImplementedError


# ------------------------------------------------------------------------------------------ engines, devices


Execution = Literal["sequential", "parallel"]
#: What a :class:`KernelGap` may say of a net's layers.
GAP_OPERATORS = ("concat", "conv", "depthwise", "grouped", "leaky-relu", "silu", "transposed")


@runtime_checkable
class Session(Protocol):
    """A loaded model: float32 (N, C, H, W) in, float32 out.

    One that takes inputs up to some size only may say so by an attribute `most_side`, their longest side.
    """

    def run(self, inputs: FloatArray) -> FloatArray: ...


class Engine:
    """What executes an artifact's model.onnx. Import the engine's package in :meth:`open`, not before."""

    contract: ClassVar[int] = CONTRACT_VERSION
    id: ClassVar[str]
    summary: ClassVar[str]

    def available(self) -> str | None:
        """None if the engine can run here, else why not, as a sentence."""
        raise NotImplementedError

    def version(self) -> str:
        """Version of the engine's package."""
        raise NotImplementedError

    def open(self, model: Path | bytes, *, threads: int = 0, profile: DeviceProfile | None = None) -> Session:
        """Load a model, as `profile` says the device computes best; None for the engine's own defaults.

        threads: on the processor; 0 for what the profile says, else as many as this process may use. Never start
        more than those: :func:`zoo.machine.processors.thread_count` gives the number. Raises ZooError.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class KernelGap:
    """Something a board's engines do not compute, or compute slowly.

    what, effect: in words, the operation and what happens. The rest is for `zoo apply --device`, each empty for any:

    precision:  the numeric type that is concerned.
    operators:  kinds of layers, all of which a net must have: see :data:`GAP_OPERATORS`.
    remedy:     a technique that avoids it, put behind a recipe's other changes of structure.
    multiple:   counts of channels that are no multiple of it are concerned; 0 if that makes no difference.
    """

    what: str
    effect: str
    source: str
    precision: str = ""
    operators: tuple[str, ...] = ()
    remedy: str = ""
    multiple: int = 0

    @property
    def readable(self) -> bool:
        """Whether a program can tell what it concerns."""
        return bool(self.precision or self.operators or self.multiple)


@dataclass(frozen=True)
class DeviceProfile:
    """What a board can do; see :func:`zoo.devices.read_profile` for one from a file.

    memory_mb:     physical memory, all of it; a GPU that has none of its own shares it.
    precisions:    numeric types that run fast, best first.
    engines:       engine ids in order of preference; the first that can run here is taken.
    processor, gpu: in words, "" for no GPU.
    bandwidth_gbs: of the memory, in GB/s; None if unknown.
    int8_tops:     dense int8 operations a second, in 10^12, as the maker states them; None if it computes no int8.
    threads:       for an engine on the processor; 0 for as many as the process may use.
    arena:         whether the engine keeps memory it took for the next run; without, it peaks lower or higher by net.
    reserve_mb:    memory an engine with an arena sets aside in one piece, so that it does not fall apart; 0 for none.
                   The runner, which knows what a tile takes, states it.
    execution:     "sequential" runs a net's operators one after another, each on all threads; "parallel" runs those
                   that do not wait for each other at once, which pays for nets of many branches.
    power_modes:   in watts, lowest first; empty if there is one.
    power_sensors: patterns of files that tell the power in mW, or pairs "voltage in mV * current in mA".
    software:      versions the board stops at or comes with, by name (jetpack, tensorrt, cuda, python, glibc).
    gaps:          what its engines do not compute well.
    sources:       where the figures come from, by the name of the field.
    """

    id: str
    summary: str
    memory_mb: int
    precisions: tuple[str, ...]
    engines: tuple[str, ...]
    contract: int = CONTRACT_VERSION
    processor: str = ""
    gpu: str = ""
    bandwidth_gbs: float | None = None
    int8_tops: float | None = None
    threads: int = 0
    arena: bool = True
    reserve_mb: int = 0
    execution: Execution = "sequential"
    power_modes: tuple[float, ...] = ()
    power_sensors: tuple[str, ...] = ()
    software: Mapping[str, str] = field(default_factory=dict)
    gaps: tuple[KernelGap, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
