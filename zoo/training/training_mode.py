"""Running a network in training mode, without what it does there alone where that does not fit any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from zoo.errors import ZooError


class TrainingForward:
    """Calls a network that is trained.

    Recipes rewrite what a network computes in eval mode. What it computes in training alone, from layers that a recipe
    has changed since (auxiliary heads), or from targets that it is not given, may not run; it is left out then.

    Args:
        wrapped: What is called, which calls `network`.
        network: The network, in train mode.
        name: What errors call it.
        note: Called with a sentence if anything is left out.
    """

    def __init__(
        self, wrapped: nn.Module, network: nn.Module, name: str, note: Callable[[str], None]
    ) -> None:
        self._wrapped, self._network, self._name, self._note = wrapped, network, name, note
        self._has_run = False

    def __call__(self, inputs: Tensor) -> Any:
        """Return what the network returns for inputs (N, C, H, W).

        Raises:
            ZooError: It runs neither in train mode nor with the branches of eval mode.
        """
        try:
            returned = self._wrapped(inputs)
        except ZooError:
            raise
        except Exception as error:
            if self._has_run or "inplace" in str(error):
                raise
            returned = self._without_branches(inputs, error)
        self._has_run = True
        return returned

    def _without_branches(self, inputs: Tensor, error: Exception) -> Any:
        """Take the branches of eval mode; layers stay in train mode, as dropout must."""
        for module in self._network.modules():
            if next(module.children(), None) is not None:
                module.training = False
        reason = f"{type(error).__name__}: {error}"
        try:
            returned = self._wrapped(inputs)
        except Exception:
            raise ZooError(
                f"{self._name} does not run in training mode: {reason}",
                hint="Its forward() must accept one batch of inputs in training mode, too; or use a recipe that trains "
                "nothing:  ptq",
            ) from error
        self._note(
            f"what the network computes in training alone is left out, since it does not run ({reason})."
        )
        return returned
