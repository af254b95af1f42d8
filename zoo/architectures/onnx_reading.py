"""ONNX files from any source, read in the form that zoo computes with, whatever tool wrote them.

Exporters keep weights in a second file, define functions of their own, state operator sets that they do not use or
that are older than zoo's, and describe inputs and outputs that zoo's files do not have. All of that is rewritten here,
before :func:`zoo.onnx.check.check_onnx` sees the file, so that what is computed stays the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.architectures.onnx_integers import to_standard
from zoo.architectures.onnx_interface import adapt_interface, needs_adapting
from zoo.errors import InputError, IntegrityError, MissingDependencyError
from zoo.extras import require
from zoo.onnx import fields
from zoo.onnx.check import LARGEST_MODEL
from zoo.onnx.graph import read_model
from zoo.onnx.nested_graphs import every_node
from zoo.onnx.operator_sets import OLDEST_OPSET
from zoo.onnx.protobuf import Reader
from zoo.storage.atomic import open_regular, read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

_STANDARD = ("", "ai.onnx")


@dataclass(frozen=True)
class OnnxFile:
    """A model that was read.

    Attributes:
        data: Its bytes, in zoo's form, unchecked otherwise.
        sha256: Of the file and of what it keeps outside, as they are on the disk.
    """

    data: bytes
    sha256: str


def read_onnx_file(path: Path) -> OnnxFile:
    """Read a model, and rewrite what zoo's own files never hold.

    Data outside must be in regular files in the model's own folder, named without a path. Functions are written out
    where they are called, operator sets older than zoo's are converted, integer operators of ONNX Runtime become
    those of the standard, and inputs and outputs are adapted as :mod:`zoo.architectures.onnx_interface` says.

    Raises:
        InputError: The file cannot be read, or its operator set cannot be converted.
        IntegrityError: The model is damaged, or refers to files elsewhere or beyond their ends, or is too large.
        MissingDependencyError: It must be rewritten, and the package `onnx` is not installed.
    """
    data = read_bytes(path, LARGEST_MODEL, error=IntegrityError)
    digest = hashlib.sha256(data)
    if not _needs_rewriting(data):
        return OnnxFile(data, digest.hexdigest())
    try:
        onnx = require("onnx", "Reading an ONNX file of this form")
    except MissingDependencyError:
        _refuse_what_zoo_cannot_read(data)
        raise
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's type for it depends on its version
        raise IntegrityError(f"{path} is damaged: {error}") from error
    digest.update(_load_outside(onnx, model, path, len(data)))
    if model.functions:
        model = _without_functions(model, path)
    to_standard(onnx, model)
    _drop_unused_domains(model)
    model = _at_least_oldest(model, path)
    adapt_interface(onnx, model)
    whole: bytes = model.SerializeToString()
    return OnnxFile(whole, digest.hexdigest())


def _needs_rewriting(data: bytes) -> bool:
    if b"location" in data:  # the key of every reference to data outside
        return True
    try:
        graph = read_model(data)
    except IntegrityError:  # functions and operator sets of other domains, or damage, which is said later
        return True
    return graph.opset < OLDEST_OPSET or needs_adapting(graph)


def _refuse_what_zoo_cannot_read(data: bytes) -> None:
    """Say what is wrong with a file that no rewriting would help."""
    reader = Reader(data)
    keys = {part.key for part in reader.fields(0, len(data))}
    if fields.MODEL_GRAPH not in keys:
        read_model(data)


# --------------------------------------------------------------------------------------- functions, operator sets


def _without_functions(model: Any, path: Path) -> Any:
    from importlib import import_module

    try:
        return import_module("onnx.inliner").inline_local_functions(model)
    except Exception as error:  # a C++ library's, with its own types
        raise InputError(
            f"{path} defines functions that cannot be written out: {error}",
            hint="Export it again without functions.",
        ) from error


def _drop_unused_domains(model: Any) -> None:
    used = {node.domain for node in every_node(model.graph)}
    unused = [each for each in model.opset_import if each.domain not in (*_STANDARD, *used)]
    for each in unused:
        model.opset_import.remove(each)


def _at_least_oldest(model: Any, path: Path) -> Any:
    stated = next((each.version for each in model.opset_import if each.domain in _STANDARD), 0)
    if not 0 < stated < OLDEST_OPSET:
        return model
    from importlib import import_module

    # Files of that age list constants among the inputs, and some operators of theirs have no successor.
    try:
        return import_module("onnx.version_converter").convert_version(model, OLDEST_OPSET)
    except Exception as error:  # a C++ library's, with its own types
        raise InputError(
            f"{path} uses operator set {stated}, which cannot be converted to {OLDEST_OPSET}: {error}",
            hint=f"Export it again with operator set {OLDEST_OPSET} or newer.",
        ) from error


# ------------------------------------------------------------------------------------------------- data outside


def _load_outside(onnx: Any, model: Any, path: Path, total: int) -> bytes:
    """Move data that the model keeps outside into it, and return the sha256 of all of it; b"" if there is none."""
    digest = hashlib.sha256()
    outside = [
        tensor for tensor in _tensors(model.graph) if tensor.data_location == onnx.TensorProto.EXTERNAL
    ]
    for tensor in outside:
        content = _content(tensor, path, LARGEST_MODEL - total)
        total += len(content)
        digest.update(content)
        tensor.raw_data = content
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT
    return digest.digest() if outside else b""


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
