"""Pictures are written in parts, and appear whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from zoo.errors import InputError
from zoo.images.writing import write_picture


@pytest.mark.parametrize("channels", [1, 3])
def test_a_tiff_written_in_parts_is_read_back(tmp_path: Path, channels: int) -> None:
    picture = np.random.default_rng(0).integers(0, 1 << 16, (700, 900, channels), dtype=np.uint16)
    write_picture(
        tmp_path / "a.tiff", [picture[:13], picture[13:600], picture[600:]], 900, 700, channels, "tiff"
    )
    assert np.array_equal(tifffile.imread(tmp_path / "a.tiff").reshape(picture.shape), picture)


def test_what_fails_while_a_picture_is_made_leaves_none(tmp_path: Path) -> None:
    def parts() -> Iterator[np.ndarray[Any, Any]]:
        yield np.zeros((10, 10, 3), dtype=np.uint8)
        raise InputError("the rest is missing")

    with pytest.raises(InputError, match="the rest"):
        write_picture(tmp_path / "a.png", parts(), 10, 20, 3, "png")
    assert list(tmp_path.iterdir()) == []
