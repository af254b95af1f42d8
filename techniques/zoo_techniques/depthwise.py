"""Depthwise-separable substitution of dense convolutions, initialised from their trained weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from zoo.contracts import Context, Phase, Technique
from zoo.options import option

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class DepthwiseConfig:
    """which:      the convolutions to replace. Those that hang together in one block are paired in definition
                order: "first" takes the 1st, 3rd, ... of each block, "second" the 2nd, 4th, ...
                A convolution's block is the innermost module that contains it and another candidate.
    min_kernel: least longer side of a kernel to replace, pixels.
    refine:     fit the replacements to calibration activations, where there are any.
    images:     calibration pictures to fit on.
    """

    which: Literal["all", "first", "second"] = option("all", help="convolutions of each block to replace")
    min_kernel: int = option(2, help="least longer side of a kernel to replace", unit="pixel", minimum=2)
    refine: bool = option(True, help="fit the replacements to calibration activations")
    images: int = option(16, help="calibration pictures to fit on", minimum=1)


class Depthwise(Technique):
    """Replaces dense k x k convolutions by a depthwise k x k and a pointwise 1 x 1 one."""

    id: ClassVar[str] = "depthwise"
    summary: ClassVar[str] = (
        "dense convolutions become depthwise-separable, initialised from the trained weights"
    )
    paper: ClassVar[str] = "Chollet, Xception, CVPR 2017; Guo et al., Network Decoupling, BMVC 2018"
    phase: ClassVar[Phase] = Phase.STRUCTURE
    Config: ClassVar[type] = DepthwiseConfig
    config: DepthwiseConfig

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        from zoo.surgery.substitute import substitute

        chosen = self._chosen(model, context)
        batches = []
        if self.config.refine and context.calibration is not None:
            batches = _first_images(context.calibration(), self.config.images)
        return substitute(model, chosen, batches, context, self.id)

    def _chosen(self, model: nn.Module, context: Context) -> dict[nn.Module, str]:
        """The convolutions to replace, with their names; every other one is named as left alone."""
        from torch import nn

        from zoo.surgery.walk import names_of

        names = {module: all_names[0] for module, all_names in names_of(model).items()}
        owners: dict[int, list[str]] = {}
        for module, name in names.items():
            for parameter in module.parameters(recurse=False):
                owners.setdefault(id(parameter), []).append(name)
        able: dict[str, nn.Module] = {}
        for module, name in names.items():
            if not isinstance(module, nn.modules.conv._ConvNd):
                continue
            reason = self._reason_against(module)
            others = [o for p in module.parameters(recurse=False) for o in owners[id(p)] if o != name]
            if reason is None and others:
                reason = f"it shares its parameters with '{others[0]}'"
            if reason is None:
                able[name] = module
            else:
                context.leave(self.id, name, reason)
        chosen = {}
        for block in blocks(able):
            for index, name in enumerate(block):
                if self.config.which in ("all", ("first", "second")[index % 2]):
                    chosen[able[name]] = name
                else:
                    context.leave(self.id, name, f"which={self.config.which}")
        return chosen

    def _reason_against(self, module: nn.Module) -> str | None:
        """Why a convolution cannot or need not be replaced; None if it can."""
        import math

        from torch import nn

        if type(module) is not nn.Conv2d:
            return f"{type(module).__name__} is not a plain Conv2d"
        kernel, taps = module.kernel_size, math.prod(module.kernel_size)
        if taps == 1:
            return "1x1 kernel"
        if module.groups > 1:
            return f"grouped already (groups={module.groups})"
        if max(kernel) < self.config.min_kernel:
            return f"{kernel[0]}x{kernel[1]} kernel, min_kernel={self.config.min_kernel}"
        if module.out_channels * taps <= taps + module.out_channels:
            return "a separable one would have no fewer parameters"
        if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
            return "it has hooks, which may compute its weight"
        if not module.weight.is_floating_point() or not bool(module.weight.isfinite().all()):
            return "its weights are not finite real numbers"
        return None


def blocks(names: Iterable[str]) -> list[list[str]]:
    """Dotted names grouped by the innermost module that contains at least two of them, in the given order.

    >>> blocks(["stem", "a.conv1", "a.conv2", "b.conv1.conv", "b.conv2.conv"])
    [['stem'], ['a.conv1', 'a.conv2'], ['b.conv1.conv', 'b.conv2.conv']]
    """
    held: Counter[str] = Counter()
    names = list(names)
    for name in names:
        held.update(_ancestors(name))
    grouped: dict[str, list[str]] = {}
    for name in names:
        block = next((ancestor for ancestor in _ancestors(name) if held[ancestor] > 1), "")
        grouped.setdefault(block, []).append(name)
    return list(grouped.values())


def _ancestors(name: str) -> Iterator[str]:
    """The names of the modules that contain `name`, innermost first; the root is ""."""
    while name:
        name = name.rpartition(".")[0]
        yield name


def _first_images(batches: Iterable[Tensor], images: int) -> list[Tensor]:
    """The first `images` pictures, in their batches."""
    kept: list[Tensor] = []
    for batch in batches:
        kept.append(batch[:images].detach())
        images -= len(kept[-1])
        if images <= 0:
            break
    return kept
