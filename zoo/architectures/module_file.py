"""A network of the user's own: ``path/to/module.py:factory``, wherever an architecture is named.

The file is executed, as Python executes it; it is the user who names it. What is made of it needs it no more: an
artifact names the file and the start of its sha256, and holds everything else that a runner wants.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from zoo.architectures.given_module import plain_copy, refuse_empty
from zoo.architectures.network_options import NetworkConfig, complete_input
from zoo.architectures.probing import Probe, Remedies
from zoo.architectures.specs import input_spec
from zoo.contracts import Architecture, InputSpec, OutputSpec, task_for
from zoo.errors import InputError, UsageError
from zoo.extras import require
from zoo.options import format_options, option, parse_options
from zoo.plugins import python_file
from zoo.plugins.guard import named_if_slow
from zoo.recipes.grammar import Stage, parse_stage

if TYPE_CHECKING:
    from torch import nn

_FORM = re.compile(r"(?P<path>.+\.py):(?P<factory>[A-Za-z_]\w*)\s*(?P<options>\(.*\))?", re.DOTALL)
_UNFIT = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True)
class ModuleConfig(NetworkConfig):
    """The options of a network that a Python file defines."""

    trained: bool = option(False, help="whether the factory returns trained weights")


class ModuleArchitecture(Architecture):
    """The network that a Python file defines, ``path/to/module.py:factory``.

    The factory, called without arguments, returns an `nn.Module` or an :class:`zoo.contracts.Architecture`.
    The input and output of the net are stated by the options, or by the file in its variables INPUT, OUTPUT
    (the same texts, or InputSpec and OutputSpec), INPUTS (several inputs by name), MEAN, STD, TASK, LOSS, MAIN, STAGES
    and TRAINED. The net is run once on an example to check them.

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
        content = python_file.read(self._path, "a network of your own")
        self._sha256 = hashlib.sha256(content).hexdigest()
        if self._config.sha256 and self._config.sha256 != self._sha256:
            raise InputError(
                f"{self._path} is not the file that the recipe was made with: its sha256 is {self._sha256}, "
                f"not {self._config.sha256}.",
                hint="Restore the file, or omit the option sha256.",
            )
        self._module = python_file.execute(self._path, content, self._sha256)
        self._make = getattr(self._module, self._factory, None)
        if not callable(self._make):
            raise InputError(f"{self._path} has no function or class '{self._factory}'.")
        self.id = f"module:{_fit(self._path.name)}:{_fit(self._factory)}@{self._sha256[:12]}"
        self.summary = f"{self._factory} of {self._path.name}"
        self._inner: Architecture | None = None
        with named_if_slow(f"{self._path.name}:{self._factory}", "computing its example input"):
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
            with python_file.blamed(self._path, "building"):
                made = made.build()
        from torch import nn

        if not isinstance(made, nn.Module):
            raise InputError(
                f"{self._factory} of {self._path} returns {type(made).__name__}, not a torch.nn.Module."
            )
        return plain_copy(made, f"What {self._factory} of {self._path} returns")

    def stages(self) -> Sequence[Mapping[str, Any]]:
        if self._inner is not None:
            return self._inner.stages()
        return tuple(getattr(self._module, "STAGES", ()))

    # ----------------------------------------------------------------------------------------------- details

    def _called(self) -> Any:
        with python_file.blamed(self._path, self._factory), python_file.beside(self._path):
            made = cast(Any, self._make)()
            return made() if isinstance(made, type) and issubclass(made, Architecture) else made

    def _specify(self) -> None:
        import torch

        from zoo.modules.several_inputs import with_one_input

        config, module = self._config, self._module
        stated = config.input or getattr(module, "INPUTS", None) or getattr(module, "INPUT", "")
        with torch.random.fork_rng():
            made = self._called()
            if isinstance(made, Architecture):
                self._refuse_incomplete(made)
                self._inner = made
                self.input, self.output = made.input, made.output
                self.task = getattr(made, "task", "") or task_for(made.input, made.output)
                self.extra_outputs, self.main_output = made.extra_outputs, made.main_output
                self.trained = made.trained
            elif not stated:
                raise UsageError(
                    f"The input of {self._factory} of {self._path} is not stated.",
                    hint="Say it: --input rgb:3x256x256, or behind the name, as in  "
                    f"'{self._path}:{self._factory}(input=rgb:3x256x256)',  or in the file: INPUT = \"rgb:3x256x256\"",
                )
            parts = made.input.parts if self._inner else input_spec(stated, f"{self._path}: INPUT").parts
            net = self.build().eval()
            refuse_empty(net, f"What {self._factory} of {self._path} returns")
            net = with_one_input(net, parts)
        self.loss = getattr(module, "LOSS", made.loss if self._inner is not None else None)
        if self.loss is not None and not callable(self.loss):
            raise InputError(
                f"LOSS of {self._path} is {type(self.loss).__name__}, not a function of (outputs, targets).",
                hint="Define it as one: it is called with what the network returns and with the targets of a batch.",
            )
        self.trained = bool(config.trained or getattr(module, "TRAINED", self.trained))
        label = f"{self._factory} of {self._path}"
        probe = Probe(
            net,
            label,
            lambda what: python_file.blamed(self._path, f"{self._factory} {what}"),
            self._remedies(),
        )
        if self._inner is None:
            normalized = dataclasses.replace(
                config, mean=config.mean or self._numbers("MEAN"), std=config.std or self._numbers("STD")
            )
            self.input = complete_input(
                input_spec(stated, f"{self._path}: INPUT"), normalized, str(self._path)
            )
            said = config.output or getattr(module, "OUTPUT", "")
            probe = dataclasses.replace(probe, main=getattr(module, "MAIN", ""))
            self.output = probe.output(said, f"{self._path}: OUTPUT", self.input)
            probe = probe.with_main(self.input, self.output)
            self.main_output = probe.main
            self.task = getattr(module, "TASK", "") or task_for(self.input, self.output)
            self.input = probe.accepted(self.input, self.output, config.multiple_of)
        else:
            probe = dataclasses.replace(probe, main=self.main_output)
        probe.check(self.input, self.output)
        if self._inner is None:
            self.extra_outputs = probe.extra_outputs(self.input)
            self.returns = probe.names(self.input)

    def _refuse_incomplete(self, made: Architecture) -> None:
        """Raise InputError if an architecture lacks what only it can state; its task can be told from its output."""
        for name, kind in (("input", InputSpec), ("output", OutputSpec)):
            value = getattr(made, name, None)
            if not isinstance(value, kind):
                raise InputError(
                    f"The architecture that {self._factory} of {self._path} returns has "
                    f"{f'no {name}' if value is None else f'the {name} {value!r}, which is no {kind.__name__}'}.",
                    hint=f"Define it in the class:  {name} = {kind.__name__}(...)",
                )

    def _numbers(self, name: str) -> tuple[float, ...]:
        """Return the numbers that a variable of the file lists, none if there is no such variable."""
        with python_file.blamed(self._path, f"{name}, which lists a number per channel,"):
            return tuple(float(each) for each in getattr(self._module, name, ()))

    def _remedies(self) -> Remedies:
        return Remedies(
            output="Say it, by --output or as OUTPUT in the file: {}",
            wrong_output="Correct --output, or OUTPUT in the file.",
            sizes="State the sizes: by the option multiple_of=N, or fixed_size=true for only the stated size, as in "
            f"'{self._path}:{self._factory}(fixed_size=true)'",
        )


def _fit(name: str) -> str:
    return _UNFIT.sub("-", name)[-35:]
