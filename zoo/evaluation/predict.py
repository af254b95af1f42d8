"""Running one sample of any size through a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from zoo.contracts import Architecture, Session
    from zoo.evaluation.quality import FloatArray, Predict


def predictor(session: Session, architecture: Architecture) -> Predict:
    """A function from (C, h, w) to (3, scale*h, scale*w), or to (classes,) for logits.

    Pictures of any size are extended by reflection to the multiple the net needs, and cut back.
    """
    spec, output = architecture.input, architecture.output

    def predict(inputs: FloatArray) -> FloatArray:
        if output.kind == "logits":
            return np.asarray(session.run(inputs[None])[0])
        height, width = inputs.shape[1:]
        bottom, right = -height % spec.multiple_of, -width % spec.multiple_of
        if bottom or right:
            inputs = np.pad(inputs, ((0, 0), (0, bottom), (0, right)), mode="symmetric")
        picture = session.run(np.ascontiguousarray(inputs[None]))[0]
        return np.asarray(picture[:, : height * output.scale, : width * output.scale])

    return predict
