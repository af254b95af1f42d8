"""Telling files apart by their first bytes."""

from __future__ import annotations

#: Bytes needed for an answer.
HEAD = 64

_RAW_HEADERS = (
    b"II*\0",  # TIFF and what builds on it: DNG, ARW, NEF, CR2, PEF, SRW, 3FR, IIQ, ...
    b"MM\0*",
    b"II\x2b\0",  # BigTIFF
    b"MM\0\x2b",
    b"IIRO",  # Olympus ORF
    b"IIRS",
    b"MMOR",
    b"IIU\0",  # Panasonic RW2, Leica RWL
    b"FUJIFILMCCD-RAW",
    b"FOVb",  # Sigma X3F
    b"II\x1a\0\0\0HEAPCCDR",  # Canon CRW
    b"\0MRM",  # Minolta MRW
    b"ARRI",
    b"RIFF",
    b"NOKIARAW",
    b"RAWMCAMERA",
    b"DSC-Image",
    b"IIII",  # Phase One
    b"MMMM",
)
_OTHERS = (
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"8BPS", "a Photoshop file"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x7fELF", "a program"),
    (b"<", "a text or HTML file"),
    (b"{", "a text or JSON file"),
)


def has_raw_header(head: bytes) -> bool:
    """Return whether a file with these first bytes may be a RAW file.

    LibRaw also opens headless dumps, guessing camera and layout from the number of bytes; the guess is mostly
    wrong and the picture garbage.
    """
    return head.startswith(_RAW_HEADERS) or head[4:12] == b"ftypcrx "


def other_kind(head: bytes) -> str | None:
    """Return what else the file is, with an article; None if unknown."""
    if head[4:8] == b"ftyp" and head[8:12] != b"crx ":
        return "a video or HEIF picture"
    if head[8:12] == b"WEBP":
        return "a WebP picture"
    return next((kind for start, kind in _OTHERS if head.startswith(start)), None)
