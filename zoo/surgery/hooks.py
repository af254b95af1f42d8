"""What goes into and comes out of the layers of a running network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from zoo.surgery.reconstruction.patches import as_images

#: Called with a module's input and output, at each of its calls.
Watcher = Callable[[nn.Module, Tensor, Tensor], None]


class _Enough(Exception):
    """Ends a forward pass whose rest is not needed."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """No gradients, every module in eval mode; afterwards each module has the mode it had."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in model.modules():
            module.training = modes.get(module, model.training)


def on_device_of(model: nn.Module, batch: Tensor) -> Tensor:
    """The batch on the device of the network's first parameter."""
    parameter = next(model.parameters(), None)
    return batch if parameter is None else batch.to(parameter.device)


def watch(model: nn.Module, modules: Iterable[nn.Module], batch: Tensor, watcher: Watcher) -> None:
    """Run `model` on a batch and call `watcher` after each call of one of `modules`, in order.

    Inputs and outputs are (N, C, H, W), also for modules that are given something else: see
    :func:`zoo.surgery.reconstruction.patches.as_images`.
    """

    def hook(module: nn.Module, args: Sequence[Any], kwargs: dict[str, Any], output: Tensor) -> None:
        given = args[0] if args else next(iter(kwargs.values()))
        watcher(module, as_images(module, given), as_images(module, output))

    handles = [module.register_forward_hook(hook, with_kwargs=True) for module in modules]
    try:
        model(on_device_of(model, batch))
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def detect_external_reads(layers: Iterable[nn.Module]) -> Iterator[set[nn.Module]]:
    """The layers whose parameters are read by other code than their own, while the body runs; complete at its end."""
    found: set[nn.Module] = set()
    kinds = {layer: type(layer) for layer in layers}
    for layer, kind in kinds.items():
        layer.__class__ = _observed(kind, found)
    try:
        yield found
    finally:
        for layer, kind in kinds.items():
            layer.__class__ = kind


def _observed(kind: type[nn.Module], found: set[nn.Module]) -> type[nn.Module]:
    """The class, noting instances whose parameters are read outside a call."""
    running: set[nn.Module] = set()

    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        running.add(self)
        try:
            return kind.__call__(self, *args, **kwargs)
        finally:
            running.discard(self)

    def read(self: nn.Module, name: str) -> Any:
        if name in self._parameters and self not in running:
            found.add(self)
        return kind.__getattr__(self, name)

    return type(kind.__name__, (kind,), {"__call__": call, "__getattr__": read})


def record_inputs(model: nn.Module, module: nn.Module, batch: Tensor, calls: int) -> list[Tensor]:
    """What `module` is given at its first `calls` calls; the network is not run further than that."""
    inputs: list[Tensor] = []

    def keep(_: nn.Module, given: Tensor, __: Tensor) -> None:
        inputs.append(given)
        if len(inputs) == calls:
            raise _Enough

    with suppress(_Enough):
        watch(model, [module], batch, keep)
    return inputs
