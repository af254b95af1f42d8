"""The contract of tasks: what a network is for, how it is trained, measured and shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from zoo.contracts.contract_version import CONTRACT_VERSION

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from zoo.contracts.architecture import OutputSpec
    from zoo.contracts.dataset import FloatArray, TargetArray

#: In what losses of a measure are counted: decibels, points (hundredths), or the measure itself.
LossUnit = Literal["dB", "pt", ""]


@dataclass(frozen=True)
class Metric:
    """A measure of a network's outputs.

    Attributes:
        key: In metrics.json, `--json` and registry.toml.
        unit: Shown after the number, "" for none.
        decimals: Shown.
        higher_is_better: False for errors.
        percent: Whether a value in [0, 1] is shown as a percentage.
        loss_unit: What `--max-loss` counts in.
        limit: What a stage may lose in that unit where the user says nothing; None if the measure is not limited.
            `--max-loss` limits the first measure of a task that has one.
        shown: Whether tables show it.
        hub: Its name on the Hugging Face Hub, by default `key`.
    """

    key: str
    name: str
    unit: str = ""
    decimals: int = 4
    higher_is_better: bool = True
    percent: bool = False
    loss_unit: LossUnit = ""
    limit: float | None = None
    shown: bool = True
    hub: str = ""

    def show(self, value: float) -> str:
        """Return the value as tables show it: "28.88 dB", "0.7870", "81.2 %"."""
        # The sum makes 0 of -0, which a value just below 0 is rounded to.
        rounded = round(100 * value if self.percent else value, self.decimals) + 0.0
        return f"{rounded:.{self.decimals}f} {'%' if self.percent else self.unit}".rstrip()

    def show_interval(self, interval: tuple[float, float]) -> str:
        """Return an interval as tables show it: "79.4 to 82.6 %"."""
        low, _, _ = self.show(interval[0]).partition(" ")
        return f"{low} to {self.show(interval[1])}"

    def lost(self, before: float, after: float) -> float:
        """Return what was lost, in :attr:`loss_unit`; negative if something was gained."""
        worse = before - after if self.higher_is_better else after - before
        return worse * (100 if self.loss_unit == "pt" else 1)

    @property
    def budget(self) -> str:
        """Return what losses are counted in, in words: "dB of PSNR", "points of Dice"."""
        return f"{'points' if self.loss_unit == 'pt' else self.loss_unit or 'units'} of {self.name}"


class Scorer(Protocol):
    """What collects the outputs of a network for the images of a split, one after the other."""

    def add(self, prediction: FloatArray, target: TargetArray) -> Mapping[str, float]:
        """Take the output for one image, such as (C, H, W), without batch dimension, and what is wanted.

        Returns:
            The scores of this image by the keys of the measures; of none that have a meaning for all images only.
        """

    def result(self) -> Mapping[str, float]:
        """Return the value of each measure over all images so far, by its key."""

    def intervals(self) -> Mapping[str, tuple[float, float]]:
        """Return the 95 % interval of those measures whose sampling error is known, by key."""


@dataclass(frozen=True)
class Shown:
    """What a person looks at: one network's output for one image.

    Attributes:
        findings: Rows such as {"class": 3, "label": "cat", "confidence": 0.93}, the most important first.
        picture: (H, W, 3) or (H, W) uint8; None if there is nothing to draw.
    """

    findings: Sequence[Mapping[str, Any]] = ()
    picture: npt.NDArray[np.uint8] | None = field(default=None)


#: What a task states recipes for: few bytes or low latency at a small loss, and as little loss as possible.
PRESETS = ("small", "fast", "best")


class Task:
    """What a network is for: its outputs, its loss, its measures, and how an output is shown.

    Importing a task and everything except :meth:`loss` must do without torch, which boards do not have.
    """

    contract: ClassVar[int] = CONTRACT_VERSION
    id: ClassVar[str]
    summary: ClassVar[str]
    #: The kinds of output that it is for; see :class:`zoo.contracts.OutputSpec`.
    outputs: ClassVar[tuple[str, ...]]
    #: All of its measures, the most important first.
    measures: ClassVar[tuple[Metric, ...]] = ()
    #: Whether outputs are compared with labels, where the data has any.
    labelled: ClassVar[bool] = True
    #: Whether losses and scorers expect everything a network of several outputs returns (tuples, dictionaries), and
    #: not the main output.
    whole_output: ClassVar[bool] = False
    #: What model hubs call the task, "" for nothing.
    pipeline: ClassVar[str] = ""
    #: The dataset used unless another is named, "" for none.
    data: ClassVar[str] = ""
    #: Other tasks whose datasets serve it too, since their samples are of the same kind.
    data_of: ClassVar[frozenset[str]] = frozenset()
    #: The recipes that a search tries unless others are stated; every installed technique with what it declares is "*".
    space: ClassVar[str] = (
        "low-rank(ratio=0.3..0.8:0.1)?+channel-prune(ratio=0.1..0.6:0.1)?+{ptq,qat,fixed-point}(mixed=*)?"
    )
    #: Recipes by what they are good for; :data:`PRESETS` names them.
    presets: ClassVar[Mapping[str, str]] = {
        "small": "low-rank+qat(mixed=4)",
        "fast": "low-rank+qat",
        "best": "qat",
    }
    #: What to type where no data was named, or data for another task.
    data_hint: ClassVar[str] = "Name yours with --data"

    def loss(self, output: OutputSpec) -> Callable[[Tensor, Tensor], Tensor] | None:
        """Return the loss for labelled data: a function of (outputs, targets), with a batch dimension, to a scalar.

        Without targets, or where this returns None, a network is trained to follow the original one.

        Args:
            output: The output that is trained.
        """
        raise NotImplementedError

    def scorer(self, output: OutputSpec) -> Scorer:
        """Return an empty scorer for an output. The keys of its results are among those of :attr:`measures`."""
        raise NotImplementedError

    def show(
        self,
        prediction: FloatArray,
        inputs: FloatArray,
        output: OutputSpec,
        names: Sequence[str] = (),
    ) -> Shown:
        """Return what a person looks at.

        Args:
            prediction: The network's output for one image, without batch dimension.
            inputs: The network's input, (C, H, W) in [0, 1].
            output: The output of the network.
            names: Of the classes, if they are known.
        """
        return Shown()
