"""Pairs of images from which nothing can be learned although every file is sound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo.data.picture_files import counted, spread
from zoo.errors import InputError
from zoo.images.pixels import read_pixels


def refuse_equal_pairs(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Refuse inputs that are their targets.

    Args:
        pairs: Files of an input and of its target.

    Raises:
        InputError: All of the pairs that are looked at are such.
    """
    chosen = spread(pairs)
    if not chosen:
        return
    for given, wanted in chosen:
        if not np.array_equal(read_pixels(given, upright=True), read_pixels(wanted, upright=True)):
            return
    raise InputError(
        f"In all {counted(len(chosen), 'pair')} that were looked at, the input is the target, as in {chosen[0][0]} "
        f"and {chosen[0][1]}: a network would learn to change nothing.",
        hint="Name two folders:  --data 'pairs(input=DIR,target=DIR)'; or have inputs made of the targets:  "
        "'pairs(target=DIR,sigma=25)'",
    )
