"""What training with exits minimises: the loss of each of them."""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.tasks.losses import class_cross_entropy, softened_divergence
from zoo_anytime.early_exit.exits import PREFIX

_CLASSIFIER = re.compile(rf"{PREFIX}\d+\.classifier")


class ExitLoss:
    """The sum of the losses of all exits, whose logits it collects while the network runs."""

    def __init__(self) -> None:
        self._logits: dict[str, Tensor] = {}

    def begin(self, model: nn.Module) -> Callable[[], None]:
        """Listen to the classifiers of the exits, whatever they have become; returns a function that ends it.

        Raises:
            ZooError: There are none left.
        """
        classifiers = {name: each for name, each in model.named_modules() if _CLASSIFIER.fullmatch(name)}
        if not classifiers:
            raise ZooError(
                "early-exit: the classifiers of the exits are gone.", hint="Put it last:  ...+early-exit+qat"
            )

        def listen(name: str) -> Callable[..., None]:
            def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
                self._logits[name] = output

            return keep

        handles = [each.register_forward_hook(listen(name)) for name, each in classifiers.items()]

        def end() -> None:
            for handle in handles:
                handle.remove()
            self._logits.clear()

        return end

    def compute(self, inputs: Tensor, outputs: Tensor, targets: Tensor | None, model: nn.Module) -> Tensor:
        """Return the sum of the cross-entropies; without targets, of the divergences from the last output."""
        total = outputs.new_zeros(())
        for logits in self._logits.values():
            if targets is None:
                total = total + softened_divergence(logits.float(), outputs.detach(), 1.0)
            else:
                total = total + class_cross_entropy(logits, targets.to(logits.device))
        return total
