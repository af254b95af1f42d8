"""A classifier at a smaller size: fewer pixels, the same weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from zoo.contracts import Context, Phase, Technique
from zoo.errors import NoEffectError, UsageError, ZooError
from zoo.options import option

if TYPE_CHECKING:
    from torch import Tensor, nn

    Size = tuple[int, int]


@dataclass(frozen=True)
class ResolutionConfig:
    """Options of `resolution`.

    Attributes:
        macs: The largest share of the network's multiplications to keep; the largest size within it is taken.
        height: The height that the network computes at, instead of `macs`; the width follows.
    """

    macs: float = option(0.5, minimum=0.01, maximum=0.99, help="largest share of the MACs to keep")
    height: int | None = option(
        None, minimum=1, maximum=4096, unit="pixel",
        help="height that the network computes at; none: the largest within macs",
    )  # fmt: skip


class Resolution(Technique):
    """Reduce the image inside the network, and compute everything after that at the smaller size.

    The weights stay as they are: a convolution does not know the size of its input, and training adapts them to what
    things look like at that size. The exported file accepts the same images as before.
    """

    contract = 1
    id: ClassVar[str] = "resolution"
    summary: ClassVar[str] = (
        "a classifier computes at the smaller size that a budget allows, with the same weights"
    )
    paper: ClassVar[str] = (
        "Touvron et al., Fixing the train-test resolution discrepancy, NeurIPS 2019; Howard et al., MobileNets, 2017"
    )
    phase: ClassVar[Phase] = Phase.STRUCTURE
    before: ClassVar[frozenset[str]] = frozenset({"early-exit"})
    Config: ClassVar[type] = ResolutionConfig
    config: ResolutionConfig

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """Return the network at the smaller size.

        Raises:
            ZooError: The network is not a classifier, or cannot compute at another size.
            UsageError: The height is not smaller than the present one.
            NoEffectError: No size is within the budget.
        """
        from zoo.surgery import clean_up_graph, insert_after, propagate_shapes, trace

        if context.architecture.output.dense:
            raise ZooError(
                f"{self.id} is for classifiers; {context.architecture.id} outputs {context.architecture.output.kind}.",
                hint="For networks with an output for each pixel there is:  space-to-depth",
            )
        size = self._size(model, context.example_input)
        small = reduced(context.example_input, size)
        module = trace(model, small)
        entry = next(node for node in module.graph.nodes if node.op == "placeholder")
        insert_after(module, entry, "reduce", _reduction(context.example_input, size))
        clean_up_graph(module)
        propagate_shapes(module, context.example_input)
        full = "x".join(map(str, context.example_input.shape[2:]))
        context.report.note(f"{self.id}: computes at {size[0]}x{size[1]} instead of {full}")
        return module

    def _size(self, model: nn.Module, example: Tensor) -> Size:
        """The size to compute at: the one asked for, or the largest within the budget."""
        from zoo.cost.module_cost import model_cost

        height, width = example.shape[2:]
        if self.config.height is not None:
            if self.config.height >= height:
                raise UsageError(
                    f"{self.id}: the network computes at a height of {height} already, not more than "
                    f"{self.config.height}.",
                    hint=f"State a smaller one:  resolution(height={height // 2})",
                )
            size = self.config.height, max(1, round(width * self.config.height / height))
            self._check(model, example, size)
            return size
        whole = model_cost(model, example).macs
        step = _step(model, example)
        for steps in range(-(-height // step) - 1, 1, -1):
            size = steps * step, max(1, round(width * steps * step / height))
            self._check(model, example, size)
            if model_cost(model, reduced(example, size)).macs <= self.config.macs * whole:
                return size
        raise NoEffectError(
            f"{self.id}: no height that is a multiple of {step} needs at most {self.config.macs:.0%} of the MACs.",
            hint="Allow more, or state the height:  resolution(height=...)",
        )

    def _check(self, model: nn.Module, example: Tensor, size: Size) -> None:
        """Raise ZooError unless the network computes at a size what it does at its own."""
        from zoo.surgery import evaluating

        with evaluating(model):
            wanted = model(example).shape
            try:
                fits = model(reduced(example, size)).shape == wanted
            except (RuntimeError, ValueError, AssertionError):
                fits = False
        if not fits:
            raise ZooError(
                f"{self.id}: {type(model).__name__} does not compute at {size[0]}x{size[1]}; its weights are made for "
                "one size.",
                hint="It needs a network with a global pooling before its classifier.",
            )


def reduced(images: Tensor, size: Size) -> Tensor:
    """Return images (N, C, H, W) at a smaller size."""
    result: Tensor = _reduction(images, size)(images)
    return result


def _reduction(example: Tensor, size: Size) -> nn.Module:
    """What makes images of the example's size smaller: a mean over whole squares, then linearly to the size itself."""
    from torch import nn

    factor = min(side // small for side, small in zip(example.shape[2:], size, strict=True))
    parts: list[nn.Module] = [nn.AvgPool2d(factor)] if factor > 1 else []
    if tuple(side // factor for side in example.shape[2:]) != size or not parts:
        parts.append(nn.Upsample(size=size, mode="bilinear", align_corners=False))
    return parts[0] if len(parts) == 1 else nn.Sequential(*parts)


def _step(model: nn.Module, example: Tensor) -> int:
    """By how much the network's convolutions reduce the height: sizes in between cost as much as the next one."""
    from torch import nn

    from zoo.surgery import evaluating

    heights: list[int] = []

    def look(module: nn.Module, inputs: object, output: Tensor) -> None:
        heights.append(output.shape[2])

    convolutions = [each for each in model.modules() if isinstance(each, nn.Conv2d)]
    hooks = [each.register_forward_hook(look) for each in convolutions]
    try:
        with evaluating(model):
            model(example)
    finally:
        for hook in hooks:
            hook.remove()
    spatial = [height for height in heights if height > 1]
    return max(1, int(example.shape[2]) // min(spatial)) if spatial else 1
