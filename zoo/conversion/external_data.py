"""ONNX files that keep their weights in files of their own, as large exports do: read, and made one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import IntegrityError
from zoo.extras import require
from zoo.onnx.check import LARGEST_MODEL
from zoo.storage.atomic import open_regular, read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator


def read_whole_model(path: Path) -> bytes:
    """Return the bytes of a model with all of its data inside, unchecked otherwise.

    Data outside must be in regular files in the model's own folder, named without a path.

    Raises:
        InputError: A file cannot be read.
        IntegrityError: The model refers to files elsewhere or beyond their ends, or is too large.
    """
    data = read_bytes(path, LARGEST_MODEL, error=IntegrityError)
    if b"location" not in data:  # the key of every such reference
        return data
    onnx = require("onnx", "Reading an ONNX file with data outside")
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's type for it depends on its version
        raise IntegrityError(f"{path} is damaged: {error}") from error
    outside = [
        tensor for tensor in _tensors(model.graph) if tensor.data_location == onnx.TensorProto.EXTERNAL
    ]
    if not outside:
        return data
    total = len(data)
    for tensor in outside:
        content = _content(tensor, path, LARGEST_MODEL - total)
        total += len(content)
        tensor.raw_data = content
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT
    whole: bytes = model.SerializeToString()
    return whole


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("g"):
                yield from _tensors(attribute.g)


def _content(tensor: Any, model: Path, most: int) -> bytes:
    said = {entry.key: entry.value for entry in tensor.external_data}
    name = said.get("location", "")
    if not name or Path(name).name != name or name in (".", "..") or "\\" in name:
        raise IntegrityError(f"{model} keeps data in {name[:100]!a}, which is not a file in its own folder.")
    try:
        offset, length = int(said.get("offset", "0")), int(said.get("length", "-1"))
    except ValueError as error:
        raise IntegrityError(
            f"{model} is damaged: it states where in {name[:100]!a} its data is, but not in numbers."
        ) from error
    with open_regular(model.with_name(name)) as file:
        size = file.seek(0, 2)
        length = size - offset if length < 0 else length
        if offset < 0 or length < 0 or offset + length > size:
            raise IntegrityError(f"{model} refers to data beyond the end of {name[:100]!a}.")
        if length >= most:
            raise IntegrityError(
                f"{model} and its data are larger than the {LARGEST_MODEL:,} bytes ONNX allows."
            )
        file.seek(offset)
        return file.read(length)
