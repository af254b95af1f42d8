"""How sure a network with early exits must be, and how long it may take."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.contracts import InputSpec
    from zoo.engines.checked_session import CheckedSession

#: An entropy that none is below, and one that all are below.
_CLOSED, _OPEN = -1.0, 1e30
_ROUNDS = 5


@dataclass(frozen=True)
class ExitLimits:
    """What a user asks of a network with early exits.

    Attributes:
        confidence: The probability of the best class at which an image leaves, at least 0.5; None for the thresholds
            of the file.
        deadline: Milliseconds that an image may take; None for any number.
    """

    confidence: float | None = None
    deadline: float | None = None

    def __bool__(self) -> bool:
        return self.confidence is not None or self.deadline is not None

    def check(self, model: bytes, name: str) -> None:
        """Check that a network has early exits.

        Args:
            model: The bytes of its file.
            name: What it is called in the message.

        Raises:
            UsageError: It has none.
        """
        from zoo.onnx.early_exits import exit_entropies

        if not exit_entropies(model):
            raise UsageError(
                f"{name} has no early exits: no answer is there before the end of the network.",
                hint="Leave out --confidence and --deadline. The technique early-exit of the distribution zoo-anytime "
                "makes networks with exits.",
            )

    def applied(
        self, model: bytes, spec: InputSpec, reopen: Callable[[bytes], CheckedSession]
    ) -> tuple[bytes, str]:
        """Return the model with the thresholds that keep the limits, and what that means, as a sentence.

        With a deadline each exit is timed with all images leaving there, and the last one in time becomes the end.

        Args:
            model: The bytes of the file, which has exits.
            spec: Its input.
            reopen: Opens a model on the engine; the session is closed after it was timed.
        """
        from zoo.onnx.early_exits import exit_entropies, with_exit_entropies

        entropies = exit_entropies(model)
        said = []
        if self.confidence is not None:
            entropies = [entropy_for(self.confidence)] * len(entropies)
            said.append(f"images leave from a confidence of {self.confidence:.0%}")
        if self.deadline is not None:
            last, milliseconds = self._last_in_time(model, len(entropies), spec, reopen)
            if last < len(entropies):
                entropies = [*entropies[:last], _OPEN, *entropies[last + 1 :]]
            where = f"at exit {last + 1} of {len(entropies)}" if last < len(entropies) else "at the end"
            late = ", which is too long" if milliseconds > self.deadline else ""
            said.append(f"they leave {where} at the latest, after {milliseconds:.3g} ms{late}")
        return with_exit_entropies(model, entropies), "Early exits: " + "; ".join(said) + "."

    def _last_in_time(
        self, model: bytes, exits: int, spec: InputSpec, reopen: Callable[[bytes], CheckedSession]
    ) -> tuple[int, float]:
        """The number of the last exit before the deadline, from 0, `exits` being the end; and what it takes."""
        import numpy as np

        from zoo.onnx.early_exits import with_exit_entropies
        from zoo.runner.timing import measure_latency

        assert self.deadline is not None
        inputs = np.random.default_rng(0).random((1, spec.channels, *spec.example), dtype=np.float32)
        chosen, needed = 0, math.inf
        for number in range(exits + 1):
            only = [_OPEN if each == number else _CLOSED for each in range(exits)]
            session = reopen(with_exit_entropies(model, only))
            try:
                longest = max(measure_latency({"": session}, inputs, rounds=_ROUNDS)[""].times)
            finally:
                session.close()
            if number and longest > self.deadline:
                break
            chosen, needed = number, longest
        return chosen, needed


def entropy_for(confidence: float) -> float:
    """Return the entropy, in nats, below which the best class is sure to be more probable than `confidence`.

    It is that of two classes: the entropy of more classes with the same best one is higher.

    Args:
        confidence: From 0.5 to 1.
    """
    rest = 1 - confidence
    return -confidence * math.log(confidence) - (rest * math.log(rest) if rest > 0 else 0.0)
