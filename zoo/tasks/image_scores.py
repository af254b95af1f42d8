"""How near an image comes to the one that is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.extras import require
from zoo.images.decibels import psnr
from zoo.tasks.scorers import MeanScorer

if TYPE_CHECKING:
    from zoo.contracts import FloatArray, TargetArray

#: Side of SSIM's window in pixels, where the image is as large.
_WINDOW = 7


def compare_images(picture: FloatArray, target: TargetArray) -> dict[str, float]:
    """Return PSNR in dB, SSIM and MSE; the picture is rounded to 8 bits first.

    Args:
        picture: (C, H, W) in [0, 1].
        target: (C, H, W) in [0, 1].
    """
    import numpy as np

    metrics = require("skimage.metrics", "SSIM")
    shown = np.rint(np.clip(picture, 0, 1) * np.float32(255)).astype(np.float32) / np.float32(255)
    error = float(np.mean(np.square(shown - target, dtype=np.float64)))
    least = min(target.shape[1:])
    window = _WINDOW if least >= _WINDOW else max(3, least - 1 + least % 2)
    similarity = (
        metrics.structural_similarity(shown, target, channel_axis=0, data_range=1.0, win_size=window)
        if least >= window
        else float(error == 0)
    )
    return {"psnr_db": psnr(error), "ssim": float(similarity), "mse": error}


def image_scorer() -> MeanScorer:
    """Return an empty scorer of PSNR, SSIM and MSE."""
    return MeanScorer(compare_images)
