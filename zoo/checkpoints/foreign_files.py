"""ONNX files from any source as artifacts, so that they can be measured like zoo's own."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo import plugins
from zoo.architectures.network_options import NetworkConfig, complete_input
from zoo.architectures.onnx_input import file_input
from zoo.architectures.specs import output_spec
from zoo.artifacts.artifact import open_artifact, write_artifact
from zoo.artifacts.manifest import MANIFEST_NAME, Manifest
from zoo.contracts import OutputSpec
from zoo.errors import UsageError
from zoo.onnx.check import LARGEST_MODEL, check_onnx
from zoo.onnx.graph import read_model
from zoo.options import parse_options
from zoo.recipes.grammar import parse_stage
from zoo.storage.atomic import read_bytes
from zoo.storage.cache_dir import cache_dir

if TYPE_CHECKING:
    from zoo.artifacts.artifact import Artifact
    from zoo.contracts import InputSpec

_FORM = re.compile(r"(?P<path>.+\.onnx)\s*(?P<options>\(.*\))?", re.DOTALL | re.IGNORECASE)
_UNFIT = re.compile(r"[^A-Za-z0-9._-]")
_INTEGERS = frozenset({"DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"})


def artifact_of_file(name: str) -> Artifact | None:
    """Return an artifact in the cache that holds an ONNX file; None if `name` is not that of one.

    It has no golden outputs and no weights apart from the file's.

    Args:
        name: The path, with options such as ``(input=rgb:3x224x224,output=mask:1)`` where the file does not say them.

    Raises:
        IntegrityError: No engine may be given the file.
        UsageError: The size of its input is open and not stated.
    """
    form = _FORM.fullmatch(name)
    if form is None or not Path(form["path"]).expanduser().is_file():
        return None
    path = Path(form["path"]).expanduser()
    stage = parse_stage(f"onnx{form['options'] or ''}", "file")
    config = parse_options("onnx", NetworkConfig, stage.option_map)
    if config.mean or config.std:
        raise UsageError(
            f"{path} is measured as it is: mean and std are for compressing it.",
            hint="Export it with the normalisation inside, or use:  zoo apply RECIPE 'model.onnx(mean=...,std=...)'",
        )
    data = read_bytes(path, LARGEST_MODEL)
    check_onnx(data)
    takes = complete_input(file_input(data, config.input, path), config, str(path))
    gives = _output(data, takes, config.output, path)
    digest = hashlib.sha256(data).hexdigest()
    subject = hashlib.sha256(f"{digest} {takes} {gives}".encode()).hexdigest()
    folder = cache_dir() / "onnx-files" / subject
    if not (folder / MANIFEST_NAME).is_file():
        integers = any(node.operator in _INTEGERS for node in read_model(data).nodes)
        manifest = Manifest(
            architecture=f"onnx:{_UNFIT.sub('-', path.stem)[-40:]}@{digest[:12]}",
            recipe="",
            fingerprint=f"sha256:{digest}",
            input=takes,
            output=gives,
            precision="int8" if integers else "float32",
        )
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_artifact(folder, manifest, {"model.onnx": data}, replace=folder.exists())
    return open_artifact(folder)


def _output(data: bytes, takes: InputSpec, stated: str, path: Path) -> OutputSpec:
    """The output as stated, or as a run on the example shows: logits, or else a tensor."""
    if stated:
        return output_spec(stated, f"The output of {path}")
    session = plugins.engine("onnxruntime").open(data)
    shape = session.run(np.zeros((1, takes.channels, *takes.example), np.float32)).shape
    if len(shape) < 2:
        raise UsageError(f"The output of {path} has the shape {shape}; one with a batch dimension is needed.")
    return OutputSpec("logits" if len(shape) == 2 else "tensor", shape[1])
