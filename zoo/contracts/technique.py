"""The contract of techniques: one compression method, and what it may use."""

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
    """What a technique changes; a recipe runs structure, then training, then numerics."""

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
    """One term of the training objective.

    Attributes:
        name: Name for reports.
        weight: Factor of the term in the sum.
        compute: Called with (inputs, outputs, targets, model) of a batch; returns a scalar tensor.
        module: Trained in addition to the network for this term, and kept with the state of an interrupted
            training; never exported. Several terms may share one.
        begin: Called with the network when its training begins, to attach hooks and the like; returns a function
            that removes them at the end. A recipe trains up to twice, the second time a different network.
        scales_task: Whether the term only changes the weight of the task's own loss, which is 1, by `weight`; `compute`
            is not called then.
    """

    name: str
    weight: float
    compute: Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None, nn.Module], torch.Tensor]
    module: nn.Module | None = None
    begin: Callable[[nn.Module], Callable[[], None]] | None = None
    scales_task: bool = False


@dataclass(frozen=True)
class Teacher:
    """A trained network to learn from, as :attr:`Context.load_teacher` returns it.

    Attributes:
        net: The network in eval mode; its inputs are normalised as `input` says.
        input: Its input.
        output: Its output.
        blocks: Names of the modules of its stages that end in a feature; may be empty.
        sha256: Digest of its weights.
        readable: Whether it has layers to look at; a network that an engine runs has none.
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

    Attributes:
        architecture: The architecture of the network.
        example_input: One batch (1, C, H, W) in the range that the network was built for.
        calibration: Returns a few batches (N, C, H, W) of typical inputs; None without data.
        calibration_images: Called with a number, returns batches (N, C, H, W) with that many typical inputs in all;
            None without data.
        fitting_images: How many inputs layers are fitted on, unless the user states a number: enough for the layers
            with the smallest feature maps.
        teacher: The network as it was before the recipe, in eval mode; None if there is none.
        seed: Every random choice is derived from it.
        report: Receives progress and notes.
        skipped_layers: The layers that techniques did not change; see :meth:`skip_layer`.
        load_teacher: Returns the network for the name of an artifact, a checkpoint or an architecture with trained
            weights; None if there is nothing to load from. A technique that calls it declares the name in
            :meth:`Technique.teachers`.
    """

    architecture: Architecture
    example_input: torch.Tensor
    calibration: Callable[[], Iterable[torch.Tensor]] | None = None
    teacher: nn.Module | None = None
    seed: int = 0
    report: Reporter = field(default_factory=SilentReporter)
    skipped_layers: list[SkippedLayer] = field(default_factory=list)
    load_teacher: Callable[[str], Teacher] | None = None
    calibration_images: Callable[[int], Iterable[torch.Tensor]] | None = None
    fitting_images: int = 16

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

    Implement :meth:`rewrite`, :meth:`objective` or :meth:`finish` as needed, and inherit the rest. The model passed
    in may be changed in place; return it, or its replacement.

    Attributes:
        Config: A frozen dataclass; its fields are the recipe's options (see :mod:`zoo.options`).
        phase: What it changes; phases order a recipe (structure, training, numerics).
        before: Ids of techniques that it must come before, beyond what the phases imply.
        after: Ids of techniques that it must come after.
        conflicts: Ids that it can never share a recipe with.
        repeatable: Whether it may appear twice in one recipe.
        needs_training: Whether the network is trained after the rewrite; False for post-training methods.
        must_shrink: Whether the exported file must have fewer bytes or fewer multiplications afterwards; False for
            techniques that make a graph easier to run without either.
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
        """Make attributes set under a former name available under the present one, and vice versa."""
        super().__init_subclass__(**options)
        for pair in _RENAMED:
            nearest = next(owner for owner in cls.__mro__ if not vars(owner).keys().isdisjoint(pair))
            said = next(vars(nearest)[name] for name in reversed(pair) if name in vars(nearest))
            for name in pair:
                setattr(cls, name, said)

    def __init__(self, config: Any = None) -> None:
        self.config = self.Config() if config is None else config

    def identity(self) -> str:
        """Return what the result depends on beyond the options, such as a digest of a named file; "" for nothing.

        It is part of the recipe's fingerprint.

        Raises:
            ZooError: An option names something that does not exist.
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
        """Return the arithmetic afterwards, for the manifest ("int4"); "" if the file shows it."""
        return ""

    def adapt_input(self, spec: InputSpec) -> InputSpec:
        """Return the input of the network after the rewrite.

        It may be stricter than `spec`: sides that are multiples of more, tiles with a wider border. It is called
        before any work is done.
        """
        return spec

    @property
    def least_weight_bits(self) -> float | None:
        """Return the fewest bits that a weight of a convolution or linear layer takes in the file; None if unknown.

        A technique of the phase `numerics` that states it lets a search reject recipes too large for a budget before
        anything is carried out.
        """
        return None

    def without_fitting(self) -> Technique | None:
        """Return the same technique without what changes only values; None if the shapes depend on data or weights.

        Its :meth:`rewrite` must lead to layers of the same shapes, whatever the weights, and should look at as little
        data as possible: a search counts with it what a recipe will cost before carrying it out. Where it cannot keep
        that promise for a network, it must raise a ZooError; the technique itself is used then.
        """
        return None

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """Return the new structure, initialised from the trained weights wherever a closed form exists."""
        return model

    def objective(self, context: Context) -> Sequence[LossTerm]:
        """Return what training must also minimise."""
        return ()

    def with_float_layers(self, layers: Sequence[str]) -> Technique | None:
        """Return the same technique, leaving these layers in float; None if it has no option for that.

        When a technique that rounds a trained network loses more than `--max-loss`, the layers that rounding harms
        most are given to this method until the loss is within the limit. Its network before :meth:`finish` must hold
        the quantizers of :mod:`zoo.quantization`.

        Args:
            layers: Paths of modules.
        """
        return None

    def finish(self, model: nn.Module, context: Context) -> nn.Module:
        """Return the network as it is exported, after training: fold, freeze, fix scales.

        A recipe calls this on a copy of the network after each of its trainings, so more than once for one technique
        object. It must therefore be pure: the same network must lead to the same result however often it is called,
        and neither the technique nor the context may change.
        """
        return model

    adapt = adapt_input
    shrinks = must_shrink
    retrains = needs_training
