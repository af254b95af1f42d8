"""Running one sample of any size through a session, as `zoo run` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoo.artifacts.golden import all_outputs
from zoo.images.srgb import linear_to_srgb
from zoo.raw.develop import to_linear_srgb
from zoo.raw.pack import Packed
from zoo.runner.infer import Canvas, infer
from zoo.runner.tiles import plan_tiles

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zoo.contracts import Architecture, FloatArray, Session

    #: (C, h, w) of any size, and the matrix from its colours to sRGB, to the network's output: (channels, H, W), or
    #: (classes,)
    Predict = Callable[[FloatArray, FloatArray | None], FloatArray]
    #: (C, h, w) to the outputs besides the main one, by name
    PredictExtras = Callable[[FloatArray], Mapping[str, FloatArray]]

#: input pixels computed at once; larger frames are cut into tiles, so that memory does not follow the frame
_TILE_PIXELS = 1 << 18


def make_predictor(session: Session, architecture: Architecture) -> Predict:
    """Return a function from (C, h, w) to the network's output for it, without batch dimension.

    Images, masks and the classes of pixels may have any size, and come as (channels, scale*h, scale*w); images and
    masks are rounded to 8 bits, as they are written. A network that answers in camera colours needs the sample's
    matrix to sRGB, too.
    """
    spec, output = architecture.input, architecture.output

    def predict(inputs: FloatArray, to_srgb: FloatArray | None = None) -> FloatArray:
        height, width = inputs.shape[1:]
        if not output.bounded:
            whole = _padded(inputs, spec.multiple_of) if output.dense else inputs
            found = np.asarray(session.run(whole[None])[0])
            return found[:, : height * output.scale, : width * output.scale] if output.dense else found
        rows, columns = height * output.scale, width * output.scale
        packed = Packed(inputs, 0, 0, rows, columns, cell=output.scale)
        canvas = Canvas(packed, output.scale, output.channels, to_srgb=to_srgb)
        plan = plan_tiles(height, width, spec, limit=_TILE_PIXELS)
        picture = np.concatenate(list(infer(session, canvas, plan)))
        return picture.transpose(2, 0, 1).astype(np.float32) / np.float32(255)

    return predict


def wanted_picture(target: FloatArray, to_srgb: FloatArray | None) -> FloatArray:
    """Return the target of a sample, (3, H, W), as a picture: in sRGB where it is in camera colours."""
    return target if to_srgb is None else linear_to_srgb(np.clip(to_linear_srgb(target, to_srgb), 0, 1))


def make_extra_predictor(
    session: Session, architecture: Architecture, names: Mapping[str, str] | None = None
) -> PredictExtras | None:
    """Return a function from (C, h, w) to the outputs besides the main one, by name; None if there are none.

    Args:
        session: What computes them.
        architecture: States them.
        names: What the session calls each; None if it calls them as the architecture does.
    """
    if not architecture.extra_outputs:
        return None

    def predict(inputs: FloatArray) -> dict[str, FloatArray]:
        found = all_outputs(session, _padded(inputs, architecture.input.multiple_of)[None])
        called = names or {name: name for name in architecture.extra_outputs}
        return {name: np.asarray(found[called[name]][0]) for name in architecture.extra_outputs}

    return predict


def _padded(inputs: FloatArray, multiple: int) -> FloatArray:
    """Return (C, H, W) mirrored beyond its lower and right edge up to multiples of a number."""
    height, width = inputs.shape[1:]
    return np.pad(inputs, ((0, 0), (0, -height % multiple), (0, -width % multiple)), mode="symmetric")
