"""Holding a rewritten network against the network it came from.

A rewrite that claims to be exact is run on the example input and must agree to float accuracy. Where it does not, the
first module whose output differs is named.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, fx, nn

from zoo.errors import DisagreementError

#: Signal to error, in dB, that two float computations of one function reach at least.
EXACT_DB = 60.0
#: What the input is changed by, relative to its largest magnitude, to see how steady a network is.
_NUDGE = 1e-6
_MARGIN_DB = 10.0

Compute = Callable[[Tensor], Any]

#: Where disagreements go that the user accepts; None while they are errors.
_accepted: ContextVar[list[str] | None] = ContextVar("accepted", default=None)


@contextlib.contextmanager
def accept_disagreement() -> Iterator[list[str]]:
    """Collect disagreements instead of raising them; yields the list of what was found, as sentences."""
    found: list[str] = []
    token = _accepted.set(found)
    try:
        yield found
    finally:
        _accepted.reset(token)


def report_disagreement(message: str, hint: str) -> None:
    """Raise DisagreementError, or note the message where disagreement is accepted."""
    accepted = _accepted.get()
    if accepted is None:
        raise DisagreementError(message, hint=hint)
    accepted.append(message)


def signal_to_error(expected: Tensor, actual: Tensor) -> float:
    """Return the ratio of signal to error in dB: infinity for equal tensors, minus infinity for unequal shapes.

    Args:
        expected: The signal, any shape. Values that are not finite must be the same in both.
        actual: The signal with errors, of the same shape.
    """
    if expected.shape != actual.shape:
        return -math.inf
    one, other = expected.detach().double().cpu(), actual.detach().double().cpu()
    finite = one.isfinite() & other.isfinite()
    if not torch.equal(one[~finite].nan_to_num(0, 1, -1), other[~finite].nan_to_num(0, 1, -1)):
        return -math.inf
    error = (one - other)[finite].square().sum().item()
    signal = one[finite].square().sum().item()
    if error == 0:
        return math.inf
    return 10 * math.log10(signal / error) if signal > 0 else -math.inf


@contextlib.contextmanager
def _evaluating(compute: Compute) -> Iterator[None]:
    modules = list(compute.modules()) if isinstance(compute, nn.Module) else []
    training = {module: module.training for module in modules}
    for module in modules:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in training.items():
            module.training = mode


class Reference:
    """What a network computes on an example before it is rewritten.

    Args:
        network: The network; it is run in eval mode, and not changed.
        example: Input (N, C, H, W).
    """

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        parameter = next(network.parameters(), None)
        self.example = example if parameter is None else example.to(parameter.device)
        self.name = type(network).__name__
        self.outputs: dict[str, Tensor] = {}
        with _evaluating(network):
            handles = [
                module.register_forward_hook(self._recorder(path))
                for path, module in network.named_modules()
                if path and not isinstance(module, torch.jit.ScriptModule)
            ]
            try:
                self.output = network(self.example.clone())
            finally:
                for handle in handles:
                    handle.remove()
            self.steadiness = self._steadiness(network)

    def _recorder(self, path: str) -> Callable[..., None]:
        def record(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                self.outputs.setdefault(path, output.detach().clone())

        return record

    def _steadiness(self, network: nn.Module) -> float:
        """Signal to error, in dB, of the network with itself when its input changes by rounding alone."""
        if not isinstance(self.output, Tensor):
            return math.inf
        largest = self.example.abs().max().item() or 1.0
        generator = torch.Generator().manual_seed(0)
        nudge = torch.randn(self.example.shape, generator=generator).to(self.example) * largest * _NUDGE
        again = network(self.example + nudge)
        return signal_to_error(self.output, again) if isinstance(again, Tensor) else math.inf

    def check(self, rewritten: nn.Module, what: str) -> None:
        """Raise DisagreementError unless a rewritten network computes the same, or it is accepted.

        Args:
            rewritten: The network after the rewrite.
            what: The rewrite, as the subject of a sentence ("Folding batch norms").
        """
        if not isinstance(self.output, Tensor):
            return
        with _evaluating(rewritten):
            now = rewritten(self.example.clone())
        found = signal_to_error(self.output, now) if isinstance(now, Tensor) else -math.inf
        # A network that amplifies rounding to more than that says nothing about the rewrite.
        if found >= min(EXACT_DB, self.steadiness - _MARGIN_DB):
            return
        where = self._first_difference(rewritten)
        report_disagreement(
            f"{what} changed what {self.name} computes: signal to error {found:.1f} dB on the example input"
            f"{f', first at {where!r}' if where else ''}.",
            "Write that module differently, or accept the difference:  --accept-disagreement",
        )

    def _first_difference(self, rewritten: nn.Module) -> str:
        """The path of the first module of a traced network whose output differs; "" if none shows."""
        if not isinstance(rewritten, fx.GraphModule):
            return ""
        expected, found = self.outputs, [""]

        class Comparing(fx.Interpreter):
            def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
                output = super().call_module(target, args, kwargs)
                wanted = expected.pop(str(target), None)
                if not found[0] and wanted is not None and isinstance(output, Tensor):
                    same = wanted.shape == output.shape
                    found[0] = str(target) if same and signal_to_error(wanted, output) < EXACT_DB else ""
                return output

        with contextlib.suppress(Exception), _evaluating(rewritten):
            Comparing(rewritten).run(self.example.clone())
        return found[0]
