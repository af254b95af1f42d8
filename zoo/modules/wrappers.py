"""What torch wraps around networks to run them, and what is inside."""

from __future__ import annotations

import sys
from typing import cast

from torch import nn

#: Classes that compute what the module does that they hold, by module and name: torch imports some when they are used.
_WRAPPERS = {
    ("torch._dynamo.eval_frame", "OptimizedModule"): "_orig_mod",
    ("torch.nn.parallel.data_parallel", "DataParallel"): "module",
    ("torch.nn.parallel.distributed", "DistributedDataParallel"): "module",
}


def unwrapped(model: nn.Module) -> nn.Module:
    """Return a network without the wrappers of torch.compile and of parallel execution, at any depth.

    Args:
        model: Any network; wrappers inside are replaced by what they hold, and compilation is undone, in place.
    """
    inner = _inside(model)
    if inner is not None:
        return unwrapped(inner)
    model._compiled_call_impl = None
    for name, part in list(model._modules.items()):
        if part is not None:
            model._modules[name] = unwrapped(part)
    return model


def _inside(module: nn.Module) -> nn.Module | None:
    """What a wrapper holds; None for any other module."""
    for (home, name), attribute in _WRAPPERS.items():
        kind = getattr(sys.modules.get(home), name, None)
        if kind is not None and isinstance(module, kind):
            return cast(nn.Module, getattr(module, attribute))
    return None
