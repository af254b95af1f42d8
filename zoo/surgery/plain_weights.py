"""Weights that are computed when they are used, made plain: the layer then holds the tensor itself.

Weight norm (Salimans and Kingma, NeurIPS 2016), spectral norm (Miyato et al., ICLR 2018), pruning masks and every
other parametrization of torch compute a layer's weight from other parameters, in a hook before its forward pass or in a
property. A technique that changes the weight would be overruled by the next call.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm, SpectralNormLoadStateDictPreHook
from torch.nn.utils.weight_norm import WeightNorm


def make_weights_plain(model: nn.Module) -> list[str]:
    """Replace computed weights by their present values, in place and exactly.

    Args:
        model: Any network; it is put into eval mode, in which spectral norms do not move on.

    Returns:
        The dotted paths of the tensors that were made plain, such as "body.conv.weight".
    """
    model.eval()
    found = []
    for path, module in model.named_modules():
        names = _remove_hooks(module)
        if parametrize.is_parametrized(module):
            held: Any = module.parametrizations
            for name in list(held):
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
                names.append(name)
        found += [f"{path}.{name}" if path else name for name in names]
    return found


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
            prune.remove(module, hook._tensor_name)  # type: ignore[no-untyped-call]
            names.append(hook._tensor_name)
    return names


def _forget_loading(module: nn.Module, name: str) -> None:
    """Let a module load a plain tensor again: torch leaves in place the hook that asks for the norm's own tensors."""
    for key, wrapped in list(module._load_state_dict_pre_hooks.items()):
        hook = getattr(wrapped, "hook", wrapped)
        if isinstance(hook, SpectralNormLoadStateDictPreHook) and hook.fn.name == name:
            del module._load_state_dict_pre_hooks[key]
