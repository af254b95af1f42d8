"""Running one sample of any size through a session, as `zoo run` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoo.raw.pack import Packed
from zoo.runner.infer import Canvas, infer
from zoo.runner.tiles import plan_tiles

if TYPE_CHECKING:
    from zoo.contracts import Architecture, Session
    from zoo.evaluation.quality import FloatArray, Predict

#: input pixels computed at once; larger frames are cut into tiles, so that memory does not follow the frame
_TILE_PIXELS = 1 << 18


def make_predictor(session: Session, architecture: Architecture) -> Predict:
    """Return a function from (C, h, w) to the network's output for it, without batch dimension.

    Images, masks and the classes of pixels may have any size, and come as (channels, scale*h, scale*w); images and
    masks are rounded to 8 bits, as they are written.
    """
    spec, output = architecture.input, architecture.output

    def predict(inputs: FloatArray) -> FloatArray:
        height, width = inputs.shape[1:]
        if not output.bounded:
            whole = _padded(inputs, spec.multiple_of) if output.dense else inputs
            found = np.asarray(session.run(whole[None])[0])
            return found[:, : height * output.scale, : width * output.scale] if output.dense else found
        rows, columns = height * output.scale, width * output.scale
        canvas = Canvas(Packed(inputs, 0, 0, rows, columns, cell=output.scale), output.scale, output.channels)
        plan = plan_tiles(height, width, spec, limit=_TILE_PIXELS)
        picture = np.concatenate(list(infer(session, canvas, plan)))
        return picture.transpose(2, 0, 1).astype(np.float32) / np.float32(255)

    return predict


def _padded(inputs: FloatArray, multiple: int) -> FloatArray:
    """Return (C, H, W) mirrored beyond its lower and right edge up to multiples of a number."""
    height, width = inputs.shape[1:]
    return np.pad(inputs, ((0, 0), (0, -height % multiple), (0, -width % multiple)), mode="symmetric")
