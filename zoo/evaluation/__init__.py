"""Measuring an exported file: quality, agreement with another file, latency."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from zoo.evaluation.evaluator import Evaluation, evaluate_artifact
    from zoo.evaluation.quality import Agreement, Quality
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "zoo.evaluation.evaluator": (
                "Evaluation",
                "evaluate_artifact",
            ),
            "zoo.evaluation.quality": (
                "Agreement",
                "Quality",
            ),
        },
    )

__all__ = ["Agreement", "Evaluation", "Quality", "evaluate_artifact"]
