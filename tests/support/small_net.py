"""Requests for the small net that `small_plugin` brings."""

from __future__ import annotations

from pathlib import Path

from zoo.contracts import SilentReporter
from zoo.pipeline.pipeline import Outcome, apply
from zoo.pipeline.request import Request
from zoo.recipes.grammar import parse
from zoo.training.schedule import Budget


def request(recipe: str | None, out: Path, **options) -> Request:
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
    return Request(parse(recipe) if recipe else None, out=out, **settings)


def run(recipe: str | None, out: Path, **options) -> Outcome:
    """Apply a request and return what it made."""
    outcome = apply(request(recipe, out, **options), SilentReporter())
    assert outcome is not None
    return outcome
