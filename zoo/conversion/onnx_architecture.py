"""A network in an ONNX file, ``path/to/model.onnx``, wherever an architecture is named."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from zoo.architectures.network_options import NetworkConfig, complete_input
from zoo.architectures.probing import Probe, Remedies
from zoo.architectures.specs import input_spec
from zoo.contracts import Architecture, InputSpec, task_for
from zoo.conversion.external_data import read_whole_model
from zoo.errors import InputError, UsageError
from zoo.extras import require
from zoo.onnx.check import check_onnx
from zoo.onnx.graph import read_model
from zoo.options import format_options, parse_options
from zoo.recipes.grammar import Stage, parse_stage

if TYPE_CHECKING:
    from torch import nn

_FORM = re.compile(r"(?P<path>.+\.onnx)\s*(?P<options>\(.*\))?", re.DOTALL | re.IGNORECASE)
_UNFIT = re.compile(r"[^A-Za-z0-9._-]")
_LONGEST_NAME = 40
_KINDS = {1: "gray", 3: "rgb"}
#: What stands for a side that the file leaves open, until the user states an example.
_OPEN = "H"


class OnnxArchitecture(Architecture):
    """The network of an ONNX file from any source, converted to torch and held against the file in ONNX Runtime.

    The weights are those of the file. Height and width are those that the file states; where it leaves them open, an
    example is stated by the option `input`.

    Raises:
        IntegrityError: The file is damaged, or no engine may be given it.
        InputError: It holds an operator that cannot be converted, which is named, or computes in integers already.
        DisagreementError: The converted network computes something else.
        UsageError: Something is not stated.
    """

    family: ClassVar[bool] = True
    summary = "the network of an ONNX file: path/to/model.onnx"
    trained = True

    def __init__(self, member: str | None = None) -> None:
        super().__init__(member)
        form = _FORM.fullmatch(member or "")
        if form is None:
            raise UsageError(f"'{member or ''}' does not name an ONNX file.", hint="Write path/to/model.onnx")
        require("torch", "Compressing an ONNX file")
        self._path = Path(form["path"]).expanduser()
        stage = parse_stage(f"onnx{form['options'] or ''}", "architecture")
        self._config = parse_options("onnx", NetworkConfig, stage.option_map)
        data = read_whole_model(self._path)
        self._sha256 = hashlib.sha256(data).hexdigest()
        if self._config.sha256 and self._config.sha256 != self._sha256:
            raise InputError(
                f"{self._path} is not the file that the recipe was made with: its sha256 is {self._sha256}, "
                f"not {self._config.sha256}.",
                hint="Restore the file, or omit the option sha256.",
            )
        check_onnx(data)
        self.id = f"onnx:{_UNFIT.sub('-', self._path.stem)[-_LONGEST_NAME:]}@{self._sha256[:12]}"
        self.summary = f"the network of {self._path.name}"
        spec = complete_input(_file_input(data, self._config, self._path), self._config, str(self._path))
        self._network = _converted(data, spec, str(self._path))
        self._specify(spec)
        options = {**self._said(), "sha256": self._sha256}
        self.named = form["path"] + str(Stage.of("onnx", options)).removeprefix("onnx")

    def identity(self) -> str:
        """Return the file's sha256, and what the options state."""
        options = {key: value for key, value in self._said().items() if key != "sha256"}
        return f"{self._sha256}{str(Stage.of('onnx', options)).removeprefix('onnx')}"

    def build(self) -> nn.Module:
        return copy.deepcopy(self._network)

    def _said(self) -> dict[str, str | tuple[str, ...]]:
        default = format_options(NetworkConfig())
        return {key: value for key, value in format_options(self._config).items() if value != default[key]}

    def _specify(self, spec: InputSpec) -> None:
        path = self._path

        @contextlib.contextmanager
        def blame(what: str) -> Iterator[None]:
            try:
                yield
            except Exception as error:  # whatever torch says of a size that does not fit
                raise InputError(f"The network of {path} failed {what}: {error}") from error

        remedies = Remedies(
            output="State it:  --output mask:1, classes:21, rgb:3 or tensor:8",
            wrong_output="Correct --output.",
            sizes=f"State the sizes: '{path}(multiple_of=N)', or '{path}(fixed_size=true)' for only the example's.",
        )
        probe = Probe(self._network, f"The network of {path}", blame, remedies)
        self.output = probe.output(self._config.output, f"The output of {path}", spec)
        self.task = task_for(spec, self.output)
        self.input = probe.accepted(spec, self.output, self._config.multiple_of)
        probe.check(self.input, self.output)


def _file_input(data: bytes, config: NetworkConfig, path: Path) -> InputSpec:
    """The input as the file states it, with the example that the user states where the file leaves sides open."""
    graph = read_model(data)
    constants = {tensor.name for tensor in graph.initializers}
    dims = next(value.dims for value in graph.inputs if value.name not in constants)
    if dims is None or len(dims) != 4:
        shown = "any shape" if dims is None else f"{len(dims)} axes"
        raise InputError(
            f"The input of {path} has {shown}; networks of images have 4: (N, channels, height, width)."
        )
    _, channels, height, width = (side if side and side > 0 else None for side in dims)
    stated = input_spec(config.input, f"The input of {path}") if config.input else None
    if stated is None:
        if channels not in _KINDS or height is None or width is None:
            shape = "x".join(str(side or _OPEN) for side in (channels, height, width))
            raise UsageError(
                f"The input of {path} is {shape}, which leaves open what it is.",
                hint="State an example of it:  --input rgb:3x224x224 (gray:1x..., packed-raw:4x...)",
            )
        stated = input_spec(f"{_KINDS[channels]}:{channels}x{height}x{width}", f"The input of {path}")
    given = (stated.channels, *stated.example)
    if any(side not in (None, said) for side, said in zip((channels, height, width), given, strict=True)):
        shape = "x".join(str(side or _OPEN) for side in (channels, height, width))
        raise UsageError(
            f"The input of {path} is {shape}, not {'x'.join(map(str, given))}.", hint="Correct --input."
        )
    fixed = height is not None or width is not None
    return dataclasses.replace(stated, fixed_size=True) if fixed else stated


def _converted(data: bytes, spec: InputSpec, source: str) -> nn.Module:
    from zoo.conversion.converter import convert_onnx

    example = np.random.default_rng(0).random((1, spec.channels, *spec.example), dtype=np.float32)
    return convert_onnx(data, example, fixed=spec.fixed_size, source=source).network
