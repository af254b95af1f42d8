"""The task of finding which pixels belong to what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from zoo.contracts import Metric, OutputSpec, Scorer, Shown, Task
from zoo.tasks.built_in_metrics import DICE, IOU, MEAN_IOU, PIXEL_ACCURACY

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.contracts import FloatArray


class SegmentationTask(Task):
    """Masks, each pixel with a probability per channel, or one class for each pixel."""

    id: ClassVar[str] = "segmentation"
    summary: ClassVar[str] = "masks of probabilities, or one class for each pixel"
    outputs: ClassVar[tuple[str, ...]] = ("mask", "classes")
    measures: ClassVar[tuple[Metric, ...]] = (DICE, IOU, MEAN_IOU, PIXEL_ACCURACY)
    pipeline: ClassVar[str] = "image-segmentation"
    data_hint: ClassVar[str] = "Name yours:  --data 'masks(images=DIR,labels=DIR)'"

    def loss(self, output: OutputSpec) -> Callable[[Tensor, Tensor], Tensor]:
        """Return binary cross-entropy for masks, cross-entropy over the classes for classes."""
        from zoo.tasks.losses import binary_cross_entropy, class_cross_entropy

        return binary_cross_entropy if output.kind == "mask" else class_cross_entropy

    def scorer(self, output: OutputSpec) -> Scorer:
        """Return a scorer of Dice and IoU for masks, of the mean IoU for classes."""
        from zoo.tasks.mask_scores import ClassScorer, compare_masks
        from zoo.tasks.scorers import MeanScorer

        return MeanScorer(compare_masks) if output.kind == "mask" else ClassScorer(output.channels)

    def show(
        self,
        prediction: FloatArray,
        inputs: FloatArray,
        output: OutputSpec,
        names: Sequence[str] = (),
    ) -> Shown:
        """Return the mask (C, H, W); of classes, the pixels in their colours, and the share of each."""
        from zoo.tasks.drawing import as_picture, class_shares, coloured_classes

        if output.kind == "mask":
            return Shown(picture=as_picture(prediction))
        classes = prediction.argmax(axis=0)
        return Shown(class_shares(classes, names), coloured_classes(classes))
