"""The PNG writer: what it writes is read back, and it holds no picture whole."""

from __future__ import annotations

import io
import os
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoo.images.png import BLOCK, write_png


@pytest.mark.parametrize("shape", [(1, 1, 3), (37, 5, 3), (700, 900, 3), (300, 1, 1), (2000, 700, 1)])
@pytest.mark.parametrize("kind", ["noise", "flat", "slope"])
def test_a_png_written_in_parts_is_read_back(shape: tuple[int, int, int], kind: str) -> None:
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, shape, dtype=np.uint8)
    if kind == "flat":
        picture[:] = 200
    if kind == "slope":
        picture[:] = (np.arange(shape[0])[:, None, None] + np.arange(shape[1])[:, None]) // 2 % 256
    parts = np.split(picture, sorted(rng.integers(0, shape[0], 3)))
    stream = io.BytesIO()
    write_png(stream, shape[1], shape[0], shape[2], parts)
    with Image.open(stream) as image:
        image.load()
        assert np.array_equal(np.asarray(image).reshape(shape), picture)
    if kind == "flat" and picture.nbytes > BLOCK:
        assert len(stream.getvalue()) < picture.nbytes / 20


def test_no_more_of_a_picture_is_held_than_its_parts() -> None:
    def parts() -> Iterator[np.ndarray[Any, Any]]:
        for number in range(12):
            yield np.full((500, 2000, 3), number, dtype=np.uint8)

    tracemalloc.start()
    write_png(io.BytesIO(), 2000, 6000, 3, parts())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    workers = os.cpu_count() or 1
    assert peak < 2 * 3e6 + (3 * workers + 4) * 5 * BLOCK
    assert peak < 36e6 or workers > 4
