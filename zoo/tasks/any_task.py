"""The task of networks that zoo knows nothing about: to give what the original gave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from zoo.contracts import Metric, OutputSpec, Scorer, Shown, Task
from zoo.tasks.agreement_scorers import agreement_scorer
from zoo.tasks.built_in_metrics import (
    BOX_AGREEMENT,
    DEVIATION,
    LOGITS_SNR,
    PIXEL_AGREEMENT,
    SIGNAL_TO_ERROR,
    TOP1_AGREEMENT,
)

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.contracts import FloatArray


class AnyTask(Task):
    """Agreement with the original network, which every task falls back on where there are no labels."""

    id: ClassVar[str] = "any"
    summary: ClassVar[str] = "any output, compared with that of the original network"
    outputs: ClassVar[tuple[str, ...]] = ("rgb", "gray", "mask", "classes", "logits", "boxes", "tensor")
    labelled: ClassVar[bool] = False
    data_hint: ClassVar[str] = "Try --data photos for a network that takes RGB images"
    measures: ClassVar[tuple[Metric, ...]] = (
        TOP1_AGREEMENT, LOGITS_SNR, PIXEL_AGREEMENT, BOX_AGREEMENT, DEVIATION, SIGNAL_TO_ERROR,
    )  # fmt: skip

    def loss(self, output: OutputSpec) -> Callable[[Tensor, Tensor], Tensor] | None:
        """Return None: the network follows the original."""
        return None

    def scorer(self, output: OutputSpec) -> Scorer:
        """Return a scorer whose targets are the outputs of the original."""
        return agreement_scorer(output)

    def show(
        self,
        prediction: FloatArray,
        inputs: FloatArray,
        output: OutputSpec,
        names: Sequence[str] = (),
    ) -> Shown:
        """Return the shape and the range of the output, (C, ...) of any shape."""
        shape = "x".join(map(str, prediction.shape))
        return Shown(
            [{"shape": shape, "least": float(prediction.min()), "mean": float(prediction.mean()),
              "most": float(prediction.max())}]
        )  # fmt: skip
