"""One way to round a tensor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

Kind = Literal["activation", "dynamic", "weight"]


@dataclass(frozen=True, eq=False)
class RoundingRule:
    """How one tensor is rounded: ``(clip(round(x / scale) + zero_point, low, high) - zero_point) * scale``.

    Attributes:
        name: Of the layer that makes the tensor, and the operators since; of a weight, its own.
        value: What the tensor is called in the file.
        scale: (1,), or (C,) along `axis`; NaN for a dynamic one, which the values themselves decide.
        zero_point: As `scale`.
        levels: Of a weight, the integers stored.
        passed_on: Whether the values lie on these levels already, those of the tensors before it: a pooling,
            a concatenation.
        rectified: Whether all that uses them is a ReLU, to which negative values are zeros.
    """

    name: str
    kind: Kind
    value: str
    scale: Array
    zero_point: Array
    low: int
    high: int
    axis: int | None = None
    levels: npt.NDArray[np.int32] | None = None
    passed_on: bool = False
    rectified: bool = False

    @property
    def bits(self) -> int:
        """Return the bits that the levels take; one for binary weights."""
        binary = self.levels is not None and np.unique(self.levels).tolist() == [-1, 1]
        return 1 if binary else int(self.high - self.low).bit_length()

    @property
    def signed(self) -> bool:
        """Return whether there are levels below zero; those of a dynamic one are not known."""
        return bool((self.low < self.zero_point).any())

    @property
    def skewed(self) -> bool:
        """Return whether an activation has more levels on one side of zero than on the other."""
        if self.kind != "activation" or self.zero_point.size != 1:
            return False
        zero = float(self.zero_point.item())
        return self.signed and abs(self.high + self.low - 2 * zero) > 1

    @property
    def steps(self) -> int:
        """Return the levels from zero to the farther end of a range of that many bits."""
        if self.skewed:
            zero = int(self.zero_point.item())
            return max(zero - self.low, self.high - zero)
        return (self.high - self.low) // 2 if self.signed else self.high - self.low

    @property
    def reach(self) -> tuple[float, float]:
        """Return the least and the largest value that a level stands for."""
        ends = np.stack(
            [(self.low - self.zero_point) * self.scale, (self.high - self.zero_point) * self.scale]
        )
        return float(ends.min()), float(ends.max())

    def dequantized(self) -> Array:
        """Return the values that the levels of a weight stand for."""
        assert self.levels is not None
        ndim = self.levels.ndim
        return np.asarray((self.levels - self._along(self.zero_point, ndim)) * self._along(self.scale, ndim))

    def reaching(self, largest: Array) -> RoundingRule:
        """Return the same width with a range whose farther end is `largest`, (1,) or (C,).

        A skewed range keeps its zero point; others are [-largest, largest], or [0, largest] without a sign.
        """
        steps = self.steps
        if self.skewed:
            return replace(self, scale=largest / steps)
        low = 0 if not self.signed and self.kind == "activation" else -steps
        return replace(
            self, scale=largest / steps, zero_point=np.zeros_like(largest), low=low, high=steps, levels=None,
            kind="weight" if self.kind == "weight" else "activation",
        )  # fmt: skip

    def counted(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return `values`, (...,) of any shape, as far as they matter to what comes after."""
        return np.maximum(values, np.float32(0)) if self.rectified else values

    def rounded(
        self, values: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Return the rounded values, and which of them are clipped; for a weight, the values that are stored.

        Args:
            values: (...,), of the tensor's shape.

        Returns:
            The rounded values and a mask, both of the same shape.
        """
        scale, zero_point = self._along(self.scale, values.ndim), self._along(self.zero_point, values.ndim)
        if self.kind == "dynamic":
            scale, zero_point = dynamic_range(values)
        levels = np.rint(values / scale.astype(np.float32))
        low, high = (self.low - zero_point).astype(np.float32), (self.high - zero_point).astype(np.float32)
        clipped = (levels < low) | (levels > high)
        if self.levels is not None:
            return self.dequantized().astype(np.float32), clipped
        return np.clip(levels, low, high) * scale.astype(np.float32), clipped

    def _along(self, numbers: Array, ndim: int) -> Array:
        if self.axis is None or numbers.size == 1:
            return numbers.reshape(-1)[:1]
        return numbers.reshape(tuple(-1 if axis == self.axis else 1 for axis in range(ndim)))


def dynamic_range(values: npt.NDArray[np.float32]) -> tuple[Array, Array]:
    """Return the scale and zero point, (1,) each, that DynamicQuantizeLinear computes for a tensor."""
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    scale = (high - low) / 255 or 1.0
    return np.array([scale]), np.array([np.rint(-low / scale)])
