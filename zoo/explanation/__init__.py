"""What rounding does to each tensor of an exported file, and to its outputs, measured on data in the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from zoo.explanation.effect_measurement import explain_effect
    from zoo.explanation.effect_report import Effect, EffectExplanation
    from zoo.explanation.explainer import explain_artifact
    from zoo.explanation.report import Explanation, TensorReport
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "zoo.explanation.effect_measurement": ("explain_effect",),
            "zoo.explanation.effect_report": (
                "Effect",
                "EffectExplanation",
            ),
            "zoo.explanation.explainer": ("explain_artifact",),
            "zoo.explanation.report": (
                "Explanation",
                "TensorReport",
            ),
        },
    )

__all__ = ["Effect", "EffectExplanation", "Explanation", "TensorReport", "explain_artifact", "explain_effect"]
