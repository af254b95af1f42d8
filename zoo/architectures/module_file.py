"""A network of the user's own: ``path/to/module.py:factory``, wherever an architecture is named.

The file is executed, as Python executes it; it is the user who names it. What is made of it needs it no more: an
artifact names the file and the start of its sha256, and holds everything else that a runner wants.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, cast

from zoo.architectures.specs import input_spec, output_spec
from zoo.contracts import Architecture, InputSpec, OutputSpec, task_for
from zoo.errors import InputError, UsageError, ZooError
from zoo.extras import require
from zoo.options import format_options, option, parse_options
from zoo.recipes.grammar import Stage, parse_stage
from zoo.storage.atomic import read_bytes

if TYPE_CHECKING:
    from torch import nn

_FORM = re.compile(r"(?P<path>.+\.py):(?P<factory>[A-Za-z_]\w*)\s*(?P<options>\(.*\))?", re.DOTALL)
_LARGEST = 1 << 24
_UNFIT = re.compile(r"[^A-Za-z0-9._-]")
#: A dense network is tried on sides of about this length.
_TRIED_SIDE = 64
_MOST_MULTIPLE = 64
_PRIMES = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73)


@dataclass(frozen=True)
class ModuleConfig:
    """What a network of the user's own takes and gives, where the file does not say so itself."""

    input: str = option("", help="its input, KIND:CxHxW, as in rgb:3x256x256 or gray:1x512x512")
    output: str = option("", help="its output, as in mask:1, logits:10, or rgb:3x2 for twice the size")
    multiple_of: int | None = option(
        None,
        minimum=1,
        maximum=1024,
        unit="pixel",
        help="height and width must be multiples of it; determined by trial if none",
    )
    fixed_size: bool = option(False, help="whether only inputs of the stated size are accepted")
    mean: tuple[float, ...] = option((), help="normalisation per channel, done inside the exported graph")
    std: tuple[float, ...] = option((), help="normalisation per channel, done inside the exported graph")
    trained: bool = option(False, help="whether the factory returns trained weights")
    sha256: str = option("", help="sha256 that the file must have; stated by recipe files")


def with_specs(name: str, takes: str, gives: str) -> str:
    """Return `name` with the values of ``--input`` and ``--output`` added to its options.

    Args:
        name: A network, such as ``path/to/module.py:factory``.
        takes: The value of ``--input``, "" for none.
        gives: The value of ``--output``, "" for none.

    Raises:
        UsageError: The network defines its own input and output, or one is stated twice.
    """
    said = {key: text for key, text in (("input", takes), ("output", gives)) if text}
    if not said:
        return name
    form = _FORM.fullmatch(name)
    if form is None:
        raise UsageError(
            f"'{name}' defines its own input and output.",
            hint="--input and --output are for networks of your own, as in ./mynet.py:make_net",
        )
    stage = parse_stage(f"module{form['options'] or ''}", "architecture")
    twice = sorted(said.keys() & stage.option_map.keys())
    if twice:
        raise UsageError(
            f"The {twice[0]} of {form['path']} is stated twice, as an option and by --{twice[0]}."
        )
    options = str(Stage.of("module", {**stage.option_map, **said})).removeprefix("module")
    return f"{form['path']}:{form['factory']}{options}"


class ModuleArchitecture(Architecture):
    """The network that a Python file defines, ``path/to/module.py:factory``.

    The factory, called without arguments, returns an `nn.Module` or an :class:`zoo.contracts.Architecture`.
    The input and output of the net are stated by the options, or by the file in its variables INPUT, OUTPUT
    (the same texts, or InputSpec and OutputSpec), TASK, STAGES and TRAINED. The net is run once on an example to
    check them.

    Raises:
        InputError: The file cannot be executed, or the net does something else than stated.
        UsageError: Something is not stated.
    """

    family: ClassVar[bool] = True
    summary = "a network of your own: path/to/module.py:factory"

    def __init__(self, member: str | None = None) -> None:
        super().__init__(member)
        form = _FORM.fullmatch(member or "")
        if form is None:
            raise UsageError(
                f"'{member or ''}' does not name a network of your own.",
                hint="Write path/to/module.py:factory, as in ./mynet.py:make_net",
            )
        require("torch", "A network of your own")
        self._path, self._factory = Path(form["path"]).expanduser(), form["factory"]
        stage = parse_stage(f"module{form['options'] or ''}", "architecture")
        self._config = parse_options("module", ModuleConfig, stage.option_map)
        content = _content(self._path)
        self._sha256 = hashlib.sha256(content).hexdigest()
        if self._config.sha256 and self._config.sha256 != self._sha256:
            raise InputError(
                f"{self._path} is not the file that the recipe was made with: its sha256 is {self._sha256}, "
                f"not {self._config.sha256}.",
                hint="Restore the file, or omit the option sha256.",
            )
        self._module = _executed(self._path, content, self._sha256)
        self._make = getattr(self._module, self._factory, None)
        if not callable(self._make):
            raise InputError(f"{self._path} has no function or class '{self._factory}'.")
        self.id = f"module:{_fit(self._path.name)}:{_fit(self._factory)}@{self._sha256[:12]}"
        self.summary = f"{self._factory} of {self._path.name}"
        self._inner: Architecture | None = None
        self._specify()
        pinned = dataclasses.replace(self._config, sha256=self._sha256)
        said = {k: v for k, v in format_options(pinned).items() if v != format_options(ModuleConfig())[k]}
        self.named = f"{form['path']}:{self._factory}" + str(Stage.of("module", said)).removeprefix("module")

    def identity(self) -> str:
        """Return the file's sha256, the factory, and what the options state."""
        options = {key: value for key, value in format_options(self._config).items() if key != "sha256"}
        return f"{self._sha256}:{self._factory}{str(Stage.of('module', options)).removeprefix('module')}"

    def build(self) -> nn.Module:
        made = self._called()
        if isinstance(made, Architecture):
            with _blamed(self._path, "building"):
                made = made.build()
        import torch
        from torch import nn

        if not isinstance(made, nn.Module):
            raise InputError(
                f"{self._factory} of {self._path} returns {type(made).__name__}, not a torch.nn.Module."
            )
        if any(isinstance(part, torch.jit.ScriptModule) for part in made.modules()):
            raise InputError(
                f"{self._factory} of {self._path} returns a scripted or traced module, whose layers cannot change.",
                hint="Return the nn.Module that it was made from, and load its weights into that.",
            )
        return made.float()

    def stages(self) -> Sequence[Mapping[str, Any]]:
        if self._inner is not None:
            return self._inner.stages()
        return tuple(getattr(self._module, "STAGES", ()))

    # ----------------------------------------------------------------------------------------------- details

    def _called(self) -> Any:
        with _blamed(self._path, self._factory), _beside(self._path):
            made = cast(Any, self._make)()
            return made() if isinstance(made, type) and issubclass(made, Architecture) else made

    def _specify(self) -> None:
        import torch

        config, module = self._config, self._module
        stated = config.input or getattr(module, "INPUT", "")
        with torch.random.fork_rng():
            made = self._called()
            if isinstance(made, Architecture):
                self._inner = made
                self.input, self.output, self.task = made.input, made.output, made.task
                self.trained = made.trained
            elif not stated:
                raise UsageError(
                    f"The input of {self._factory} of {self._path} is not stated.",
                    hint='Say it: --input rgb:3x256x256, or in the file: INPUT = "rgb:3x256x256"',
                )
            net = self.build().eval()
        self.trained = bool(config.trained or getattr(module, "TRAINED", self.trained))
        if self._inner is None:
            self.input = self._completed(input_spec(stated, f"{self._path}: INPUT"))
            self.output = self._output(net)
            self.task = getattr(module, "TASK", "") or task_for(self.input, self.output)
            if not self.input.fixed_size and self.output.dense:
                self.input = dataclasses.replace(self.input, multiple_of=self._multiple(net))
        self._check(net)

    def _completed(self, spec: InputSpec) -> InputSpec:
        """The input as stated, with what options add to it."""
        config = self._config
        changes: dict[str, Any] = {}
        if config.mean or config.std:
            if not len(config.mean) == len(config.std) == spec.channels:
                raise UsageError(f"{self._path}: mean and std each need {spec.channels} numbers.")
            changes = {"mean": config.mean, "std": config.std}
        return dataclasses.replace(spec, fixed_size=config.fixed_size or spec.fixed_size, **changes)

    def _output(self, net: nn.Module) -> OutputSpec:
        stated = self._config.output or getattr(self._module, "OUTPUT", "")
        if stated:
            return output_spec(stated, f"{self._path}: OUTPUT")
        shape = self._run(net, *self.input.example)
        if len(shape) == 2:
            return OutputSpec("logits", shape[1])
        if len(shape) in (3, 5):
            return OutputSpec("tensor", shape[1])
        if len(shape) == 4 and self.input.kind == "packed-raw" and shape[1] == 3:
            return OutputSpec("rgb", 3, shape[2] // self.input.example[0])
        raise UsageError(
            f"The output of {self._factory} of {self._path}, {_times(shape)}, is not stated.",
            hint='Say it: --output mask:1, or in the file: OUTPUT = "mask:1"',
        )

    def _multiple(self, net: nn.Module) -> int:
        """The least multiple that sides must be of, as stated or as found by trying."""
        if self._config.multiple_of or self.input.multiple_of > 1:
            return self._config.multiple_of or self.input.multiple_of
        for multiple in range(1, _MOST_MULTIPLE + 1):
            height, width = _sides_of(multiple)
            with contextlib.suppress(InputError):
                if self._run(net, height, width) == self._expected(height, width):
                    return multiple
        self._check(net)
        raise UsageError(
            f"{self._factory} of {self._path} accepts inputs of {_times(self.input.example)}, but no other size that "
            f"was tried (multiples of 1 to {_MOST_MULTIPLE}).",
            hint="State the sizes: by the option multiple_of=N, or fixed_size=true for only the stated size, as in "
            f"'{self._path}:{self._factory}(fixed_size=true)'",
        )

    def _check(self, net: nn.Module) -> None:
        """Raise InputError unless the net does on its example what is said of it."""
        height, width = self.input.example
        multiple = self.input.multiple_of
        if height % multiple or width % multiple:
            raise UsageError(
                f"{self._path}: {height}x{width} is not a multiple of {multiple}, which this network needs.",
                hint=f"State a size like {max(multiple, height // multiple * multiple)}.",
            )
        shape, expected = self._run(net, height, width), self._expected(height, width)
        if not self._fits(shape, expected):
            raise InputError(
                f"{self._factory} of {self._path} returns {_times(shape)}, "
                f"not {_times(expected)} as stated ({self.output.kind}).",
                hint="Correct --output, or OUTPUT in the file.",
            )

    def _fits(self, shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
        """Whether a shape is the expected one; boxes may be any number, and tensors end as they like."""
        if self.output.kind == "boxes":
            return len(shape) == 3 and (shape[0], shape[2]) == (expected[0], expected[2])
        if self.output.kind == "tensor":
            return shape[:2] == expected
        return shape == expected

    def _expected(self, height: int, width: int) -> tuple[int, ...]:
        scale, channels = self.output.scale, self.output.channels
        if self.output.kind == "boxes":
            return (2, channels, 6)
        return (2, channels, scale * height, scale * width) if self.output.dense else (2, channels)

    def _run(self, net: nn.Module, height: int, width: int) -> tuple[int, ...]:
        import torch

        inputs = torch.zeros(2, self.input.channels, height, width)
        with torch.no_grad(), _blamed(self._path, f"{self._factory} on {_times(tuple(inputs.shape))}"):
            outputs = net(inputs)
        if not isinstance(outputs, torch.Tensor):
            raise InputError(
                f"{self._factory} of {self._path} returns {type(outputs).__name__}, not one tensor."
            )
        return tuple(outputs.shape)


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(f"The file {path} of a network of your own does not exist.")
    return read_bytes(path, _LARGEST)


def _executed(path: Path, content: bytes, sha256: str) -> ModuleType:
    """Return the module, executed once per process for one content; it may import files in its folder."""
    name = f"zoo_own_{sha256[:16]}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_loader(name, loader=None, origin=str(path))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses and copying look it up there
    try:
        with _blamed(path, "importing"), _beside(path):
            exec(compile(content, str(path), "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[None]:
    folder = str(path.resolve().parent)
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


@contextlib.contextmanager
def _blamed(path: Path, what: str) -> Iterator[None]:
    """Whatever the user's file raises becomes an InputError that names the line."""
    try:
        yield
    except (ZooError, KeyboardInterrupt):
        raise
    except BaseException as error:
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
        ]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        place = f"{path}, line {line}" if line else str(path)
        reason = str(error).strip().splitlines()
        raise InputError(
            f"{place}: {what} failed: {type(error).__name__}{f': {reason[0][:300]}' if reason else ''}"
        ) from error


def _sides_of(multiple: int) -> tuple[int, int]:
    """Two sides that are multiples of `multiple`, and of nothing else that a network might need."""
    least = max(_PRIMES[0], -(-_TRIED_SIDE // multiple))
    first = next(index for index, prime in enumerate(_PRIMES) if prime >= least)
    return multiple * _PRIMES[first], multiple * _PRIMES[first + 1]


def _fit(name: str) -> str:
    return _UNFIT.sub("-", name)[-35:]


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
