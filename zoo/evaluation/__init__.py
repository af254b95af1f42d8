"""Measuring an exported file: quality, agreement with another file, latency."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from zoo.evaluation.evaluator import Evaluation, evaluate_artifact
    from zoo.evaluation.quality import Quality
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "zoo.evaluation.evaluator": (
                "Evaluation",
                "evaluate_artifact",
            ),
            "zoo.evaluation.quality": ("Quality",),
        },
    )

__all__ = ["Evaluation", "Quality", "evaluate_artifact"]
