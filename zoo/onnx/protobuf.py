"""Reading the protobuf wire format: strict, bounded, and without the protobuf package.

The bytes may be hostile. Whatever is not well formed raises IntegrityError; nothing is copied while
walking, and a reader visits no more fields than its budget.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from zoo.errors import IntegrityError

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
#: Far more fields than any network has nodes, attributes and tensors together; read in about a second.
_MAX_FIELDS = 500_000
_CONTINUED = bytes(range(128, 256))


class Field(NamedTuple):
    """One field of a message. Offsets count from the start of the whole file.

    Attributes:
        start: Where the field's key begins.
        begin: Where its value begins (after the length, if it has one).
        end: Where its value ends.
        number: The value of a varint field; 0 for the others.
    """

    key: int
    wire: int
    start: int
    begin: int
    end: int
    number: int


class Reader:
    """Walks the messages in `data`."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._left = _MAX_FIELDS

    def fields(self, begin: int, end: int) -> Iterator[Field]:
        """Yield the fields of the message that lies in [begin, end), in order."""
        at, data = begin, self.data
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise IntegrityError("The model file has more fields than any network needs.")
            start = at
            tag, at = (data[at], at + 1) if data[at] < 0x80 else self._varint(at, end)  # most fit in a byte
            key, wire = tag >> 3, tag & 7
            if not 0 < key < 1 << 29:
                raise _malformed(start)
            number = 0
            if wire == _VARINT:
                first = at
                number, at = self._varint(at, end)
                yield Field(key, wire, start, first, at, number)
                continue
            if wire == _LENGTH:
                short = at < end and data[at] < 0x80
                size, at = (data[at], at + 1) if short else self._varint(at, end)
            elif wire in (_FIXED64, _FIXED32):
                size = 8 if wire == _FIXED64 else 4
            else:
                raise _malformed(start)
            if size > end - at:
                raise _malformed(start)
            yield Field(key, wire, start, at, at + size, number)
            at += size

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                raise _malformed(at)
            byte = self.data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >= 1 << 64:
                    raise _malformed(at)
                return value, at
        raise _malformed(at)

    def message(self, field: Field) -> Iterator[Field]:
        """Return the fields of a field that holds a message."""
        self._expect_length(field)
        return self.fields(field.begin, field.end)

    def content(self, field: Field) -> bytes:
        """Return the bytes of a field that holds bytes."""
        self._expect_length(field)
        return self.data[field.begin : field.end]

    def text(self, field: Field) -> str:
        """Return the text of a field that holds a string."""
        try:
            return self.content(field).decode()
        except UnicodeDecodeError as error:
            raise _malformed(field.start) from error

    def value(self, field: Field) -> int:
        """Return the number in a varint field."""
        if field.wire != _VARINT:
            raise _malformed(field.start)
        return field.number

    def values(self, field: Field) -> Iterator[int]:
        """Yield the numbers of a repeated varint field, packed or not."""
        if field.wire == _VARINT:
            yield field.number
            return
        self._expect_length(field)
        at = field.begin
        while at < field.end:
            number, at = self._varint(at, field.end)
            yield number

    def count(self, field: Field, size: int) -> int:
        """Return how many numbers a repeated field holds, packed or not; `size` is that of each, 0 for varints."""
        if field.wire != _LENGTH:
            return 1
        if size:
            if (field.end - field.begin) % size:
                raise _malformed(field.start)
            return (field.end - field.begin) // size
        # The last byte of each varint has its highest bit clear.
        return len(self.data[field.begin : field.end].translate(None, _CONTINUED))

    def _expect_length(self, field: Field) -> None:
        if field.wire != _LENGTH:
            raise _malformed(field.start)


def _malformed(at: int) -> IntegrityError:
    return IntegrityError(f"The model file is damaged: it is malformed at byte {at}.")


def encode_varint(value: int) -> bytes:
    """Encode a non-negative number."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_bytes(key: int, content: bytes) -> bytes:
    """Encode a field that holds bytes, a string or a message."""
    return encode_varint(key << 3 | _LENGTH) + encode_varint(len(content)) + content


def encode_number(key: int, value: int) -> bytes:
    """Encode a varint field."""
    return encode_varint(key << 3 | _VARINT) + encode_varint(value)


def encode_float(key: int, value: float) -> bytes:
    """Encode a float32 field."""
    return encode_varint(key << 3 | _FIXED32) + struct.pack("<f", value)
