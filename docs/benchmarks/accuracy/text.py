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

RECOGNISER = "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"
HEIGHT, WIDTH, _STEPS = 48, 320, 40
_FONTS = ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono", "DejaVuSans-Oblique", "DejaVuSerif-Bold")
_WORDS = (
    "anchor border camera desert engine forest garden harbour island jacket kitchen ladder market needle orange "
    "pencil quarry river silver timber uncle valley window yellow zebra bridge castle dragon feather guitar hammer"
)
_CALIBRATED, _TESTED = 50, 200


def text_networks(weights: Path) -> dict[str, Reference]:
    """Return the network by id, if it is installed in a folder."""
    path = weights / RECOGNISER
    if not path.is_file():
        return {}
    spec = InputSpec("rgb", 3, 1, (HEIGHT, WIDTH), fixed_size=True, mean=(0.5,) * 3, std=(0.5,) * 3)
    return {
        "text-recogniser": Reference(
            "text-recogniser", spec, OutputSpec("tensor", _STEPS), lambda: _network(path),
            lambda: [picture for picture, _ in _lines(0, _CALIBRATED)], lambda: _lines(1, _TESTED),
            lambda output, text: 100 * share_read(read_text(output, characters_of(path)), text), "%", (HEIGHT, WIDTH),
            "tensor",
        )
    }  # fmt: skip


def _network(path: Path) -> nn.Module:
    return OnnxArchitecture(f"{path}(input=rgb:3x{HEIGHT}x{WIDTH})").build().eval()


@cache
def characters_of(path: Path) -> list[str]:
    """Return what the classes mean, from 1; 0 separates characters."""
    from onnxruntime import InferenceSession

    stated = InferenceSession(path, providers=["CPUExecutionProvider"]).get_modelmeta().custom_metadata_map
    return ["", *stated["character"].splitlines(), " "]


def read_text(output: Floats, characters: list[str]) -> str:
    """Return the text of probabilities (steps, classes): the most probable ones, without repetitions."""
    best = output.argmax(1)
    return "".join(characters[now] for now, before in zip(best, [0, *best], strict=False) if now != before)


def share_read(read: str, text: str) -> float:
    """Return the share of characters that were read, by the least number of edits."""
    costs = list(range(len(text) + 1))
    for row, one in enumerate(read, 1):
        before, costs[0] = costs[0], row
        for column, other in enumerate(text, 1):
            before, costs[column] = (
                costs[column],
                min(costs[column] + 1, costs[column - 1] + 1, before + (one != other)),
            )
    return max(0.0, 1 - costs[-1] / len(text))


def some_text(random: np.random.Generator) -> tuple[str, ImageFont.FreeTypeFont]:
    """Return a word and a number in some order, and a font to render them in."""
    words = [str(random.choice(_WORDS.split())), str(random.integers(10, 10_000))]
    text = " ".join(words if random.random() < 0.5 else words[::-1])
    return text, ImageFont.truetype(
        str(_fonts() / f"{random.choice(_FONTS)}.ttf"), int(random.integers(22, 32))
    )


def rendered(image: Image.Image, random: np.random.Generator) -> Floats:
    """Return a gray image (3, H, W), a little unsharp and noisy."""
    image = image.filter(ImageFilter.GaussianBlur(float(random.uniform(0.3, 1.5))))
    values = np.asarray(image, np.float32) / 255
    values = values + random.normal(0, 0.06, values.shape)
    return np.repeat(values[None].clip(0, 1).astype(np.float32), 3, 0)


def _fonts() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def _lines(seed: int, count: int) -> list[tuple[Floats, Any]]:
    """Rendered lines (3, 48, 320) with their text."""
    random = np.random.default_rng(seed)
    found: list[tuple[Floats, Any]] = []
    for _ in range(count):
        text, font = some_text(random)
        back, front = int(random.integers(150, 256)), int(random.integers(0, 90))
        image = Image.new("L", (WIDTH, HEIGHT), back)
        ImageDraw.Draw(image).text((8, int(random.integers(2, 10))), text, front, font)
        found.append((rendered(image, random), text))
    return found
