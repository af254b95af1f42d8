"""The inputs of a network that has several: what each is, and the one array in which everything here carries them.

Networks with several inputs, or with one that is no image, are trained, calibrated and measured like all others: their
inputs travel as one array (N, C, H, W), which is divided where the network begins. The exported file has the inputs
themselves, by name.
"""

# Annotations are not postponed: opening an artifact would have to evaluate their texts, which takes a millisecond.
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Annotated, Any, Literal

from zoo.contracts.limits import Limits
from zoo.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]

#: The most channels of an array that holds inputs as planes, and the row length of one that holds them end to end.
MOST_CHANNELS = 1024
_ROW = 1024
#: Axes of an image, without that of the batch; a tensor with as many ends in a height and a width, too.
_IMAGE_AXES = 3
#: Images that come as height, width, channels.
_IMAGES = {"rgb": 3, "gray": 1}


@dataclass(frozen=True)
class InputPart:
    """One of the inputs of a network.

    Attributes:
        name: In the exported file, and what it is called by from Python.
        kind: "rgb" or "gray" (an image in [0, 1]), "tensor" (numbers in any range), or "integer" (whole numbers, such
            as a length or the number of a word, which the network gets as int64 and the file as float32).
        shape: Without the batch dimension; () for one number per sample. The last two axes of three or more are a
            height and a width, those of the example.
        low: The least value of examples.
        high: The greatest value of examples.
    """

    name: Annotated[str, Limits(most=100, pattern=r"[A-Za-z_]\w{0,99}")]
    kind: Literal["rgb", "gray", "tensor", "integer"]
    shape: Annotated[tuple[int, ...], Limits(most=8)] = ()
    low: float = 0.0
    high: float = 1.0

    def __str__(self) -> str:
        shape = f" {'x'.join(map(str, self.shape))}" if self.shape else ""
        return f"{self.name} ({self.kind}{shape})"

    @property
    def has_sides(self) -> bool:
        """Return whether the last two axes are a height and a width."""
        return len(self.shape) >= _IMAGE_AXES


class Packing:
    """How several inputs are held in one array.

    Where all images have one size, images are channels, and every other number is a plane of that size that holds it
    everywhere: such an array can be cropped. Otherwise all numbers stand end to end, in rows.

    Args:
        shapes: Of the inputs, without the batch dimension; None for a height or width that may vary.

    Attributes:
        planes: Whether inputs are channels and planes.
    """

    def __init__(self, shapes: Sequence[Sequence[int | None]]) -> None:
        self.shapes = [tuple(shape) for shape in shapes]
        images = {shape[-2:] for shape in self.shapes if len(shape) >= _IMAGE_AXES}
        self._counts = [
            prod(side or 1 for side in (shape[:-2] if len(shape) >= _IMAGE_AXES else shape))
            for shape in self.shapes
        ]
        self.planes = len(images) == 1 and sum(self._counts) <= MOST_CHANNELS
        self._sides = next(iter(images)) if self.planes else None

    @property
    def channels(self) -> int:
        """Return the channels of the array."""
        return sum(self._counts) if self.planes else 1

    @property
    def sides(self) -> tuple[int | None, int | None]:
        """Return the height and the width of the array; None where they may vary."""
        if self._sides is not None:
            return self._sides[0], self._sides[1]
        return -(-sum(prod(side or 1 for side in shape) for shape in self.shapes) // _ROW), _ROW

    @property
    def constant(self) -> list[range]:
        """Return the channels of each input that is not an image, in arrays of planes."""
        found, first = [], 0
        for shape, count in zip(self.shapes, self._counts, strict=True):
            found += [range(first, first + count)] if len(shape) < _IMAGE_AXES else []
            first += count
        return found if self.planes else []

    def shapes_of(self, packed: Sequence[int]) -> list[tuple[int, ...]]:
        """Return the shapes of the inputs, with the batch dimension, that an array of a shape holds.

        Args:
            packed: (N, C, H, W).
        """
        batch, sides = packed[0], packed[2:]
        return [
            (batch, *(side or 1 for side in shape[:-2]), *sides)
            if self.planes and len(shape) >= _IMAGE_AXES
            else (batch, *(side or 1 for side in shape))
            for shape in self.shapes
        ]

    def unpack(self, packed: Any) -> list[Any]:
        """Return the inputs that an array holds, each with the batch dimension.

        Args:
            packed: (N, C, H, W), of NumPy or torch.
        """
        found, first = [], 0
        batch = packed.shape[0]
        flat = None if self.planes else packed.reshape(batch, -1)
        for shape, count in zip(self.shapes, self._counts, strict=True):
            if flat is not None:
                count = prod(side or 1 for side in shape)
                found.append(flat[:, first : first + count].reshape(batch, *shape))
            elif len(shape) >= _IMAGE_AXES:
                part = packed[:, first : first + count]
                leads = shape[:-2]
                found.append(part if len(leads) == 1 else part.reshape(batch, *leads, *part.shape[-2:]))
            else:
                found.append(packed[:, first : first + count, 0, 0].reshape(batch, *shape))
            first += count
        return found

    def pack(self, arrays: Sequence["FloatArray"]) -> "FloatArray":
        """Return the array that holds inputs, (N, C, H, W).

        Args:
            arrays: The inputs in order, float32, each with the batch dimension.
        """
        import numpy as np

        batch = len(arrays[0])
        if not self.planes:
            flat = np.concatenate([array.reshape(batch, -1) for array in arrays], axis=1)
            rows = self.sides[0] or 1
            return np.pad(flat, ((0, 0), (0, rows * _ROW - flat.shape[1]))).reshape(batch, 1, rows, _ROW)
        sides = next(array.shape[-2:] for array in arrays if array.ndim > _IMAGE_AXES)
        return np.concatenate(
            [
                array.reshape(batch, -1, *sides)
                if array.ndim > _IMAGE_AXES
                else np.broadcast_to(array.reshape(batch, -1, 1, 1), (batch, count, *sides))
                for array, count in zip(arrays, self._counts, strict=True)
            ],
            axis=1,
        )


def packing_of(parts: Sequence[InputPart]) -> Packing:
    """Return how the inputs of a network are held in one array."""
    return Packing([part.shape for part in parts])


def packing_of_file(shapes: Sequence[Sequence[Any]], axes: int = 1 + _IMAGE_AXES) -> Packing | None:
    """Return how the inputs of a file are held in one array; None if the array is the one input itself.

    Args:
        shapes: Of the inputs, the batch dimension first; whatever is no number may vary.
        axes: Of the array.
    """
    if len(shapes) == 1 and len(shapes[0]) == axes:
        return None
    return Packing([[side if isinstance(side, int) else None for side in shape[1:]] for shape in shapes])


def pack_inputs(
    parts: Sequence[InputPart], given: Mapping[str, Any] | Sequence[Any], *, fixed: bool = True
) -> "FloatArray":
    """Return inputs as one array, (N, C, H, W).

    Args:
        parts: What the network expects.
        given: The inputs by name, or in order; each an array with the batch dimension. Images may be bytes, and their
            channels may come last.
        fixed: Whether heights and widths must be those stated.

    Raises:
        InputError: An input is missing or unknown, or one does not have the shape or the numbers stated.
    """
    names = [part.name for part in parts]
    if isinstance(given, Mapping):
        if set(given) != set(names):
            raise InputError(
                f"The inputs are {_listed(given)}; the network expects {_listed(names)}.",
                hint="Name them so.",
            )
        arrays = [given[name] for name in names]
    else:
        arrays = list(given)
        if len(arrays) != len(parts):
            raise InputError(
                f"{len(arrays)} input{'' if len(arrays) == 1 else 's'} for a network with {len(parts)}: "
                f"{_listed(names)}.",
                hint="Pass each of them, in this order or by name.",
            )
    numbers = [_as_part(array, part) for array, part in zip(arrays, parts, strict=True)]
    packing = packing_of(parts)
    sides = {array.shape[-2:] for array in numbers if array.ndim > _IMAGE_AXES}
    for array, part in zip(numbers, parts, strict=True):
        free = packing.planes and not fixed and part.has_sides
        expected = (*part.shape[:-2], *array.shape[-2:]) if free else part.shape
        if array.shape[1:] != expected or (free and len(sides) > 1):
            one = "the same for all images" if free and array.shape[1:] == expected else ""
            raise InputError(
                f"The input '{part.name}' has the shape {_times(array.shape)}; {_times(('N', *part.shape))} is "
                f"needed{f', with sides that are {one}' if one else ''}."
            )
    if len({len(array) for array in numbers}) > 1:
        counts = ", ".join(
            f"{len(array)} of '{part.name}'" for array, part in zip(numbers, parts, strict=True)
        )
        raise InputError(f"There is not one of each input per sample: {counts}.")
    return packing.pack(numbers)


def _as_part(given: Any, part: InputPart) -> "FloatArray":
    """Return an input as finite float32 numbers, images in [0, 1] with their channels first."""
    import numpy as np

    array = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)
    if array.dtype.kind not in "fiub":
        raise InputError(f"The input '{part.name}' is of {array.dtype}; numbers are needed.")
    image = part.kind in _IMAGES
    if image and array.ndim == 4 and array.shape[1] != part.shape[0] and array.shape[3] == part.shape[0]:
        array = array.transpose(0, 3, 1, 2)
    largest = np.iinfo(array.dtype).max if image and array.dtype in (np.uint8, np.uint16) else 1
    numbers = np.ascontiguousarray(array, dtype=np.float32) / np.float32(largest)
    if not np.isfinite(numbers).all():
        raise InputError(f"The input '{part.name}' contains NaN or infinite values.", hint="Repair the data.")
    if part.kind == "integer" and (numbers != np.round(numbers)).any():
        raise InputError(
            f"The input '{part.name}' is of whole numbers, and has others.",
            hint="Round them, or repair the data.",
        )
    return numbers


def _listed(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _times(shape: Sequence[Any]) -> str:
    return "x".join(map(str, shape))
