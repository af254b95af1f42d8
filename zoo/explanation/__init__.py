"""What rounding does to each tensor of an exported file, measured on data in the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from zoo.explanation.explainer import explain_artifact
    from zoo.explanation.report import Explanation, TensorReport
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "zoo.explanation.explainer": ("explain_artifact",),
            "zoo.explanation.report": (
                "Explanation",
                "TensorReport",
            ),
        },
    )

__all__ = ["Explanation", "TensorReport", "explain_artifact"]
