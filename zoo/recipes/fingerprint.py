"""The identity of a compression: two runs with one fingerprint produce one artifact on one machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from zoo.errors import UsageError
from zoo.recipes.grammar import Recipe

#: Part of what is hashed, so that a change of the form below changes every fingerprint.
_FORM = "zoo-fingerprint-1"

Setting = str | int | float | bool | None


def fingerprint(
    recipe: Recipe | None,
    *,
    architecture: str,
    plugins: Mapping[str, str],
    data: str,
    weights: str | None,
    seed: int,
    training: Mapping[str, Setting],
) -> str:
    """Return ``sha256:...`` over everything that the result depends on.

    Args:
        recipe: In canonical form (:func:`zoo.recipes.canonical.resolve`), None for plain training.
        architecture: The name of the architecture.
        plugins: Version of each distribution involved, by name.
        data: The dataset's `identity()`.
        weights: Sha256 of the starting weights, None for a fresh initialisation from the seed.
        seed: The seed of every random choice.
        training: Settings of the training loop.

    Raises:
        UsageError: A setting is not a finite number, text, bool or None.
    """
    content = {
        "form": _FORM,
        "recipe": str(recipe) if recipe else "",
        "architecture": architecture,
        "plugins": dict(plugins),
        "data": data,
        "weights": weights,
        "seed": seed,
        "training": dict(training),
    }
    try:
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"No fingerprint can be computed for these training settings: {error}") from error
    return "sha256:" + hashlib.sha256(text.encode("ascii")).hexdigest()
