"""What thinking longer costs: the share of the blocks that are computed, as a loss with a gradient."""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import Tensor, nn

from zoo.errors import ZooError
from zoo_anytime.adaptive_depth.halting import PREFIX

_SCORE = re.compile(rf"{PREFIX}(\d+)_(\d+)\.score")


class PonderCost:
    """The mean ponder cost, from scores that it collects while the network runs.

    A position that halts after n blocks costs n, and what was still open of its result then: only that has a gradient,
    which raises the scores before it.

    Args:
        threshold: The sum of its scores at which a position halts.
    """

    def __init__(self, threshold: float) -> None:
        self._least = 1 - threshold
        self._scores: dict[tuple[int, int], Tensor] = {}

    def begin(self, model: nn.Module) -> Callable[[], None]:
        """Listen to the scores, whatever computes them by now; returns a function that ends it.

        Raises:
            ZooError: There are none left.
        """
        found = {match: each for name, each in model.named_modules() if (match := _SCORE.fullmatch(name))}
        if not found:
            raise ZooError(
                "The scores by which positions halt are gone.",
                hint="Put what adds them last among the techniques that change layers:  ...+adaptive-depth+qat",
            )

        def listen(stage: int, block: int) -> Callable[..., None]:
            def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
                self._scores[stage, block] = output

            return keep

        handles = [
            each.register_forward_hook(listen(int(match[1]), int(match[2]))) for match, each in found.items()
        ]

        def end() -> None:
            for handle in handles:
                handle.remove()
            self._scores.clear()

        return end

    def compute(self, inputs: Tensor, outputs: Tensor, targets: Tensor | None, model: nn.Module) -> Tensor:
        """Return the cost as a share of that of computing all blocks."""
        total = outputs.new_zeros(())
        opened = outputs.new_ones(())
        for (_, block), score in sorted(self._scores.items()):
            before = outputs.new_ones(()) if block == 1 else opened
            opened = before - score.detach().float()
            goes_on = opened > self._least
            total = total + (goes_on * (1 - score.float())).mean()
        return total / max(1, len(self._scores))
