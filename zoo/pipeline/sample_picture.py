"""An image of what a network does: its input, the output before the recipe and after it, and the target."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from zoo.evaluation.predict import make_predictor

if TYPE_CHECKING:
    from zoo.contracts import FloatArray
    from zoo.pipeline.measure import Meter
    from zoo.pipeline.plan import ApplyPlan

#: side of each panel in pixels
_SIDE = 320


def panels_of(plan: ApplyPlan) -> list[str]:
    """Return what the panels of :func:`sample_picture` show, from left to right."""
    spec = plan.architecture.input
    first = [] if spec.mosaic == "xtrans" else ["the dark file amplified" if spec.mosaic else "the input"]
    wanted = "the photograph" if plan.architecture.output.kind == "rgb" else "the label"
    return [*first, *(["before"] if plan.recipe else []), "this network", wanted]


def sample_picture(plan: ApplyPlan, meter: Meter) -> bytes:
    """Return PNG bytes: the middle of the first test image, three or four panels side by side."""
    from PIL import Image

    sample = next(iter(plan.dataset.frames(plan.architecture, "test")))
    first, last = meter.files[0].stage, meter.files[-1].stage
    panels = []
    if plan.architecture.input.mosaic == "bayer":
        panels.append(_amplified(sample.inputs, plan.architecture.output.scale))
    elif plan.architecture.input.mosaic is None:
        panels.append(_enlarged(sample.inputs, plan.architecture.output.scale))
    if plan.recipe:
        panels.append(make_predictor(meter.session(first), plan.architecture)(sample.inputs))
    panels.append(make_predictor(meter.session(last), plan.architecture)(sample.inputs))
    if sample.target is not None:
        panels.append(sample.target)
    strip = np.concatenate([_middle(_in_colour(panel)) for panel in panels], axis=2)
    pixels = np.rint(strip.transpose(1, 2, 0) * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _amplified(inputs: FloatArray, scale: int) -> FloatArray:
    """Return packed Bayer input as an image: red, mean of the greens, blue, with a display curve."""
    rgb = np.stack([inputs[0], (inputs[1] + inputs[3]) / 2, inputs[2]]) ** np.float32(1 / 2.2)
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
