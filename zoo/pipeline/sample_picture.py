"""An image of what a network does: its input, the output before the recipe and after it, and the target."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zoo.evaluation.predict import make_predictor, wanted_picture

if TYPE_CHECKING:
    from zoo.contracts import FloatArray
    from zoo.pipeline.measure import Meter
    from zoo.pipeline.plan import ApplyPlan

#: side of each panel in pixels
_SIDE = 320


@dataclass(frozen=True)
class SamplePicture:
    """A picture of what a network does.

    Attributes:
        png: Its bytes.
        shows: What its panels show, from left to right.
    """

    png: bytes
    shows: list[str]


def sample_picture(plan: ApplyPlan, meter: Meter) -> SamplePicture:
    """Return the middle of the first test image: input, output before and after the recipe, target, side by side."""
    from PIL import Image

    architecture = plan.architecture
    sample = next(iter(plan.dataset.frames(architecture, "test")))
    first, last = meter.files[0].stage, meter.files[-1].stage
    panels: dict[str, FloatArray] = {}
    if architecture.input.mosaic == "bayer":
        panels["the dark file amplified"] = _amplified(sample.inputs, architecture.output.scale)
    elif architecture.input.mosaic is None:
        panels["the input"] = _enlarged(sample.inputs, architecture.output.scale)
    if plan.recipe:
        panels["before"] = make_predictor(meter.session(first), architecture)(sample.inputs, sample.to_srgb)
    panels["this network"] = make_predictor(meter.session(last), architecture)(sample.inputs, sample.to_srgb)
    if sample.target is not None:
        wanted = "the label" if architecture.output.kind == "mask" else "the photograph"
        target = wanted_picture(sample.target, sample.to_srgb)
        panels[wanted] = target.astype(np.float32, copy=False)
    strip = np.concatenate([_middle(_in_colour(panel)) for panel in panels.values()], axis=2)
    pixels = np.rint(strip.transpose(1, 2, 0) * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return SamplePicture(buffer.getvalue(), list(panels))


def _amplified(inputs: FloatArray, scale: int) -> FloatArray:
    """Return packed Bayer input as an image: red, mean of the greens, blue, with a display curve."""
    rgb = np.clip(np.stack([inputs[0], (inputs[1] + inputs[3]) / 2, inputs[2]]), 0, 1) ** np.float32(1 / 2.2)
    return _enlarged(rgb, scale)


def _enlarged(picture: FloatArray, scale: int) -> FloatArray:
    return np.asarray(picture.repeat(scale, axis=1).repeat(scale, axis=2), dtype=np.float32)


def _in_colour(panel: FloatArray) -> FloatArray:
    """(C, H, W) as (3, H, W): gray for one channel, the first three of more, black where there are only two."""
    if len(panel) == 1:
        return panel.repeat(3, axis=0)
    return np.concatenate([panel[:3], np.zeros_like(panel[: max(0, 3 - len(panel))])])


def _middle(panel: FloatArray) -> FloatArray:
    height, width = panel.shape[1:]
    side = min(_SIDE, height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return np.clip(panel[:, top : top + side, left : left + side], 0, 1)
