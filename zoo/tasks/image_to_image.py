"""The task of making images of images: denoising, super-resolution, deblurring, colourising."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

from zoo.contracts import Metric, OutputSpec, Scorer, Shown, Task
from zoo.tasks.built_in_metrics import MSE, PSNR, SSIM

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.contracts import FloatArray


class ImageToImageTask(Task):
    """Images as near as can be to the wanted ones."""

    id: ClassVar[str] = "image-to-image"
    summary: ClassVar[str] = "images from images, gray or RGB, of the same size or larger"
    outputs: ClassVar[tuple[str, ...]] = ("rgb", "gray")
    measures: ClassVar[tuple[Metric, ...]] = (PSNR, SSIM, MSE)
    pipeline: ClassVar[str] = "image-to-image"
    data_hint: ClassVar[str] = "Name yours:  --data 'pairs(input=DIR,target=DIR)'"

    def loss(self, output: OutputSpec) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the mean absolute difference."""
        from zoo.tasks.losses import absolute_difference

        return absolute_difference

    def scorer(self, output: OutputSpec) -> Scorer:
        """Return a scorer of PSNR, SSIM and MSE."""
        from zoo.tasks.image_scores import image_scorer

        return image_scorer()

    def show(
        self,
        prediction: FloatArray,
        inputs: FloatArray,
        output: OutputSpec,
        names: Sequence[str] = (),
    ) -> Shown:
        """Return the image, (C, H, W)."""
        from zoo.tasks.drawing import as_picture

        return Shown(picture=as_picture(prediction))
