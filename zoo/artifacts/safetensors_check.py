"""safetensors files from outside: checked before the library, which reads what it is given into memory.

Format: eight bytes with the length of a JSON header, the header, the data of all tensors without a gap.
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

from zoo.errors import IntegrityError
from zoo.schema import parse_json

#: Bytes of the header and tensors in it: many times what the largest networks have.
LARGEST_HEADER = 4 << 20
MOST_TENSORS = 30_000
_MOST_AXES = 16
_LONGEST_NAME = 1000
_LARGEST = 1 << 48
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16,
    "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
}  # fmt: skip
_METADATA = "__metadata__"


def checked_tensors(content: bytes, source: str) -> bytes:
    """Return `content` after checking that it is a well-formed safetensors file.

    Args:
        content: Bytes of the file.
        source: Name of the file, for messages.

    Raises:
        IntegrityError: It is not well formed.
    """

    def refuse(reason: str) -> NoReturn:
        raise IntegrityError(f"{source} is not a safetensors file: {reason}.")

    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > len(content) - 8:
        refuse("it is shorter than it says")
    if length > LARGEST_HEADER:
        refuse(f"its header has {length:,} bytes; the limit is {LARGEST_HEADER:,}")
    header = parse_json(content[8 : 8 + length], f"The header of {source}", error=IntegrityError)
    if not isinstance(header, dict) or len(header) > MOST_TENSORS:
        refuse(f"its header is not a table of at most {MOST_TENSORS:,} tensors")
    spans = []
    for name, described in header.items():
        if len(name) > _LONGEST_NAME or not isinstance(described, dict):
            refuse(f"the description of the tensor {name[:60]!a} is malformed")
        if name == _METADATA:
            continue
        span = _span(described)
        if span is None:
            refuse(f"the description of the tensor {name[:60]!a} is malformed")
        spans.append(span)
    end = 0
    for start, stop in sorted(spans):
        if start != end:
            refuse("its tensors overlap, or leave gaps")
        end = stop
    if end != len(content) - 8 - length:
        refuse("the length of its data does not match its tensors")
    return content


def _span(described: dict[str, Any]) -> tuple[int, int] | None:
    """Where the data of a tensor begins and ends; None if its description is wrong."""
    if described.keys() != {"dtype", "shape", "data_offsets"}:
        return None
    kind, shape, span = described["dtype"], described["shape"], described["data_offsets"]
    bits = _BITS.get(kind) if isinstance(kind, str) else None
    if bits is None:
        return None
    if not (_are_sizes(shape, _MOST_AXES) and _are_sizes(span, 2) and len(span) == 2):
        return None
    size = math.prod(shape) * bits // 8
    return (span[0], span[1]) if span[1] - span[0] == size else None


def _are_sizes(value: Any, most: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= most
        and all(type(each) is int and 0 <= each <= _LARGEST for each in value)
    )
