"""From what a network answers to the integers of a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import IntegrityError
from zoo.raw.develop import develop

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Rounding:
    """Makes integers of rows of a picture, here or in the process that computes them.

    Attributes:
        largest: Value of a sample that stands for 1.
        to_srgb: (3, 3), for networks that answer in camera colours: from those to linear sRGB.
    """

    largest: int
    to_srgb: npt.NDArray[np.float32] | None = None

    @property
    def dtype(self) -> str:
        """Return the type of the integers."""
        return "uint8" if self.largest <= 255 else "uint16"

    def described(self) -> dict[str, object]:
        """Return what :func:`rounding_of` makes the same of in another process."""
        matrix = None if self.to_srgb is None else self.to_srgb.tolist()
        return {"target": f"{__name__}:rounding_of", "largest": self.largest, "to_srgb": matrix}

    def __call__(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Return integers (rows, columns, C) for (C, rows, columns) in [0, 1].

        Raises:
            IntegrityError: There are numbers that are not finite.
        """
        # What is not a number, or infinite, makes the sum so; one pass and no array of truth values.
        if not np.isfinite(rows.sum(dtype=np.float64)):
            raise IntegrityError("The network returned numbers that are not finite.")
        if self.to_srgb is not None:
            return develop(rows, self.to_srgb, self.largest).transpose(1, 2, 0)
        samples = rows * np.float32(self.largest)
        np.rint(np.clip(samples, 0, self.largest, out=samples), out=samples)
        return samples.astype(self.dtype).transpose(1, 2, 0)


def rounding_of(fields: Mapping[str, Any]) -> Rounding:
    """Return what :meth:`Rounding.described` describes."""
    matrix = fields["to_srgb"]
    return Rounding(fields["largest"], None if matrix is None else np.array(matrix, np.float32))
