"""Layers of classes of their own, made plain: torch's convolution or linear layer, with a padding before it.

Subclasses of `nn.Conv2d` and `nn.Linear` pad as TensorFlow does, standardise their weight (Qiao et al., "Micro-Batch
Training with Batch-Channel Normalization and Weight Standardization", 2019) or scale it (Brock et al., NFNets, ICML
2021). Where such a layer is a padding followed by one convolution with a weight that does not depend on the input, the
plain form computes the same, and every technique knows it.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from zoo.modules.same_padding import SamePad2d
from zoo.surgery.agreement import Reference
from zoo.surgery.hooks import evaluating, on_device_of
from zoo.surgery.module_tree import names_of, replace_module
from zoo.surgery.recorded_call import NotPlainError, Padding, RecordedCall, record_call

_BASES = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear,
)  # fmt: skip
_PAD_LAYERS: dict[str, type[nn.Module]] = {
    "constant": nn.ZeroPad2d, "reflect": nn.ReflectionPad2d, "replicate": nn.ReplicationPad2d,
    "circular": nn.CircularPad2d,
}  # fmt: skip
#: Pixels by which the sides of an input are changed to see what a padding depends on.
_OTHER_SIZES = ((1, 0), (0, 1), (2, 3), (3, 2))


@dataclass(frozen=True)
class PlainLayer:
    """A layer that was made plain.

    Attributes:
        name: Its dotted name.
        was: Its class.
        folded: Whether the layer computed its weight or bias from other numbers; the results are stored now.
    """

    name: str
    was: str
    folded: bool


def has_own_call(module: nn.Module) -> bool:
    """Return whether calling a module does more than its class says: by hooks, or a method set on the object."""
    own = ("forward", "_conv_forward")
    if module._forward_hooks or module._forward_pre_hooks or any(name in vars(module) for name in own):
        return True
    return isinstance(module, (_ConvNd, nn.Linear)) and type(module).__call__ is not nn.Module.__call__


def is_plain(layer: nn.Module) -> bool:
    """Return whether a convolution or linear layer uses its weight as it is, and pads as its base class does.

    Subclasses may standardise the weight, parametrizations compute it, and some pad by the input's size.
    """
    kind = type(layer)
    if (kind.__module__, kind.__name__) == ("timm.layers.linear", "Linear"):
        return True  # differs from its base only when scripted
    for base in _BASES:
        if isinstance(layer, base):
            methods = ("forward", "_conv_forward")
            same = all(getattr(kind, name, None) is getattr(base, name, None) for name in methods)
            return same and "weight" in layer._parameters and not has_own_call(layer)
    return False


def make_layers_plain(model: nn.Module, example: Tensor) -> list[PlainLayer]:
    """Replace layers of classes of their own by torch's, where that computes the same, in place.

    A layer that only pads keeps its name in the state dict if the padding is one that torch's layer knows. One whose
    weight is computed never does, so that a state cannot be taken for the other form's.

    Args:
        model: Any network; it is put into eval mode.
        example: An input, (N, C, H, W).

    Returns:
        The layers that were made plain; the others are as they were.
    """
    model.eval()
    found = {module: names[0] for module, names in names_of(model).items() if _is_candidate(module)}
    if not found:
        return []
    forms: dict[nn.Module, tuple[nn.Module, bool]] = {}
    for layer, x in _inputs_of(model, found, example).items():
        with contextlib.suppress(NotPlainError):
            forms[layer] = _plain_form(layer, x)
    if not forms:
        return []
    reference = Reference(model, example)
    for layer, (new, _) in forms.items():
        replace_module(model, layer, new.eval())
    try:
        reference.check(model, "Making layers plain")
    except Exception:  # the network's code reads what only its own layers have
        for layer, (new, _) in forms.items():
            replace_module(model, new, layer)
        return []
    return [PlainLayer(found[layer], type(layer).__name__, folded) for layer, (_, folded) in forms.items()]


def _is_candidate(module: nn.Module) -> bool:
    if has_own_call(module) or isinstance(module, torch.jit.ScriptModule):
        return False
    if type(module).__module__.partition(".")[0] in ("torch", "zoo"):
        return False
    return isinstance(module, _BASES) or (bool(module._parameters) and not list(module.children()))


def _inputs_of(model: nn.Module, layers: dict[nn.Module, str], example: Tensor) -> dict[nn.Module, Tensor]:
    """Return what each layer is first called with; nothing if the network does not run on the example."""
    seen: dict[nn.Module, Tensor] = {}

    def keep(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if len(args) == 1 and not kwargs and isinstance(args[0], Tensor):
            seen.setdefault(layer, args[0].detach())

    handles = [layer.register_forward_pre_hook(keep, with_kwargs=True) for layer in layers]
    try:
        with evaluating(model):
            model(on_device_of(model, example))
    except Exception:  # whoever runs it next reports it
        return {}
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _plain_form(layer: nn.Module, x: Tensor) -> tuple[nn.Module, bool]:
    """Return the plain form of a layer, and whether it stores what was computed.

    Raises:
        NotPlainError: It has none.
    """
    calls: list[tuple[RecordedCall, Tensor]] = []
    for probe in _probes(x):
        try:
            calls.append((record_call(layer, probe), probe))
        except NotPlainError:
            raise
        except Exception:
            if not calls:
                raise NotPlainError("it does not run by itself") from None
            break  # a layer for one size of input
    first = calls[0][0]
    for other, _ in calls[1:]:
        same = torch.equal(other.weight, first.weight) and other.options == first.options
        biases = (first.bias is None) == (other.bias is None) and (
            first.bias is None or torch.equal(first.bias, cast(Tensor, other.bias))
        )
        if other.kind is not first.kind or not (same and biases):
            raise NotPlainError("its weight depends on its input")
    pad, own_padding = _padding_of(calls)
    core, folded = _core(layer, first, own_padding)
    if pad is None and not folded:
        return core, False
    key = "linear" if isinstance(core, nn.Linear) else "conv"
    parts = OrderedDict([(key, core)] if pad is None else [("pad", pad), (key, core)])
    return nn.Sequential(parts), folded


def _probes(x: Tensor) -> Iterator[Tensor]:
    """Yield the input, another of its size, and some of other sizes."""
    generator = torch.Generator().manual_seed(0)

    def noise(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator).to(x)

    yield x
    yield noise(tuple(x.shape))
    if x.dim() == 4:
        for rows, columns in _OTHER_SIZES:
            yield noise((*x.shape[:2], x.shape[2] + rows, x.shape[3] + columns))


def _padding_of(calls: list[tuple[RecordedCall, Tensor]]) -> tuple[nn.Module | None, Padding | None]:
    """Return the layer that pads before the convolution, or else the padding that the convolution itself can do."""
    first = calls[0][0]
    paddings = [call.padding for call, _ in calls]
    if not any(paddings):
        return None, None
    if first.kind is not nn.Conv2d or _pair(first.options.get("padding", 0)) != (0, 0):
        raise NotPlainError("it pads in a way that no plain layer does")
    if len(set(paddings)) == 1:
        padding = cast(Padding, paddings[0])
        left, right, top, bottom = (*padding.amounts, 0, 0)[:4]
        if len(padding.amounts) > 4 or padding.mode not in _PAD_LAYERS:
            raise NotPlainError("it pads in a way that no plain layer does")
        if padding.value:
            return nn.ConstantPad2d((left, right, top, bottom), padding.value), None
        if (left, top) == (right, bottom):
            return None, padding
        return _PAD_LAYERS[padding.mode]((left, right, top, bottom)), None
    options = first.options
    same = SamePad2d(
        tuple(first.weight.shape[2:]),  # type: ignore[arg-type]
        _pair(options.get("stride", 1)),
        _pair(options.get("dilation", 1)),
    )
    for call, probe in calls:
        amounts = call.padding.amounts if call.padding else (0, 0, 0, 0)
        zeros = call.padding is None or (call.padding.mode, call.padding.value) == ("constant", 0)
        if not zeros or list(amounts) != same.amounts(*probe.shape[-2:]):
            raise NotPlainError("how it pads depends on the size of its input")
    return same, None


def _core(layer: nn.Module, call: RecordedCall, padding: Padding | None) -> tuple[nn.Module, bool]:
    """Return the plain convolution or linear layer of a call, and whether its weight or bias was computed."""
    weight, bias = call.weight, call.bias
    options = dict(call.options)
    if padding is not None:
        options["padding"] = (padding.amounts[2] if len(padding.amounts) > 2 else 0, padding.amounts[0])
        options["padding_mode"] = "zeros" if padding.mode == "constant" else padding.mode
    groups = int(options.get("groups", 1))
    transposed = "Transpose" in call.kind.__name__
    if call.kind is nn.Linear:
        core: Any = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    else:
        inside, outside = weight.shape[1] * groups, weight.shape[0]
        if transposed:
            inside, outside = weight.shape[0], weight.shape[1] * groups
        core = cast(Any, call.kind)(
            inside, outside, tuple(weight.shape[2:]), bias=bias is not None, device="meta", **options
        )
    parameters = list(layer.parameters(recurse=False))
    core.weight, folded = _parameter(weight, parameters)
    if bias is not None:
        core.bias, computed = _parameter(bias, parameters)
        folded = folded or computed
    return core, folded


def _parameter(value: Tensor, parameters: list[nn.Parameter]) -> tuple[nn.Parameter, bool]:
    """Return the parameter of the layer that was used as it is, or else a new one with the value, and True."""
    for own in parameters:
        if own.shape == value.shape and torch.equal(own, value):
            return own, False
    return nn.Parameter(value.detach().clone()), True


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, str):
        raise NotPlainError("it pads by name")
    if isinstance(value, (tuple, list)):
        return (int(value[0]), int(value[-1]))
    return (int(value), int(value))
