"""Requests for the small net that `small_plugin` brings."""

from __future__ import annotations

from pathlib import Path

from zoo.contracts import SilentReporter
from zoo.pipeline.api import apply_request
from zoo.pipeline.request import ApplyRequest
from zoo.pipeline.result import Result
from zoo.recipes.grammar import parse
from zoo.training.schedule import Budget


def request(recipe: str | None, out: Path, **options) -> ApplyRequest:
    """A request that trains the small net for six steps."""
    settings = {
        "architecture": "small-unet",
        "budgets": (Budget(steps=6),),
        "batch": 2,
        "crop": 32,
        "precision": "float32",
        "images": 1,
        **options,
    }
    return ApplyRequest(parse(recipe) if recipe else None, out=out, **settings)


def run(recipe: str | None, out: Path, **options) -> Result:
    """Apply a request and return what it made."""
    result = apply_request(request(recipe, out, **options), SilentReporter())
    assert result is not None
    return result
