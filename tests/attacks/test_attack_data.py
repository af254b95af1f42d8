"""Data sets made to do harm: archives that unpack to gigabytes, types that lie, numbers without bounds."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from zoo.data.box_labels import read_coco
from zoo.data.tensors import Tensors, TensorsConfig
from zoo.errors import InputError
from zoo.storage.array_files import open_arrays

COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 40}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}],
    "categories": [{"id": 1, "name": "x"}],
}


def npz(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npy(shape: tuple[int, ...], dtype: str = "<f4", data: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + data


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({f"x{number}": npy((1 << 19,), "|u1", bytes(1 << 19)) for number in range(3)}, "unpacks to more"),
        ({f"x{number}": npy((1,), data=bytes(4)) for number in range(501)}, "more than 500 arrays"),
        ({"inputs": npy((10**9, 10**3))}, "damaged"),
        ({"inputs": npy((-1, 4))}, "damaged"),
        ({"inputs": npy((1,), "|O", b"cos\nsystem\n(S'false'\ntR.")}, "Python objects"),
        ({"inputs": npy((2,), "<U10", bytes(80))}, "not numbers"),
        ({"inputs": npy((2,), "<M8[s]", bytes(16))}, "not numbers"),
        ({"inputs": b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 28) + b"(" * 1000}, "damaged"),
    ],
)
def test_an_archive_of_arrays_that_lies_or_grows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: dict[str, bytes], said: str
) -> None:
    monkeypatch.setattr("zoo.storage.array_files._UNPACKED", 1 << 20)
    with pytest.raises(InputError, match=said):
        open_arrays(npz(tmp_path / "a.npz", members))


@pytest.mark.parametrize("shape", [(1 << 23, 1), (1 << 50, 0)])
def test_an_array_of_more_samples_than_can_be_looked_at_is_refused(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    path = npz(tmp_path / "a.npz", {"inputs": npy(shape, "|u1", bytes(shape[0] * shape[1]))})
    with pytest.raises(InputError, match=r"the limit is 4,194,304|is empty"):
        Tensors(TensorsConfig(file=str(path)))


@pytest.mark.parametrize("kind", ["BF16", "F8_E4M3"])
def test_tensors_of_types_that_numpy_lacks_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    size = 2 if kind == "BF16" else 1
    header = json.dumps({"inputs": {"dtype": kind, "shape": [4], "data_offsets": [0, 4 * size]}}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4 * size))
    with pytest.raises(InputError, match=f"type {kind}"):
        open_arrays(path)


@pytest.mark.parametrize(
    "content",
    [
        "[" * 200_000,
        json.dumps({**COCO, "annotations": [{**COCO["annotations"][0], "bbox": [float("nan")] * 4}]}),  # type: ignore[dict-item]
        json.dumps({**COCO, "categories": [{"id": 10**30, "name": "x"}]}),
        json.dumps({**COCO, "annotations": [{"id": [], "image_id": {}, "category_id": None, "bbox": "x"}]}),
        json.dumps(COCO).replace(": 40", ": " + "9" * 5000),
        "[]",
    ],
    ids=["deep", "nan", "large id", "types", "digits", "list"],
)
def test_boxes_that_are_none_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "instances.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"instances\.json"):
        read_coco(path)
