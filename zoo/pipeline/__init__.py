"""Applying a recipe: plan, rewrite and train, measure, and write an artifact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from zoo.pipeline.api import apply, apply_request
    from zoo.pipeline.request import ApplyRequest
    from zoo.pipeline.result import Result
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "zoo.pipeline.api": ("apply", "apply_request"),
            "zoo.pipeline.request": ("ApplyRequest",),
            "zoo.pipeline.result": ("Result",),
        },
    )

__all__ = ["ApplyRequest", "Result", "apply", "apply_request"]
