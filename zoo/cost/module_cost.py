"""Parameters and multiply-accumulates of a torch module, counted while it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from zoo.cost.totals import Cost, LayerCost, total

#: A multiply-accumulate is two of the operations that torch's formulas count.
_FLOPS_PER_MAC = 2

_aten = torch.ops.aten


def model_cost(module: nn.Module, example_input: Tensor) -> Cost:
    """Return the cost of one forward pass in eval mode, without gradients.

    Operators are counted as torch dispatches them, so that it does not matter whether a convolution is a
    module, a call of `torch.nn.functional`, a node of an fx graph, or computes with fake-quantized weights.
    The module is left as it was: what the pass writes into buffers is dropped.

    Args:
        module: The network.
        example_input: (N, C, H, W). A meta tensor makes the count instant, whatever its size, for networks
            whose operators all know meta tensors (fake quantization does not).
    """
    names = {each: name for name, each in module.named_modules()}
    counter = _MacCounter()
    with torch.no_grad(), _borrowed(module, example_input.device), _tracked(names, counter.running), counter:
        module(example_input)
    return _collect(names, counter.macs)


class _MacCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up multiply-accumulates by (name of the innermost module that runs, kind)."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.running = [""]
        self.macs: Counter[tuple[str, str]] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None:
            with self:  # in inference mode even `linear` arrives whole
                parts = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if parts is NotImplemented else parts
        result = func(*args, **kwargs)
        kind = _kind(func._overloadpacket, args)
        self.macs[self.running[-1], kind] += formula(*args, **kwargs, out_val=result) // _FLOPS_PER_MAC
        return result


def _kind(operator: Any, args: Any) -> str:
    if operator in (_aten.convolution, _aten._convolution):
        return "transposed conv" if args[6] else "conv"
    if operator in (_aten.mm, _aten.addmm):
        return "linear"
    # A linear layer on (N, L, C) may come as a batched product with one matrix repeated without a copy.
    repeated = operator is _aten.bmm and len(args[1]) > 1 and args[1].stride(0) == 0
    return "linear" if repeated else "matmul"


@contextmanager
def _borrowed(module: nn.Module, device: torch.device) -> Iterator[None]:
    """`module` in eval mode, with buffers that may be written to, all on `device` if that is "meta".

    What it held before is put back by hand: torch.func.functional_call, which does the same, leaves a module
    damaged that hangs at two places and shares a weight with a third.
    """
    held = [(each, each.training, dict(each._parameters), dict(each._buffers)) for each in module.modules()]
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    try:
        module.eval()
        # The fused kernel is one operator that says nothing of the products inside.
        torch.backends.mha.set_fastpath_enabled(False)
        for each, _, parameters, buffers in held:
            each._buffers.update({name: _scratch(buffer, device) for name, buffer in buffers.items()})
            if device.type == "meta":
                each._parameters.update({name: _bodiless(weight) for name, weight in parameters.items()})
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)
        for each, training, parameters, buffers in held:
            each.training = training
            each._parameters.update(parameters)
            each._buffers.update(buffers)


def _scratch(buffer: Tensor | None, device: torch.device) -> Tensor | None:
    if buffer is None:
        return None
    return torch.empty_like(buffer, device=device) if device.type == "meta" else buffer.clone()


def _bodiless(parameter: nn.Parameter | None) -> nn.Parameter | None:
    if parameter is None:
        return None
    return nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)


@contextmanager
def _tracked(names: dict[nn.Module, str], running: list[str]) -> Iterator[None]:
    """Keep on `running` the names of the modules that are in their forward pass."""

    def enter(module: nn.Module, args: Any) -> None:
        running.append(names[module])

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        running.pop()

    handles = [module.register_forward_pre_hook(enter, prepend=True) for module in names]
    handles += [module.register_forward_hook(leave) for module in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _collect(names: dict[nn.Module, str], macs: Counter[tuple[str, str]]) -> Cost:
    from zoo.quantization.fake_quant import FakeQuantize

    layers: list[LayerCost] = []
    counted: set[int] = set()
    parameters = 0
    for module, name in names.items():
        own = 0
        if not isinstance(module, FakeQuantize):
            for parameter in module.parameters(recurse=False):
                if id(parameter) not in counted:
                    counted.add(id(parameter))
                    own += parameter.numel()
        parameters += own
        kinds = [kind for owner, kind in macs if owner == name]
        for kind in kinds or ([""] if own else []):
            layers.append(LayerCost(name, kind, own, macs[name, kind]))
            own = 0
    return total(parameters, tuple(layers))
