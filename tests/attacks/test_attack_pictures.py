"""Photographs made to do harm: damaged ones are errors that name the file, and large ones are not decoded."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.errors import InputError, UsageError
from zoo.images.pixels import image_size, read_pixels, read_rgb8
from zoo.runner.api import load

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("checkpoint", ["sesr-m5-int8", "resnet20-int8"])
def test_a_picture_that_is_too_large_for_the_memory_is_refused_before_it_is_decoded(
    tmp_path: Path, checkpoint: str
) -> None:
    bomb = tmp_path / "bomb.png"  # decoding it would fail: its pixels are missing
    header = struct.pack(">IIBBBBB", 13000, 13000, 8, 2, 0, 0, 0)
    bomb.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"\0") + chunk(b"IEND", b"")
    )
    assert image_size(bomb) == (13000, 13000)
    with load(CHECKPOINTS / checkpoint, memory="256MB") as runner:
        (result,) = runner.run([bomb], tmp_path / "out")
    assert isinstance(result.error, UsageError)
    assert "--memory" in str(result.error.hint)


def seeds() -> dict[str, bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    picture, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x112], exif[0x10E] = 6, "text"
    gray16 = Image.fromarray(pixels[..., 0].astype(np.uint16) * 256)

    def made(image: Image.Image, kind: str, **more: object) -> bytes:
        image.save(stream := io.BytesIO(), kind, **more)
        return stream.getvalue()

    return {
        "plain.png": made(picture, "PNG", exif=exif), "palette.png": made(picture.quantize(), "PNG", transparency=3),
        "deep.png": made(gray16, "PNG"), "a.jpg": made(picture, "JPEG", exif=exif),
        "cmyk.jpg": made(picture.convert("CMYK"), "JPEG", progressive=True), "a.tif": made(picture, "TIFF"),
        "deep.tif": made(gray16, "TIFF"), "pages.tif": made(picture, "TIFF", save_all=True, append_images=[picture]),
        "a.webp": made(picture, "WEBP", exif=exif), "a.bmp": made(picture.quantize(), "BMP"),
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # of Pillow's, about what it passes over
@pytest.mark.parametrize("name", seeds())
def test_whatever_is_changed_in_a_picture_it_is_read_or_an_input_error(tmp_path: Path, name: str) -> None:
    file, good, chance = tmp_path / name, seeds()[name], random.Random(name)
    for _ in range(60):
        content = bytearray(good)
        for _ in range(chance.choice((1, 1, 2, 4))):
            place = chance.randrange(1 + min(len(content), chance.choice((40, 200, len(content)))))
            kind = chance.choice(("set", "token", "delete", "cut"))
            if kind == "set":
                content[place : place + 1] = bytes([chance.randrange(256)])
            elif kind == "token":
                token = chance.choice((b"\0\0\0\0", b"\xff\xff", b"\0\1", b"\x80\0"))
                content[place : place + len(token)] = token
            elif kind == "delete":
                del content[place : place + chance.randrange(1, 20)]
            else:
                del content[place:]
        file.write_bytes(content)
        for read in (image_size, read_rgb8, lambda path: read_pixels(path, page=1)):
            with contextlib.suppress(InputError, MemoryError):
                read(file)


def test_a_tiff_file_without_sizes_is_an_input_error_that_names_it(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    file.write_bytes(seeds()["a.tif"].replace(struct.pack("<HH", 256, 4), struct.pack("<HH", 64000, 4), 1))
    with pytest.raises(InputError, match=r"a\.tif cannot be read as an image"):
        read_rgb8(file)
