"""The text detector that `pip install --no-deps --target WEIGHTS rapidocr-onnxruntime` brings as an ONNX file.

It marks the pixels of text in pages, 480 x 640. The score is the share of characters that are read on rendered pages
when the recogniser of the same package, in float, is given what the detector marks.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from reference import Floats, Reference
from text import HEIGHT, RECOGNISER, WIDTH, characters_of, read_text, rendered, share_read, some_text
from torch import nn

from zoo.contracts import InputSpec, OutputSpec
from zoo.conversion.onnx_architecture import OnnxArchitecture

_FILE = "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"
_PAGE = 480, 640
_CALIBRATED, _TESTED = 24, 60
#: Least probability of a pixel, and mean probability of a line, as rapidocr has them.
_PIXEL, _LINE = 0.3, 0.5
#: How much lines are widened: the network marks the middle of text. Lines that are lower are none.
_UNCLIP, _LOWEST = 1.6, 4


def text_detectors(weights: Path) -> dict[str, Reference]:
    """Return the network by id, if it is installed in a folder."""
    path = weights / _FILE
    if not path.is_file():
        return {}
    spec = InputSpec("rgb", 3, 32, _PAGE, mean=(0.5,) * 3, std=(0.5,) * 3)
    return {
        "text-detector": Reference(
            "text-detector", spec, OutputSpec("mask", 1), lambda: _network(path),
            lambda: [page for page, _ in _pages(2, _CALIBRATED)],
            lambda: [(page, (page, lines)) for page, lines in _pages(3, _TESTED)],
            lambda marks, page: _score(marks[0], *page, weights / RECOGNISER), "%", _PAGE, "segmentation",
        )
    }  # fmt: skip


def _network(path: Path) -> nn.Module:
    return OnnxArchitecture(f"{path}(input=rgb:3x{_PAGE[0]}x{_PAGE[1]},output=mask:1)").build().eval()


def _pages(seed: int, count: int) -> list[tuple[Floats, list[str]]]:
    """Rendered pages (3, H, W), each with its lines from top to bottom."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        back, front = int(random.integers(150, 256)), int(random.integers(0, 90))
        page = Image.new("L", (_PAGE[1], _PAGE[0]), back)
        lines, top = [], int(random.integers(10, 40))
        while top < _PAGE[0] - 50:
            text, font = some_text(random)
            ImageDraw.Draw(page).text((int(random.integers(10, 280)), top), text, front, font)
            lines.append(text)
            top += int(random.integers(55, 90))
        found.append((rendered(page, random), lines))
    return found


def _score(marks: Floats, page: Floats, lines: list[str], recogniser: Path) -> float:
    read = [_read_line(page[:, rows, columns], recogniser) for rows, columns in _found(marks)]
    return 100 * share_read("\n".join(read), "\n".join(lines))


def _found(marks: Floats) -> list[tuple[slice, slice]]:
    """The rows and columns of each line of text that is marked, (H, W) from 0 to 1, from top to bottom."""
    from scipy.ndimage import find_objects, label

    numbers, _ = label(marks > _PIXEL, np.ones((3, 3)))
    found = []
    for number, (rows, columns) in enumerate(find_objects(numbers), 1):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if height < _LOWEST or marks[rows, columns][numbers[rows, columns] == number].mean() < _LINE:
            continue
        more = round(height * width * _UNCLIP / (2 * (height + width)))
        found.append(
            (
                slice(max(0, rows.start - more), rows.stop + more),
                slice(max(0, columns.start - more), columns.stop + more),
            )
        )
    return found


def _read_line(line: npt.NDArray[np.float32], recogniser: Path) -> str:
    """The text that the recogniser finds in a part of a page, (3, h, w)."""
    height, width = line.shape[1:]
    scaled = min(WIDTH, max(1, round(width * HEIGHT / height)))
    image = Image.fromarray(np.rint(line[0] * 255).astype(np.uint8)).resize(
        (scaled, HEIGHT), Image.Resampling.BILINEAR
    )
    given = np.zeros((1, 3, HEIGHT, WIDTH), np.float32)
    given[..., :scaled] = np.asarray(image, np.float32) / 127.5 - 1
    session = _session(recogniser)
    (output,) = session.run(None, {session.get_inputs()[0].name: given})
    return read_text(output[0], characters_of(recogniser))


@cache
def _session(recogniser: Path) -> Any:
    from onnxruntime import InferenceSession

    return InferenceSession(recogniser, providers=["CPUExecutionProvider"])
