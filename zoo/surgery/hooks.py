"""Observing the inputs and outputs of layers while a network runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

#: Called with a module's input and output, at each of its calls.
Watcher = Callable[[nn.Module, Tensor, Tensor], None]


class _Enough(Exception):
    """Ends a forward pass whose rest is not needed."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Run the body without gradients and with every module in eval mode; restore each module's mode afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in model.modules():
            module.training = modes.get(module, model.training)


def on_device_of(model: nn.Module, batch: Tensor) -> Tensor:
    """Return a batch, (N, ...), on the device of the network's first parameter."""
    parameter = next(model.parameters(), None)
    return batch if parameter is None else batch.to(parameter.device)


def as_images(module: nn.Module, value: Tensor) -> Tensor:
    """Return a layer's input or output as (N, C, H, W).

    Args:
        module: The layer.
        value: (N, C, H, W) or (C, H, W) for a convolution; (N, ..., C) or (C,) for a linear layer, whose positions
            become the height: (N, C, positions, 1).
    """
    if isinstance(module, nn.Linear):
        value = value[None] if value.dim() == 1 else value
        return value.reshape(len(value), -1, value.shape[-1]).transpose(1, 2)[..., None]
    return value[None] if value.dim() == 3 else value


def watch(model: nn.Module, modules: Iterable[nn.Module], batch: Tensor, watcher: Watcher) -> None:
    """Run a network on a batch and call `watcher` after each call of one of some modules.

    The network runs in its present mode; use :func:`evaluating` around it.

    Args:
        model: The network.
        modules: The modules to watch.
        batch: (N, C, H, W); it is moved to the network's device.
        watcher: Called with the module, its input and its output, both as (N, C, H, W): see :func:`as_images`.
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
    """Collect the layers whose parameters are read by code other than their own while the body runs.

    Yields:
        The set of those layers, complete when the body has ended.
    """
    found: set[nn.Module] = set()
    kinds = {layer: type(layer) for layer in layers}
    for layer, kind in kinds.items():
        layer.__class__ = _observing_class(kind, found)
    try:
        yield found
    finally:
        for layer, kind in kinds.items():
            layer.__class__ = kind


def _observing_class(kind: type[nn.Module], found: set[nn.Module]) -> type[nn.Module]:
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
    """Return the inputs of a module at its first calls; the network is stopped after them.

    Args:
        model: The network.
        module: The module whose inputs are recorded.
        batch: The network's input, (N, C, H, W).
        calls: How many calls to record.

    Returns:
        Up to `calls` inputs, (N, C, H, W) each.
    """
    inputs: list[Tensor] = []

    def keep(_: nn.Module, given: Tensor, __: Tensor) -> None:
        inputs.append(given)
        if len(inputs) == calls:
            raise _Enough

    with suppress(_Enough):
        watch(model, [module], batch, keep)
    return inputs
