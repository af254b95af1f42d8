"""The numbers of single layers' weights, as options of techniques spell them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from zoo.options import CustomOption

#: What a layer can have instead of a width in bits.
Floats = Literal["float", "float16"]
#: A width in bits, or float: of computing, or of storing only.
Numbers = int | Floats

_LEAST_BITS, _MOST_BITS = 2, 8
_FLOATS: tuple[Floats, ...] = ("float", "float16")


@dataclass(frozen=True)
class LayerNumbers(CustomOption):
    """What the weights of all layers that `pattern` names are, written ``head:6``, ``head:float16`` or ``head``.

    The name alone, or with ``float``, stands for a layer that is not rounded. ``float16`` is the same, with weights
    that the file stores in 16 bits. Neither rounds the layer's input.
    """

    form = "pattern:numbers"
    expected = (
        f"a layer or pattern, alone or with a colon and {_LEAST_BITS} to {_MOST_BITS} bits, float or float16"
    )

    pattern: str
    numbers: Numbers = "float"

    @classmethod
    def read(cls, text: str) -> LayerNumbers:
        """Parse ``pattern`` or ``pattern:numbers``; the last colon separates them, as names of modules hold none."""
        pattern, colon, numbers = text.rpartition(":")
        if not colon:
            pattern, numbers = text, "float"
        if not pattern:
            raise ValueError(f"{text} names no layer")
        for name in _FLOATS:
            if numbers == name:
                return cls(pattern, name)
        if (
            not numbers.isascii()
            or not numbers.isdigit()
            or not _LEAST_BITS <= int(numbers[:9]) <= _MOST_BITS
        ):
            raise ValueError(f"{numbers} is not a width")
        return cls(pattern, int(numbers))

    def __str__(self) -> str:
        return self.pattern if self.numbers == "float" else f"{self.pattern}:{self.numbers}"


@dataclass(frozen=True)
class LayerBits(LayerNumbers):
    """The same where widths are what is usually asked for: nothing is left out, and a search tries widths."""

    form = "pattern:bits"
    expected = f"a layer or pattern, a colon and {_LEAST_BITS} to {_MOST_BITS} bits, float or float16, such as head:8"
    per_layer = tuple(map(str, range(_LEAST_BITS, _MOST_BITS + 1)))

    @classmethod
    def read(cls, text: str) -> LayerBits:
        """Parse ``pattern:numbers``."""
        if ":" not in text:
            raise ValueError(f"{text} does not name a layer and its numbers")
        read = LayerNumbers.read(text)
        return cls(read.pattern, read.numbers)

    def __str__(self) -> str:
        return f"{self.pattern}:{self.numbers}"


def resolve_numbers(given: Iterable[LayerNumbers], layers: Iterable[str], owner: str) -> dict[str, Numbers]:
    """Return the numbers of each layer that an entry names; of several entries, the last one counts.

    Args:
        given: The entries.
        layers: The layers' paths.
        owner: Named in the error.

    Raises:
        UnknownIdError: A pattern matches no layer.
    """
    from zoo.quantization.patterns import matching

    layers = list(layers)
    return {path: each.numbers for each in given for path in matching(each.pattern, layers, owner)}
