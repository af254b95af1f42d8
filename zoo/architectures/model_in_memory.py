"""A network that a Python program holds: any `nn.Module`, which is copied and never changed."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from zoo.architectures.network_options import NetworkConfig, complete_input
from zoo.architectures.probing import Probe, Remedies
from zoo.architectures.specs import input_spec
from zoo.contracts import Architecture, InputSpec, Task, task_for
from zoo.errors import InputError, UsageError
from zoo.modules.state_digest import state_digest

if TYPE_CHECKING:
    from torch import Tensor, nn

_UNFIT = re.compile(r"[^A-Za-z0-9._-]")
_LONGEST_NAME = 40
_IMAGES = {1: "gray", 3: "rgb"}
_REMEDIES = Remedies(
    output='State it, as in output="mask:1": {}',
    wrong_output="Correct output=...",
    sizes="State that only inputs of the example's size are accepted:  fixed_size=True",
)


class ModelInMemory(Architecture):
    """An `nn.Module` that was passed to :func:`zoo.apply`.

    Args:
        model: The network. It is copied; its class need not be importable.
        example: An input, (N, C, H, W).
        input: Its input, as in "rgb:3x32x32" for images in [0, 1]; "" for whatever the example looks like.
        output: Its output, as in "mask:1"; "" for what a run on the example shows.
        task: The task, by id or as an object; None for the one that the output suggests.
        fixed_size: Whether only inputs of the example's size are accepted.
        mean: Normalisation per channel, done inside the exported file; empty if the example is normalised.
        std: The same.

    Raises:
        UsageError: Something is not stated.
        InputError: The network cannot be copied, does not run, or has several inputs.
    """

    summary = "a network that was passed from Python"
    trained = True

    def __init__(
        self,
        model: nn.Module,
        example: Tensor,
        *,
        input: str = "",  # noqa: A002
        output: str = "",
        task: Task | str | None = None,
        fixed_size: bool = False,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
    ) -> None:
        super().__init__()
        import torch

        self._name = type(model).__name__
        if any(isinstance(part, torch.jit.ScriptModule) for part in model.modules()):
            raise InputError(
                f"{self._name} is a scripted or traced module, whose layers cannot change.",
                hint="Pass the nn.Module that it was made from.",
            )
        self._model = _copied(model, self._name)
        structure = hashlib.sha256(f"{state_digest(self._model.state_dict())}\n{self._model}".encode())
        self._digest = structure.hexdigest()
        self.id = f"memory:{_UNFIT.sub('-', self._name)[-_LONGEST_NAME:]}@{self._digest[:12]}"
        self.named = self.id
        config = NetworkConfig(fixed_size=fixed_size, mean=tuple(mean), std=tuple(std))
        spec = complete_input(_spec_of(example, input), config, self._name)

        @contextlib.contextmanager
        def blame(what: str) -> Iterator[None]:
            try:
                yield
            except Exception as error:  # whatever the user's forward() raises
                raise InputError(f"{self._name} failed {what}: {type(error).__name__}: {error}") from error

        probe = Probe(self._model, self._name, blame, _REMEDIES)
        self.output = probe.output(output, "output", spec)
        probe = probe.with_main(spec, self.output)
        self.main_output = probe.main
        self.task = task if task is not None else task_for(spec, self.output)  # type: ignore[assignment]
        self.input = probe.accepted(spec, self.output)
        probe.check(self.input, self.output)
        self.extra_outputs = probe.extra_outputs(self.input)
        self.returns = probe.names(self.input)

    def identity(self) -> str:
        """Return the digest of the weights and of the structure as torch prints it."""
        return self._digest

    def build(self) -> nn.Module:
        return copy.deepcopy(self._model)


def _copied(model: nn.Module, name: str) -> nn.Module:
    try:
        return copy.deepcopy(model).cpu().float().eval()
    except Exception as error:  # locks, open files, generators: whatever cannot be copied
        raise InputError(
            f"{name} cannot be copied: {type(error).__name__}: {error}",
            hint="Remove what cannot be copied (open files, locks, tensors with a history) from the module.",
        ) from error


def _spec_of(example: Any, stated: str) -> InputSpec:
    shape = tuple(example.shape)
    if len(shape) != 4:
        raise UsageError(
            f"The example has {len(shape)} axes ({'x'.join(map(str, shape))}); networks with an input of 4, "
            "(N, C, H, W), can be compressed.",
            hint="Wrap the network in a module that reshapes: a vector of 64 features is (N, 64, 1, 1).",
        )
    if stated:
        spec = input_spec(stated, "input")
        if (spec.channels, *spec.example) != shape[1:]:
            raise UsageError(
                f"input is '{stated}', but the example is {'x'.join(map(str, shape[1:]))}.",
                hint="Pass an example of the size that is stated.",
            )
        return spec
    low, high = float(example.min()), float(example.max())
    images = shape[1] in _IMAGES and low >= 0 and high <= 1
    kind: Any = _IMAGES[shape[1]] if images else "tensor"
    return InputSpec(kind, shape[1], example=(shape[2], shape[3]))
