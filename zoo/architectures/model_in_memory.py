"""A network that a Python program holds: any `nn.Module`, which is copied and never changed."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from zoo.architectures.given_module import plain_copy, refuse_empty
from zoo.architectures.network_options import NetworkConfig, complete_input
from zoo.architectures.probing import Probe, Remedies
from zoo.architectures.specs import input_spec
from zoo.contracts import Architecture, InputPart, InputSpec, Task, task_for
from zoo.errors import InputError, UsageError
from zoo.modules.state_digest import state_digest

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Axes of an image with the batch dimension.
_IMAGE_AXES = 4
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
        example: An input, (N, C, H, W), or of any other shape with a batch dimension; several in a tuple, or in a
            dictionary by the names of the network's parameters.
        input: Its input, as in "rgb:3x32x32" for images in [0, 1]; "" for whatever the example looks like.
        output: Its output, as in "mask:1"; "" for what a run on the example shows.
        task: The task, by id or as an object; None for the one that the output suggests.
        fixed_size: Whether only inputs of the example's size are accepted.
        mean: Normalisation per channel, done inside the exported file; empty if the example is normalised.
        std: The same.

    Raises:
        UsageError: Something is not stated.
        InputError: The network cannot be copied, or does not run.
    """

    summary = "a network that was passed from Python"
    trained = True

    def __init__(
        self,
        model: nn.Module,
        example: Tensor | Sequence[Tensor] | Mapping[str, Tensor],
        *,
        input: str = "",  # noqa: A002
        output: str = "",
        task: Task | str | None = None,
        fixed_size: bool = False,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self._name = type(model).__name__
        refuse_empty(model, self._name)
        self._model = plain_copy(model, self._name).cpu().eval()
        structure = hashlib.sha256(f"{state_digest(self._model.state_dict())}\n{self._model}".encode())
        self._digest = structure.hexdigest()
        self.id = f"memory:{_UNFIT.sub('-', self._name)[-_LONGEST_NAME:]}@{self._digest[:12]}"
        self.named = self.id
        config = NetworkConfig(fixed_size=fixed_size, mean=tuple(mean), std=tuple(std))
        spec = complete_input(_spec_of(self._model, example, input), config, self._name)

        @contextlib.contextmanager
        def blame(what: str) -> Iterator[None]:
            try:
                yield
            except Exception as error:  # whatever the user's forward() raises
                by_name = isinstance(error, TypeError) and "positional argument" in str(error)
                raise InputError(
                    f"{self._name} failed {what}: {type(error).__name__}: {error}",
                    hint='Pass inputs by the names that forward() has, in data, too:  example={"x": x}'
                    if by_name
                    else None,
                ) from error

        from zoo.modules.several_inputs import with_one_input

        network = with_one_input(copy.deepcopy(self._model), spec.parts) if spec.parts else self._model
        probe = Probe(network, self._name, blame, _REMEDIES)
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


def input_names(model: nn.Module, example: Any) -> tuple[str, ...]:
    """Return what the inputs of a network are called, of which there is an example; empty if there is one.

    Args:
        model: The network.
        example: A tensor, several in a tuple or list, or by name in a dictionary.

    Raises:
        UsageError: There are more than the network accepts.
    """
    if isinstance(example, Mapping):
        return tuple(map(str, example))
    if not isinstance(example, (tuple, list)) or len(example) == 1:
        return ()
    accepted = list(inspect.signature(model.forward).parameters.values())
    if len(example) > len(accepted) and not any(each.kind is each.VAR_POSITIONAL for each in accepted):
        raise UsageError(
            f"The example holds {len(example)} inputs; forward() of {type(model).__name__} accepts {len(accepted)} "
            f"({', '.join(each.name for each in accepted)}).",
            hint="Pass one tensor for each, in order, or a dictionary by name.",
        )
    names = [each.name for each in accepted if each.kind is not each.VAR_POSITIONAL][: len(example)]
    names += [f"input_{place}" for place in range(len(names), len(example))]
    return tuple(f"{name}_0" if name == "output" else name for name in names)


def _spec_of(model: nn.Module, example: Any, stated: Any) -> InputSpec:
    if isinstance(stated, Mapping):
        return input_spec(stated, "input")
    names = input_names(model, example)
    if not names and isinstance(example, (tuple, list)):
        (example,) = example
    if not names and example.ndim != _IMAGE_AXES:
        names, example = (next(iter(inspect.signature(model.forward).parameters), "x"),), (example,)
    if names:
        tensors = list(example.values()) if isinstance(example, Mapping) else example
        return InputSpec.of_parts([_part_of(*each) for each in zip(names, tensors, strict=True)])
    shape = tuple(example.shape)
    if stated:
        spec = input_spec(stated, "input")
        if (spec.channels, *spec.example) != shape[1:]:
            raise UsageError(
                f"input is '{stated}', but the example is {'x'.join(map(str, shape[1:]))}.",
                hint="Pass an example of the size that is stated.",
            )
        return spec
    if not example.is_floating_point():
        raise UsageError(
            f"The example is of {example.dtype}; an image is of floats.", hint="Convert it: x.float()"
        )
    low, high = float(example.min()), float(example.max())
    images = shape[1] in _IMAGES and low >= 0 and high <= 1
    kind: Any = _IMAGES[shape[1]] if images else "tensor"
    return InputSpec(kind, shape[1], example=(shape[2], shape[3]))


def _part_of(name: str, example: Tensor) -> InputPart:
    """What one of several inputs is, as far as an example shows."""
    if not example.ndim:
        raise UsageError(
            f"The example of the input '{name}' has no batch dimension.", hint="Use a batch of one."
        )
    low, high = (float(example.min()), float(example.max())) if example.numel() else (0.0, 1.0)
    if not example.is_floating_point():
        return InputPart(name, "integer", tuple(example.shape[1:]), low, high)
    images = example.ndim == _IMAGE_AXES and example.shape[1] in _IMAGES and low >= 0 and high <= 1
    if images:
        return InputPart(name, cast(Any, _IMAGES[example.shape[1]]), tuple(example.shape[1:]))
    if low == high:  # of equal numbers, examples would be one number only
        low, high = min(low, 0.0), max(high, 1.0)
    return InputPart(name, "tensor", tuple(example.shape[1:]), low, high)
