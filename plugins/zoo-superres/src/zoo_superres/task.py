"""The task of enlarging images, measured on the luma as the literature does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from zoo.contracts import Metric, OutputSpec, Scorer, Shown, Task

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.contracts import FloatArray, TargetArray

#: ITU-R BT.601 again, since importing :mod:`zoo_superres.luma` needs torch.
_LUMA = (0.299, 0.587, 0.114)


class SuperResolutionTask(Task):
    """Images of a higher resolution, as near as possible to the original ones."""

    contract = 1
    id: ClassVar[str] = "super-resolution"
    summary: ClassVar[str] = "larger images, RGB or gray, compared by their luma"
    outputs: ClassVar[tuple[str, ...]] = ("rgb", "gray")
    measures: ClassVar[tuple[Metric, ...]] = (
        Metric("psnr_y_db", "PSNR of Y", "dB", 2, loss_unit="dB", limit=1.0, hub="psnr"),
        Metric("ssim_y", "SSIM of Y", hub="ssim"),
        Metric("psnr_db", "PSNR", "dB", 2, loss_unit="dB", shown=False),
    )
    pipeline: ClassVar[str] = "image-to-image"
    data: ClassVar[str] = "degradations"
    data_of: ClassVar[frozenset[str]] = frozenset({"image-to-image"})
    data_hint: ClassVar[str] = "Name folders of photographs:  --data 'degradations(photos=DIR)'"

    def loss(self, output: OutputSpec) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the mean absolute difference of the luma, which says all where the chroma is only resized."""
        from zoo.tasks.losses import absolute_difference
        from zoo_superres.luma import luma_difference

        return luma_difference if output.kind == "rgb" else absolute_difference

    def scorer(self, output: OutputSpec) -> Scorer:
        """Return a scorer of PSNR and SSIM of the luma, without a border of `scale` pixels, and of PSNR of RGB."""
        from zoo.tasks.scorers import MeanScorer

        return MeanScorer(lambda picture, target: compare_luma(picture, target, output.scale))

    def show(
        self,
        prediction: FloatArray,
        inputs: FloatArray,
        output: OutputSpec,
        names: Sequence[str] = (),
    ) -> Shown:
        """Return the enlarged image, (C, H, W)."""
        from zoo.tasks.drawing import as_picture

        return Shown(picture=as_picture(prediction))


def compare_luma(picture: FloatArray, target: TargetArray, border: int) -> dict[str, float]:
    """Return PSNR and SSIM of the luma, and PSNR of all channels; the picture is rounded to 8 bits first.

    Args:
        picture: (1 or 3, H, W) in [0, 1].
        target: The same shape, in [0, 1].
        border: Pixels on each side that do not count, as the literature has it: what lies there depends on how the
            image is continued.
    """
    import numpy as np

    from zoo.tasks.image_scores import compare_images

    shown = np.rint(np.clip(picture, 0, 1) * np.float32(255)) / np.float32(255)
    height, width = shown.shape[1:]
    if min(height, width) > 2 * border:
        inner = np.s_[:, border : height - border, border : width - border]
        shown, target = shown[inner], target[inner]
    whole = compare_images(shown, target)
    weights = np.array(_LUMA, np.float32)[:, None, None]
    if len(shown) == 3:
        # Not rounded again: only what is written to a file has 8 bits.
        luma, wanted = ((weights * each).sum(axis=0, keepdims=True) for each in (shown, target))
        error = float(np.mean(np.square(luma - wanted, dtype=np.float64)))
        return {**_luma_scores(luma, wanted, error), "psnr_db": whole["psnr_db"]}
    return {"psnr_y_db": whole["psnr_db"], "ssim_y": whole["ssim"], "psnr_db": whole["psnr_db"]}


def _luma_scores(luma: FloatArray, wanted: FloatArray, error: float) -> dict[str, float]:
    from zoo.images.decibels import psnr
    from zoo.tasks.image_scores import compare_images

    return {"psnr_y_db": psnr(error), "ssim_y": compare_images(luma, wanted)["ssim"]}
