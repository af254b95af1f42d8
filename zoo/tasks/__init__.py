"""The built-in tasks, each registered by entry point as a third party's is, and the parts that they are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from zoo.tasks.average_precision import AveragePrecision
    from zoo.tasks.image_scores import compare_images
    from zoo.tasks.mask_scores import compare_masks
    from zoo.tasks.scorers import MeanScorer, wilson_interval
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "zoo.tasks.average_precision": ("AveragePrecision",),
            "zoo.tasks.image_scores": ("compare_images",),
            "zoo.tasks.mask_scores": ("compare_masks",),
            "zoo.tasks.scorers": ("MeanScorer", "wilson_interval"),
        },
    )

__all__ = ["AveragePrecision", "MeanScorer", "compare_images", "compare_masks", "wilson_interval"]
