"""Finding out by trial what a network outputs, and which sizes of input it accepts."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from zoo.architectures.specs import output_spec
from zoo.contracts import InputSpec, OutputSpec
from zoo.contracts.random_inputs import random_inputs
from zoo.errors import InputError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

#: A dense network is tried on sides of about this length.
_TRIED_SIDE = 64
_MOST_MULTIPLE = 64
#: Axes of an output that has pixels.
_IMAGE_AXES = 4
_PRIMES = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73)
#: Images in the batch that a network is run on.
_BATCH = 2
_ANY_NUMBER = (
    "It runs on one image, but files take any number: in forward(), write x.shape[0] or -1 in place of 1."
)
#: What torch says of a product of two floating-point types.
_MIXED_TYPES = re.compile(
    r"(?=.*([Hh]alf|BFloat16|[Dd]ouble)).*(should be the same|to have the same dtype|same dtype)"
)
_FLOAT32 = "Networks are computed in float32: leave half() and double() out, or use x.to(layer.weight.dtype)."

#: Runs something, and turns what it raises into an InputError that says what failed.
Blame = Callable[[str], contextlib.AbstractContextManager[None]]


@dataclasses.dataclass(frozen=True)
class Remedies:
    """What to do, in the words of whoever named the network.

    Attributes:
        output: Where its output is not known; "{}" stands for the statements that would suit it.
        wrong_output: Where it is another than stated.
        sizes: Where it accepts no other size than the example's.
    """

    output: str
    wrong_output: str
    sizes: str


@dataclasses.dataclass(frozen=True)
class Probe:
    """A network that is run to see what it does.

    Attributes:
        network: In eval mode.
        name: What messages call it.
        blame: See :data:`Blame`.
        remedies: For messages.
        main: Name of the main output; "" for the one by convention.
    """

    network: nn.Module
    name: str
    blame: Blame
    remedies: Remedies
    main: str = ""

    def output(self, stated: Any, where: str, spec: InputSpec) -> OutputSpec:
        """Return the output as it is stated or, if it is not, as it can be told from a run on the example.

        Raises:
            UsageError: What is stated is malformed, or nothing is and it cannot be told.
            InputError: The network does not run.
        """
        if stated:
            return output_spec(stated, where)
        shape = self.shape(spec, *spec.example)
        if len(shape) == 2:
            return OutputSpec("logits", shape[1])
        if len(shape) in (3, 5):
            return OutputSpec("tensor", shape[1])
        if len(shape) == 4 and spec.kind == "packed-raw" and shape[1] == 3:
            return OutputSpec("rgb", 3, shape[2] // spec.example[0])
        raise UsageError(
            f"{self.name} returns {_times(shape)}, and its kind is not stated.",
            hint=self.remedies.output.format(_statements(shape, spec)),
        )

    def accepted(self, spec: InputSpec, output: OutputSpec, stated: int | None = None) -> InputSpec:
        """Return the input with the least multiple that sides must be of, as stated or as found by trying.

        Raises:
            UsageError: Only the size of the example is accepted.
            InputError: The network does something else than stated on its example.
        """
        if spec.fixed_size or not output.dense:
            return spec
        if stated or spec.multiple_of > 1:
            return dataclasses.replace(spec, multiple_of=stated or spec.multiple_of)
        tried = _MOST_MULTIPLE
        with contextlib.suppress(InputError):  # the example may have a size that does not suit the network
            shape = self.shape(spec, *spec.example)
            if len(shape) != _IMAGE_AXES or shape[1] != output.channels:
                tried = 0  # no size changes that
        for multiple in range(1, tried + 1):
            height, width = _sides_of(multiple)
            with contextlib.suppress(InputError):
                if self.shape(spec, height, width) == _expected(output, height, width):
                    return dataclasses.replace(spec, multiple_of=multiple)
        self.check(spec, output)
        raise UsageError(
            f"{self.name} accepts inputs of {_times(spec.example)}, but no other size that was tried (multiples of 1 "
            f"to {_MOST_MULTIPLE}).",
            hint=self.remedies.sizes,
        )

    def check(self, spec: InputSpec, output: OutputSpec) -> None:
        """Check that the network does on its example what is said of it.

        Raises:
            UsageError: The size of the example does not suit it.
            InputError: It outputs something else.
        """
        height, width = spec.example
        multiple = spec.multiple_of
        if output.dense and output.scale < 1:
            raise UsageError(
                f"The output of {self.name} is {output.kind} with the scale {output.scale}; images and masks have at "
                "least 1, the pixels for each of the input along a side.",
                hint=f'State it:  OutputSpec("{output.kind}", {output.channels}, 1)',
            )
        if height % multiple or width % multiple:
            raise UsageError(
                f"{self.name}: {height}x{width} is not a multiple of {multiple}, which this network needs.",
                hint=f"State a size like {max(multiple, height // multiple * multiple)}.",
            )
        shape, expected = self.shape(spec, height, width), _expected(output, height, width)
        if not _fits(shape, expected, output):
            raise InputError(
                f"{self.name} returns {_times(shape)}, not {_times(expected)} as stated ({output.kind}).",
                hint=self._remedy(shape, expected, spec),
            )

    def _remedy(self, shape: tuple[int, ...], expected: tuple[int, ...], spec: InputSpec) -> str:
        if shape[1:] == expected[1:]:
            return _ANY_NUMBER
        whole = len(shape) == _IMAGE_AXES and shape[:2] == expected[:2]
        if whole and shape[2] < spec.example[0] and shape[3] < spec.example[1]:
            high, wide = spec.example[0] // shape[2], spec.example[1] // shape[3]
            return (
                f"It gives one value for {high}x{wide} pixels: enlarge it in forward(), as in  "
                f"F.interpolate(y, x.shape[2:], mode='bilinear'),  or state its numbers: tensor:{shape[1]}"
            )
        return self.remedies.wrong_output

    def with_main(self, spec: InputSpec, output: OutputSpec) -> Probe:
        """Return the probe with the main output of several: the first that is as stated, where the usual one is not."""
        expected = _expected(output, *spec.example)
        with contextlib.suppress(InputError):  # what is wrong with the example is said when it is checked
            shapes = self.shapes(spec, *spec.example)
            if (
                not self.main
                and len(shapes) > 1
                and not _fits(self.shape(spec, *spec.example), expected, output)
            ):
                found = next((name for name, each in shapes.items() if _fits(each, expected, output)), "")
                return dataclasses.replace(self, main=found)
        return self

    def extra_outputs(self, spec: InputSpec) -> dict[str, OutputSpec]:
        """Return what the network outputs besides its main output, each a tensor, by name.

        Raises:
            InputError: One has no axis besides that of the batch or an unfit name, or the network does not run.
        """
        from zoo.modules.output_tree import primary_name

        returned = self._returned(spec, *spec.example)
        main = self.main or primary_name(returned)
        others = {name: each for name, each in self.shapes(spec, *spec.example).items() if name != main}
        if "output" in others:
            raise InputError(
                f"{self.name} has an output called 'output' besides its main output, '{main}', which files call so.",
                hint="Call it something else.",
            )
        for name, each in others.items():
            if len(each) < 2:
                raise InputError(
                    f"The output '{name}' of {self.name} has no axis besides that of the batch.",
                    hint="Return tensors of (N, C) or more, or leave it out.",
                )
        return {name: OutputSpec("tensor", each[1]) for name, each in others.items()}

    def names(self, spec: InputSpec) -> Any:
        """Return what the network returns on its example, with the name of each output in place of the tensor."""
        from zoo.modules.output_tree import names_of

        return names_of(self._returned(spec, *spec.example))

    def shape(self, spec: InputSpec, height: int, width: int) -> tuple[int, ...]:
        """Return the shape of the main output for a batch of two.

        Raises:
            InputError: The network does not run, or returns no tensor.
        """
        from zoo.modules.output_tree import primary_name, tensors_of

        returned = self._returned(spec, height, width)
        with self.blame("returns what cannot be used, and"):
            return tuple(tensors_of(returned)[self.main or primary_name(returned)].shape)

    def shapes(self, spec: InputSpec, height: int, width: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of all outputs for a batch of two, by name.

        Raises:
            InputError: The network does not run.
        """
        from zoo.modules.output_tree import tensors_of

        return {
            name: tuple(each.shape) for name, each in tensors_of(self._returned(spec, height, width)).items()
        }

    def _returned(self, spec: InputSpec, height: int, width: int) -> Any:
        import torch

        inputs = (
            torch.from_numpy(random_inputs(spec, _BATCH, (height, width)))
            if spec.parts
            else torch.zeros(_BATCH, spec.channels, height, width)
        )
        # Of a network that fails, a graph of torch.fx prints its code on standard error, which says nothing to a user.
        silenced = contextlib.redirect_stderr(io.StringIO())
        try:
            with silenced, torch.no_grad(), self.blame(f"on {_shown(spec, tuple(inputs.shape))}"):
                returned = self.network(inputs)
        except InputError as error:
            if error.hint is None and _MIXED_TYPES.search(error.message):
                raise InputError(error.message, hint=_FLOAT32) from error
            if error.hint is None and self._runs(inputs[:1]):
                raise InputError(error.message, hint=_ANY_NUMBER) from error
            raise
        self._refuse_entries(returned)
        return returned

    def _runs(self, inputs: Tensor) -> bool:
        import torch

        try:
            with contextlib.redirect_stderr(io.StringIO()), torch.no_grad():
                self.network(inputs)
        except Exception:  # whatever a stranger's forward() raises
            return False
        return True

    def _refuse_entries(self, returned: Any) -> None:
        """Raise InputError if there is an entry for each image, whose sizes depend on what is found in it."""
        from zoo.modules.output_tree import tensors_of

        if (
            isinstance(returned, (list, tuple))
            and len(returned) == _BATCH
            and all(isinstance(each, Mapping) for each in returned)
            and any(each.dim() == 0 or len(each) != _BATCH for each in tensors_of(returned).values())
        ):
            raise InputError(
                f"{self.name} returns a list with an entry for each image ({', '.join(map(str, returned[0]))}), whose "
                "sizes depend on what is found in it, as detectors of torchvision do.",
                hint="Have it return tensors with the batch first: the maps of its head, before boxes are picked, or "
                'boxes padded to (N, any, 6), as OUTPUT = "boxes:CLASSES".',
            )


def _shown(spec: InputSpec, shape: tuple[int, ...]) -> str:
    """What a network is run on, in words: several inputs, or the shape of one."""
    return " and ".join(map(str, spec.parts)) or _times(shape)


def _fits(shape: tuple[int, ...], expected: tuple[int, ...], output: OutputSpec) -> bool:
    """Whether a shape is the expected one; boxes may be any number, and tensors end as they like."""
    if output.kind == "boxes":
        return len(shape) == 3 and (shape[0], shape[2]) == (expected[0], expected[2])
    if output.kind == "tensor":
        return shape[:2] == expected
    return shape == expected


def _expected(output: OutputSpec, height: int, width: int) -> tuple[int, ...]:
    scale, channels = output.scale, output.channels
    if output.kind == "boxes":
        return (_BATCH, channels, 6)
    return (_BATCH, channels, scale * height, scale * width) if output.dense else (_BATCH, channels)


def _statements(shape: tuple[int, ...], spec: InputSpec) -> str:
    """Return what may be stated of an output of a shape, as a user would write it."""
    channels = shape[1]
    kinds: tuple[str, ...] = ("tensor",)
    scale = max(1, shape[2] // spec.example[0])
    if shape[2:] == (scale * spec.example[0], scale * spec.example[1]):
        kinds = {1: ("mask", "gray"), 3: ("rgb", "classes", "mask")}.get(
            channels, ("classes", "mask")
        ) + kinds
    enlarged = f"x{scale}" if scale > 1 else ""
    return " or ".join(f"{kind}:{channels}{'' if kind == 'tensor' else enlarged}" for kind in kinds)


def _sides_of(multiple: int) -> tuple[int, int]:
    """Two sides that are multiples of `multiple`, and of nothing else that a network might need."""
    least = max(_PRIMES[0], -(-_TRIED_SIDE // multiple))
    first = next(index for index, prime in enumerate(_PRIMES) if prime >= least)
    return multiple * _PRIMES[first], multiple * _PRIMES[first + 1]


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
