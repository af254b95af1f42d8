"""A single logit, as classifiers of two classes often have it: that of the second class, against 0.

Two logits tell the same, and everything here computes with those: the softmax of (0, z) is the sigmoid of z.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.contracts import FloatArray


def logits_of_both(logits: FloatArray) -> FloatArray:
    """Return logits of at least two classes, (classes,)."""
    import numpy as np

    return np.concatenate([np.zeros_like(logits), logits]) if logits.shape == (1,) else logits
