"""What a technique is: one compression method, and what it may use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from zoo.contracts.contract_version import CONTRACT_VERSION
from zoo.contracts.reporter import Reporter, SilentReporter

if TYPE_CHECKING:
    import torch
    from torch import nn

    from zoo.contracts.architecture import Architecture, InputSpec, OutputSpec


class Phase(str, Enum):
    """What a technique works on; a recipe runs structure, then training, then numerics."""

    STRUCTURE = "structure"
    TRAINING = "training"
    NUMERICS = "numerics"


@dataclass(frozen=True)
class SkippedLayer:
    """A layer that a technique did not change, and why."""

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


@dataclass(frozen=True)
class Teacher:
    """A trained network to learn from, as :attr:`Context.load_teacher` returns it.

    net:      in eval mode, for inputs as `input` says, normalised.
    blocks:   names of the modules of its stages that end in a feature; may be empty.
    sha256:   of its weights.
    readable: whether it has layers to look at; a network that an engine runs has none.
    """

    net: nn.Module
    input: InputSpec
    output: OutputSpec
    blocks: tuple[str, ...]
    sha256: str
    readable: bool = True


@dataclass
class Context:
    """What a technique may use.

    example_input: one batch (1, C, H, W) in the range the network was built for.
    calibration:   called, gives a few batches of typical inputs; None when no data is there.
    teacher:       the network as it was before the recipe, in eval mode; None when there is none.
    load_teacher:  called with the name of an artifact, a checkpoint or an architecture that brings trained weights,
                   returns that network; None where there is nothing to load from. A technique that calls it
                   declares the name in :meth:`Technique.teachers`.
    seed:          every random choice is derived from it.
    """

    architecture: Architecture
    example_input: torch.Tensor
    calibration: Callable[[], Iterable[torch.Tensor]] | None = None
    teacher: nn.Module | None = None
    seed: int = 0
    report: Reporter = field(default_factory=SilentReporter)
    skipped_layers: list[SkippedLayer] = field(default_factory=list)
    load_teacher: Callable[[str], Teacher] | None = None

    def skip_layer(self, technique: str, layer: str, reason: str) -> None:
        """Record a layer that `technique` does not change. Never skip one silently."""
        self.skipped_layers.append(SkippedLayer(technique, layer, reason))

    def leave(self, technique: str, layer: str, reason: str) -> None:
        """Call :meth:`skip_layer`; the former name, which contract 1 keeps."""
        self.skip_layer(technique, layer, reason)

    @property
    def left_alone(self) -> list[SkippedLayer]:
        """Return `skipped_layers`; the former name, which contract 1 keeps."""
        return self.skipped_layers


#: The former name of :class:`SkippedLayer`, which contract 1 keeps.
LeftAlone = SkippedLayer

#: Attributes of :class:`Technique` that were renamed: former name, name. Contract 1 keeps both.
_RENAMED = (("adapt", "adapt_input"), ("shrinks", "must_shrink"), ("retrains", "needs_training"))


class Technique:
    """One compression method: a small class around a config dataclass.

    Config:     a frozen dataclass; its fields are the recipe's options (see :mod:`zoo.options`).
    phase:      what it works on; phases order a recipe (structure, training, numerics).
    before:     ids of techniques it must come before, beyond what the phases already say.
    after:      ids of techniques it must come after.
    conflicts:  ids it can never share a recipe with.
    repeatable: whether it may appear twice in one recipe.
    needs_training: whether the network is trained after the rewrite; False for post-training methods.
    must_shrink: whether the exported file must have fewer bytes or fewer multiplications afterwards; False for
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
    needs_training: ClassVar[bool] = True
    must_shrink: ClassVar[bool] = True

    def __init_subclass__(cls, **options: Any) -> None:
        """Let what a class says under a former name hold under the present one, and the other way round."""
        super().__init_subclass__(**options)
        for pair in _RENAMED:
            nearest = next(owner for owner in cls.__mro__ if not vars(owner).keys().isdisjoint(pair))
            said = next(vars(nearest)[name] for name in reversed(pair) if name in vars(nearest))
            for name in pair:
                setattr(cls, name, said)

    def __init__(self, config: Any = None) -> None:
        self.config = self.Config() if config is None else config

    def identity(self) -> str:
        """What the result depends on beyond the options, such as a digest of a file that one names; "" for nothing.

        It is part of the recipe's fingerprint. Raises ZooError if an option names what is not there.
        """
        return ""

    def teachers(self) -> Sequence[str]:
        """Return the names of the networks that it asks :attr:`Context.load_teacher` for.

        They are loaded before any work, so that an unknown name is refused at once, and their weights are part of
        the recipe's fingerprint.
        """
        return ()

    @property
    def precision(self) -> str:
        """What the net computes in afterwards, for the manifest ("int4"); "" where the file tells."""
        return ""

    def adapt_input(self, spec: InputSpec) -> InputSpec:
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
        """What happens after training: fold, freeze, bake scales.

        A recipe calls it on a copy of the network after each of its trainings, so more than once for one technique
        object. It must therefore be pure: the same network must give the same result however often it is called,
        and neither the technique nor the context may change.
        """
        return model

    adapt = adapt_input
    shrinks = must_shrink
    retrains = needs_training
