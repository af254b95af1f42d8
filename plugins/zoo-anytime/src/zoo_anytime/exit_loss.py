"""What training with exits minimises: the loss of each of them."""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.quantization.fake_quant import FakeQuantize
from zoo.tasks.losses import class_cross_entropy, softened_divergence
from zoo_anytime.decisions import PREFIX

_CLASSIFIER = re.compile(rf"{PREFIX}\d+\.classifier")
_INSIDE = re.compile(rf"{PREFIX}\d+\..*")


class ExitLoss:
    """The sum of the losses of all exits, whose logits it collects while the network runs.

    Args:
        joint: Whether the rest of the network learns too. A network with quantizers does in any case.
    """

    def __init__(self, joint: bool = True) -> None:
        self._joint = joint
        self._logits: dict[str, Tensor] = {}

    def begin(self, model: nn.Module) -> Callable[[], None]:
        """Listen to the classifiers of the exits, whatever they have become; returns a function that ends it.

        Raises:
            ZooError: There are none left.
        """
        classifiers = {name: each for name, each in model.named_modules() if _CLASSIFIER.fullmatch(name)}
        if not classifiers:
            raise ZooError(
                "The classifiers of the exits are gone.",
                hint="Put what adds them last among the techniques that change layers:  ...+early-exit+qat",
            )

        def listen(name: str) -> Callable[..., None]:
            def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
                self._logits[name] = output

            return keep

        handles = [each.register_forward_hook(listen(name)) for name, each in classifiers.items()]
        quantized = any(isinstance(each, FakeQuantize) for each in model.modules())
        frozen = [] if self._joint or quantized else _outside_exits(model)
        for parameter in frozen:
            parameter.requires_grad_(False)

        def end() -> None:
            for handle in handles:
                handle.remove()
            for parameter in frozen:
                parameter.requires_grad_(True)
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


def _outside_exits(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of the network itself that learn."""
    return [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not _INSIDE.fullmatch(name)
    ]
