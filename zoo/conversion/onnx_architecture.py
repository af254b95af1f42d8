"""A network in an ONNX file, ``path/to/model.onnx``, wherever an architecture is named."""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from zoo.architectures.network_options import NetworkConfig, complete_input
from zoo.architectures.onnx_input import file_input, with_stated_sizes
from zoo.architectures.onnx_reading import read_onnx_file
from zoo.architectures.probing import Probe, Remedies
from zoo.contracts import Architecture, InputSpec, task_for
from zoo.contracts.random_inputs import random_inputs
from zoo.errors import InputError, UsageError
from zoo.extras import require
from zoo.onnx.check import check_onnx
from zoo.options import format_options, parse_options
from zoo.recipes.grammar import Stage, parse_stage

if TYPE_CHECKING:
    from torch import nn

_FORM = re.compile(r"(?P<path>.+\.onnx)\s*(?P<options>\(.*\))?", re.DOTALL | re.IGNORECASE)
_UNFIT = re.compile(r"[^A-Za-z0-9._-]")
_LONGEST_NAME = 40


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
        file = read_onnx_file(self._path)
        data, self._sha256 = file.data, file.sha256
        if self._config.sha256 and self._config.sha256 != self._sha256:
            raise InputError(
                f"{self._path} is not the file that the recipe was made with: its sha256 is {self._sha256}, "
                f"not {self._config.sha256}.",
                hint="Restore the file, or omit the option sha256.",
            )
        check_onnx(data)
        self.id = f"onnx:{_UNFIT.sub('-', self._path.stem)[-_LONGEST_NAME:]}@{self._sha256[:12]}"
        self.summary = f"the network of {self._path.name}"
        spec = complete_input(file_input(data, self._config.input, self._path), self._config, str(self._path))
        self._network = _converted(with_stated_sizes(data, spec), spec, str(self._path))
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
            output="State it:  --output {}",
            wrong_output="Correct --output.",
            sizes=f"State the sizes: '{path}(multiple_of=N)', or '{path}(fixed_size=true)' for only the example's.",
        )
        probe = Probe(self._network, f"The network of {path}", blame, remedies)
        self.output = probe.output(self._config.output, f"The output of {path}", spec)
        probe = probe.with_main(spec, self.output)
        self.main_output = probe.main
        self.task = task_for(spec, self.output)
        self.input = probe.accepted(spec, self.output, self._config.multiple_of)
        probe.check(self.input, self.output)
        self.extra_outputs = probe.extra_outputs(self.input)
        self.returns = probe.names(self.input)


def _converted(data: bytes, spec: InputSpec, source: str) -> nn.Module:
    from zoo.conversion.converter import convert_onnx

    example, fixed = random_inputs(spec), spec.fixed_size
    return convert_onnx(data, example, fixed=fixed, source=source, parts=spec.parts).network
