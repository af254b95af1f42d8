"""The text recogniser that `pip install --no-deps --target WEIGHTS rapidocr-onnxruntime` brings as an ONNX file.

It reads lines of text, 48 x 320, rendered in the fonts of matplotlib and made a little unsharp and noisy. The score is
the share of characters read: 1 less the edits that turn what was read into the text, by its length.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from reference import Floats, Reference
from torch import nn

from zoo.contracts import InputSpec, OutputSpec
from zoo.conversion.onnx_architecture import OnnxArchitecture

_FILE = "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"
_HEIGHT, _WIDTH, _STEPS = 48, 320, 40
_FONTS = ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono", "DejaVuSans-Oblique", "DejaVuSerif-Bold")
_WORDS = (
    "anchor border camera desert engine forest garden harbour island jacket kitchen ladder market needle orange "
    "pencil quarry river silver timber uncle valley window yellow zebra bridge castle dragon feather guitar hammer"
)
_CALIBRATED, _TESTED = 50, 200


def text_networks(weights: Path) -> dict[str, Reference]:
    """Return the network by id, if it is installed in a folder."""
    path = weights / _FILE
    if not path.is_file():
        return {}
    spec = InputSpec("rgb", 3, 1, (_HEIGHT, _WIDTH), fixed_size=True, mean=(0.5,) * 3, std=(0.5,) * 3)
    return {
        "text-recogniser": Reference(
            "text-recogniser", spec, OutputSpec("tensor", _STEPS), lambda: _network(path),
            lambda: [picture for picture, _ in _lines(0, _CALIBRATED)], lambda: _lines(1, _TESTED),
            lambda output, text: 100 * _share(_read(output, _characters(path)), text), "%", (_HEIGHT, _WIDTH),
            "tensor",
        )
    }  # fmt: skip


def _network(path: Path) -> nn.Module:
    return OnnxArchitecture(f"{path}(input=rgb:3x{_HEIGHT}x{_WIDTH})").build().eval()


@cache
def _characters(path: Path) -> list[str]:
    """What the classes mean, from 1; 0 separates characters."""
    from onnxruntime import InferenceSession

    stated = InferenceSession(path, providers=["CPUExecutionProvider"]).get_modelmeta().custom_metadata_map
    return ["", *stated["character"].splitlines(), " "]


def _read(output: Floats, characters: list[str]) -> str:
    """The text of probabilities (steps, classes): the most probable ones, repetitions and separators left out."""
    best = output.argmax(1)
    return "".join(characters[now] for now, before in zip(best, [0, *best], strict=False) if now != before)


def _share(read: str, text: str) -> float:
    """The share of characters that were read, by the least number of edits."""
    costs = list(range(len(text) + 1))
    for row, one in enumerate(read, 1):
        before, costs[0] = costs[0], row
        for column, other in enumerate(text, 1):
            before, costs[column] = (
                costs[column],
                min(costs[column] + 1, costs[column - 1] + 1, before + (one != other)),
            )
    return max(0.0, 1 - costs[-1] / len(text))


def _lines(seed: int, count: int) -> list[tuple[Floats, Any]]:
    """Rendered lines (3, 48, 320) with their text."""
    import matplotlib

    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    random = np.random.default_rng(seed)
    found: list[tuple[Floats, Any]] = []
    for _ in range(count):
        words = [str(random.choice(_WORDS.split())), str(random.integers(10, 10_000))]
        text = " ".join(words if random.random() < 0.5 else words[::-1])
        font = ImageFont.truetype(str(fonts / f"{random.choice(_FONTS)}.ttf"), int(random.integers(22, 32)))
        back, front = int(random.integers(150, 256)), int(random.integers(0, 90))
        image = Image.new("L", (_WIDTH, _HEIGHT), back)
        ImageDraw.Draw(image).text((8, int(random.integers(2, 10))), text, front, font)
        image = image.filter(ImageFilter.GaussianBlur(float(random.uniform(0.3, 1.5))))
        values = np.asarray(image, np.float32) / 255 + random.normal(0, 0.06, (_HEIGHT, _WIDTH))
        found.append((np.repeat(values[None].clip(0, 1).astype(np.float32), 3, 0), text))
    return found
