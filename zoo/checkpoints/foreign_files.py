"""ONNX files from any source as artifacts, so that they can be measured like zoo's own."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo import plugins
from zoo.architectures.network_options import NetworkConfig, complete_input
from zoo.architectures.onnx_input import file_input, with_stated_sizes
from zoo.architectures.onnx_reading import read_onnx_file
from zoo.architectures.specs import output_spec
from zoo.artifacts.artifact import open_artifact, write_artifact
from zoo.artifacts.golden import MAIN_OUTPUT, all_outputs
from zoo.artifacts.manifest import MANIFEST_NAME, OUTPUT_NAME, Manifest
from zoo.contracts import OutputSpec
from zoo.contracts.random_inputs import random_inputs
from zoo.errors import InputError, IntegrityError, UsageError
from zoo.onnx.check import check_onnx
from zoo.onnx.graph import read_model
from zoo.onnx.normalisation import with_normalisation
from zoo.options import parse_options
from zoo.recipes.grammar import parse_stage
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
    file = read_onnx_file(path)
    data, digest = file.data, file.sha256
    check_onnx(data)
    takes = complete_input(file_input(data, config.input, path), config, str(path))
    data = _sized(data, takes, path)
    if takes.mean:
        data = with_normalisation(data, takes.mean, takes.std)
    gives, extras = _outputs(data, takes, config.output, path)
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
            extra_outputs=extras,
            precision="int8" if integers else "float32",
        )
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_artifact(folder, manifest, {"model.onnx": data}, replace=folder.exists())
    return open_artifact(folder)


def _sized(data: bytes, takes: InputSpec, path: Path) -> bytes:
    """The file with the stated sizes, to which an engine holds the branches of an If that are not taken, too."""
    sized = with_stated_sizes(data, takes)
    if sized != data and read_model(data).nested:
        try:
            plugins.engine("onnxruntime").open(sized)
        except IntegrityError as error:
            raise InputError(
                f"{path} cannot be loaded with the stated sizes, which must suit every branch of its If operators: "
                f"{error.message[:200]}",
                hint="Keep the branch that is used: make what it is chosen by a constant in the file, and simplify it.",
            ) from error
    return sized


def _outputs(
    data: bytes, takes: InputSpec, stated: str, path: Path
) -> tuple[OutputSpec, dict[str, OutputSpec]]:
    """The first output as stated, or as a run on the example shows: logits or a tensor; and the others by name."""
    names = read_model(data).outputs
    if stated and len(names) == 1:
        return output_spec(stated, f"The output of {path}"), {}
    session = plugins.engine("onnxruntime").open(data)
    given = random_inputs(takes) if takes.parts else np.zeros((1, takes.channels, *takes.example), np.float32)
    found = {names[0]: session.run(given)} if len(names) == 1 else all_outputs(session, given)
    for name, value in found.items():
        if value.ndim < 2:
            raise UsageError(
                f"The output '{name}' of {path} has the shape {value.shape}; one with a batch dimension is needed.",
                hint="Remove it from the file.",
            )
    specs = [OutputSpec("tensor", value.shape[1]) for value in found.values()]
    unfit = [name for name in names[1:] if not OUTPUT_NAME.fullmatch(name) or name in (MAIN_OUTPUT, "input")]
    if unfit:
        raise UsageError(
            f"The output '{unfit[0]}' of {path} has a name that artifacts cannot hold.",
            hint="Rename it: lower-case letters, digits and underscores.",
        )
    if stated:
        specs[0] = output_spec(stated, f"The output of {path}")
    elif next(iter(found.values())).ndim == 2:
        specs[0] = OutputSpec("logits", specs[0].channels)
    return specs[0], dict(zip(names[1:], specs[1:], strict=True))
