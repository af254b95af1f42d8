"""Weights that are computed when they are used, made plain: the layer then holds the tensor itself.

Weight norm (Salimans and Kingma, NeurIPS 2016), spectral norm (Miyato et al., ICLR 2018), pruning masks and every
other parametrization of torch compute a layer's weight from other parameters, in a hook before its forward pass or in a
property. A technique that changes the weight would be overruled by the next call.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm, SpectralNormLoadStateDictPreHook
from torch.nn.utils.weight_norm import WeightNorm

from zoo.errors import ZooError
from zoo.surgery.agreement import Reference

_COMPUTING_HOOKS = (WeightNorm, SpectralNorm, prune.BasePruningMethod)


def make_weights_plain(model: nn.Module, example: Tensor | None = None) -> list[str]:
    """Replace computed weights by their present values, in place and exactly.

    Args:
        model: Any network; it is put into eval mode, in which spectral norms do not move on.
        example: An input, (N, C, H, W), on which the network must compute the same afterwards; None if that is not
            checked.

    Returns:
        The dotted paths of the tensors that were made plain, such as "body.conv.weight".

    Raises:
        ZooError: The network's code reads what a weight was computed from.
        DisagreementError: The network computes something else afterwards.
    """
    model.eval()
    computing = [(path, module) for path, module in model.named_modules() if _computes_tensors(module)]
    reference = Reference.if_it_runs(model, example) if computing and example is not None else None
    found = []
    for path, module in computing:
        names = _remove_hooks(module)
        if parametrize.is_parametrized(module):
            held: Any = module.parametrizations
            for name in list(held):
                _own(held[name], "original")
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
                names.append(name)
        found += [f"{path}.{name}" if path else name for name in names]
    if reference is not None:
        try:
            reference.check(model, "Making weights plain")
        except AttributeError as error:
            raise ZooError(
                f"{type(model).__name__} reads what a weight is computed from: {error}",
                hint="Compute in forward() with the weight itself, or remove the norm first:  "
                "torch.nn.utils.remove_weight_norm(layer), remove_spectral_norm, "
                "parametrize.remove_parametrizations",
            ) from error
    return found


def _computes_tensors(module: nn.Module) -> bool:
    hooks = module._forward_pre_hooks.values()
    return parametrize.is_parametrized(module) or any(isinstance(hook, _COMPUTING_HOOKS) for hook in hooks)


def _own(module: nn.Module, name: str) -> None:
    """Give a module a tensor of its own: torch writes the value into the one that another layer may hold, too."""
    held = module._parameters.get(name)
    if held is not None:
        setattr(module, name, nn.Parameter(held.detach().clone(), held.requires_grad))


def _remove_hooks(module: nn.Module) -> list[str]:
    """Remove the hooks that compute a tensor of this module before its forward pass; the tensors' names."""
    names = []
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, WeightNorm):
            remove_weight_norm(module, hook.name)
            names.append(hook.name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, hook.name)
            _forget_loading(module, hook.name)
            names.append(hook.name)
        elif isinstance(hook, prune.BasePruningMethod):
            _own(module, f"{hook._tensor_name}_orig")
            prune.remove(module, hook._tensor_name)  # type: ignore[no-untyped-call]
            names.append(hook._tensor_name)
    return names


def _forget_loading(module: nn.Module, name: str) -> None:
    """Let a module load a plain tensor again: torch leaves in place the hook that asks for the norm's own tensors."""
    for key, wrapped in list(module._load_state_dict_pre_hooks.items()):
        hook = getattr(wrapped, "hook", wrapped)
        if isinstance(hook, SpectralNormLoadStateDictPreHook) and hook.fn.name == name:
            del module._load_state_dict_pre_hooks[key]
