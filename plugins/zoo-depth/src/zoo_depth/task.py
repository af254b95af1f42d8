"""The task of telling how far away each pixel is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from zoo.contracts import Metric, OutputSpec, Scorer, Shown, Task
from zoo.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.contracts import FloatArray, TargetArray

#: A depth counts as right if neither is this many times the other.
_RATIO = 1.25
_LEAST = 1e-6


class DepthTask(Task):
    """Depths as shares of the largest one; a target of 0 stands for a pixel whose depth is not known.

    Targets may be larger than outputs by a whole factor: they are averaged over what is known of each square.
    """

    contract = 1
    id: ClassVar[str] = "depth"
    summary: ClassVar[str] = "how far away each pixel is, as a share of the largest depth"
    outputs: ClassVar[tuple[str, ...]] = ("tensor", "gray")
    measures: ClassVar[tuple[Metric, ...]] = (
        Metric("rmse", "RMSE", higher_is_better=False),
        Metric("abs_rel", "AbsRel", higher_is_better=False),
        Metric("delta1", "delta < 1.25", "", 1, percent=True, loss_unit="pt", limit=10.0),
    )
    pipeline: ClassVar[str] = "depth-estimation"
    data: ClassVar[str] = "rooms"
    data_hint: ClassVar[str] = "Try --data rooms, or --data 'depth(root=DIR)' for your own"
    presets: ClassVar[Mapping[str, str]] = {
        "small": "inverted-residual+qat(mixed=4)",
        "fast": "inverted-residual+qat",
        "best": "qat",
    }

    def loss(self, output: OutputSpec) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the mean absolute difference where the depth is known."""
        return _difference

    def scorer(self, output: OutputSpec) -> Scorer:
        """Return a scorer of the means over images of RMSE, AbsRel and the share of pixels within a factor of 1.25."""
        from zoo.tasks.scorers import MeanScorer

        return MeanScorer(compare_depths)

    def show(
        self,
        prediction: FloatArray,
        inputs: FloatArray,
        output: OutputSpec,
        names: Sequence[str] = (),
    ) -> Shown:
        """Return the least, mean and largest depth, (1, H, W), and a picture in which what is near is bright."""
        import numpy as np

        near = np.rint((1 - np.clip(prediction[0], 0, 1)) * 255).astype(np.uint8)
        factor = max(1, inputs.shape[-1] // near.shape[-1])
        found = {"nearest": prediction.min(), "mean": prediction.mean(), "farthest": prediction.max()}
        return Shown(
            [{name: float(value) for name, value in found.items()}],
            near.repeat(factor, axis=0).repeat(factor, axis=1),
        )


def averaged(depths: Any, sides: tuple[int, int]) -> Any:
    """Return depths of NumPy or torch, (..., H, W), as (..., *sides): means over what is known, 0 if nothing is.

    Raises:
        InputError: H and W are not a whole multiple of `sides`.
    """
    height, width = depths.shape[-2:]
    if height % sides[0] or width % sides[1]:
        raise InputError(
            f"Depths of {height}x{width} pixels cannot be compared with an output of {sides[0]}x{sides[1]}.",
            hint="The height and the width must be whole multiples.",
        )
    squares = depths.reshape(*depths.shape[:-2], sides[0], height // sides[0], sides[1], width // sides[1])
    known = (squares > 0).sum((-3, -1))
    return squares.sum((-3, -1)) / (known + (known == 0))


def compare_depths(prediction: FloatArray, target: TargetArray) -> dict[str, float]:
    """Return the scores of one image, where its depth is known; none if it is known nowhere.

    Eigen, Puhrsch and Fergus, "Depth Map Prediction from a Single Image", NeurIPS 2014.

    Args:
        prediction: (1, h, w).
        target: (1, H, W), 0 where the depth is not known.
    """
    import numpy as np

    wanted = averaged(target.astype(np.float64), prediction.shape[-2:])
    known = wanted > 0
    if not known.any():
        return {}
    found, wanted = np.maximum(prediction.astype(np.float64)[known], _LEAST), wanted[known]
    return {
        "rmse": float(np.sqrt(np.mean(np.square(found - wanted)))),
        "abs_rel": float(np.mean(np.abs(found - wanted) / wanted)),
        "delta1": float(np.mean(np.maximum(found / wanted, wanted / found) < _RATIO)),
    }


def _difference(outputs: Tensor, targets: Tensor) -> Tensor:
    wanted = averaged(targets.to(outputs.dtype), (outputs.shape[-2], outputs.shape[-1]))
    known = (wanted > 0).to(outputs.dtype)
    return ((outputs - wanted).abs() * known).sum() / known.sum().clamp_min(1)
