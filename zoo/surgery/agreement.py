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
from zoo.modules.output_tree import tensors_of
from zoo.surgery.hooks import evaluating

#: Signal to error, in dB, that two float computations of one function reach at least.
EXACT_DB = 60.0
#: What the input is changed by, relative to its largest magnitude, to see how steady a network is.
_NUDGE = 1e-6
_MARGIN_DB = 10.0

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
    """Report a rewrite that changed the results, or note it where disagreement is accepted.

    Raises:
        DisagreementError: Disagreement is not accepted.
    """
    accepted = _accepted.get()
    if accepted is None:
        raise DisagreementError(message, hint=hint)
    accepted.append(message)


def signal_to_error(expected: Tensor, actual: Tensor) -> float:
    """Return the ratio of signal to error in dB: infinity for equal tensors, minus infinity for unequal shapes.

    Args:
        expected: The signal, (N, ...). Values that are not finite must be the same in both.
        actual: The signal with errors, (N, ...) of the same shape.
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


class _Recorder(fx.Interpreter):
    """Runs a traced network and keeps every tensor it computes, by the name of its node."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.values[n.name] = value.detach().clone()
        return value


def _least_agreement(expected: Any, actual: Any) -> float:
    """The lowest signal to error over the outputs of a network, in dB; -inf if one is missing."""
    wanted, found = tensors_of(expected), tensors_of(actual)
    if wanted.keys() != found.keys():
        return -math.inf
    return min((signal_to_error(value, found[name]) for name, value in wanted.items()), default=math.inf)


class Reference:
    """What a network computes on an example before it is rewritten.

    Args:
        network: The network; it is run in eval mode, and not changed.
        example: Input (N, C, H, W).

    Attributes:
        output: What it returned.
        inside: Tensors inside the network: of a graph by node, else by the path of the module that returned them.
        steadiness: Signal to error, in dB, of the network with itself when its input changes by rounding alone.
    """

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        parameter = next(network.parameters(), None)
        self.example = example if parameter is None else example.to(parameter.device)
        self.name = type(network).__name__
        self.inside: dict[str, Tensor] = {}
        with evaluating(network):
            self.output = self._recorded(network)
            self.steadiness = self._steadiness(network)

    @classmethod
    def if_it_runs(cls, network: nn.Module, example: Tensor) -> Reference | None:
        """Return what a network computes on an example, (N, C, H, W).

        None if it does not run on it, as whoever runs it next reports.
        """
        try:
            return cls(network, example)
        except Exception:  # whatever a stranger's forward() raises
            return None

    def _recorded(self, network: nn.Module) -> Any:
        if isinstance(network, fx.GraphModule):
            recorder = _Recorder(network)
            output = recorder.run(self.example.clone())
            self.inside = recorder.values
            return output

        def record(path: str) -> Callable[..., None]:
            def note(module: nn.Module, inputs: Any, output: Any) -> None:
                if isinstance(output, Tensor):
                    self.inside.setdefault(path, output.detach().clone())

            return note

        named = [(path, each) for path, each in network.named_modules() if path]
        handles = [
            module.register_forward_hook(record(path))
            for path, module in named
            if not isinstance(module, torch.jit.ScriptModule)
        ]
        try:
            return network(self.example.clone())
        finally:
            for handle in handles:
                handle.remove()

    def _steadiness(self, network: nn.Module) -> float:
        """Signal to error, in dB, of the network with itself when its input changes by rounding alone."""
        largest = self.example.abs().max().item() or 1.0
        generator = torch.Generator().manual_seed(0)
        nudge = torch.randn(self.example.shape, generator=generator).to(self.example) * largest * _NUDGE
        return _least_agreement(self.output, network(self.example + nudge))

    def check(self, rewritten: nn.Module, what: str) -> None:
        """Check that a rewritten network computes the same as before.

        Args:
            rewritten: The network after the rewrite.
            what: The rewrite, as the subject of a sentence ("Folding batch norms").

        Raises:
            DisagreementError: It does not, and disagreement is not accepted.
        """
        with evaluating(rewritten):
            now = rewritten(self.example.clone())
        found = _least_agreement(self.output, now)
        # A network that amplifies rounding to more than that says nothing about the rewrite.
        if found >= min(EXACT_DB, self.steadiness - _MARGIN_DB):
            return
        where = self._first_difference(rewritten) if isinstance(rewritten, fx.GraphModule) else ""
        report_disagreement(
            f"{what} changed what {self.name} computes: signal to error {found:.1f} dB on the example input"
            f"{f', first at {where!r}' if where else ''}.",
            "Write that module differently, or accept the difference:  --accept-disagreement",
        )

    def _first_difference(self, rewritten: fx.GraphModule) -> str:
        """The first place whose value differs: a module's path, or the name of a node; "" if none shows.

        Layers with weights are passed over, since a fold legitimately changes what they return by themselves.
        """
        recorder = _Recorder(rewritten)
        with contextlib.suppress(Exception), evaluating(rewritten):
            recorder.run(self.example.clone())
        layer = ""
        for node in rewritten.graph.nodes:
            if node.op == "call_module":
                layer = str(node.target)
                if (
                    next(rewritten.get_submodule(layer).parameters(), None) is not None
                    and node.name in self.inside
                ):
                    continue
            wanted = self.inside.get(node.name, self.inside.get(str(node.target)))
            value = recorder.values.get(node.name)
            if wanted is None or value is None or wanted.shape != value.shape:
                continue
            if signal_to_error(wanted, value) < EXACT_DB:
                return layer or str(node.name)
        return layer


def check_repeatable(network: nn.Module, example: Tensor) -> None:
    """Check that a network in eval mode computes the same each time it runs.

    Args:
        network: The network; it is not changed.
        example: Input (N, C, H, W).

    Raises:
        DisagreementError: It does not, and disagreement is not accepted.
    """
    first = Reference(network, example)
    with evaluating(network):
        again = network(first.example.clone())
        same = not isinstance(first.output, Tensor) or signal_to_error(first.output, again) >= EXACT_DB
        if same:
            return
        inside = first.inside
        second = Reference(network, example).inside
    differs = [path for path, value in inside.items() if signal_to_error(value, second[path]) < EXACT_DB]
    kind = (
        f", first in '{differs[0]}' ({type(network.get_submodule(differs[0])).__name__})" if differs else ""
    )
    report_disagreement(
        f"{first.name} computes something else each time it runs, in eval mode too{kind}.",
        "A file computes the same each time. Random numbers, dropout and statistics of what was seen belong into "
        "training: F.dropout(x, p, self.training).",
    )
