"""Widths for the weights of single layers, assigned from what each width costs.

The cost is measured, without derivatives: the error of the network's output when one layer alone is rounded, as in
the sensitivity analysis of Wu et al., "Integer Quantization for Deep Learning Inference", 2020 (arXiv:2004.09602).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from zoo.modules.output_tree import primary_output
from zoo.quantization.fake_quant import FakeQuantize
from zoo.quantization.output_deviation import first_images
from zoo.quantization.rerun import nodes_behind, nodes_with, rerun

#: The widths to choose from, widest first.
WIDTHS = (8, 6, 5, 4, 3, 2)
#: Images that errors are measured on, and numbers in them. Rounding weights changes all images and positions alike, so
#: many more would tell the same.
_IMAGES, _NUMBERS = 64, 1 << 19


def assign_widths(
    module: fx.GraphModule,
    layers: Mapping[str, nn.Conv2d | nn.Linear],
    batches: Sequence[Tensor],
    average: float,
    fixed: Mapping[str, int],
    *,
    per_channel: bool,
    main: Callable[[Any], Tensor] = primary_output,
) -> dict[str, int]:
    """Return widths whose average over all weights is at most `average` bits, or the narrowest ones if none is.

    Starting from 8 bits everywhere, the layer that adds the least error for each bit it saves is narrowed by one width,
    until the average is reached; errors of several layers are taken to add up.

    Args:
        module: The network in float, in eval mode; left as it was.
        layers: The layers by path.
        batches: (N, C, H, W) each.
        average: Bits per weight.
        fixed: Widths that are given, by path.
        per_channel: Whether each output channel has a scale of its own.
        main: From what the network returns to the output that is compared.
    """
    free = [path for path in layers if path not in fixed]
    errors = errors_by_width(
        module, {path: layers[path] for path in free}, batches, main, per_channel=per_channel
    )
    sizes = {path: layer.weight.numel() for path, layer in layers.items()}
    chosen = {**dict.fromkeys(free, WIDTHS[0]), **fixed}
    too_much = sum(chosen[path] * size for path, size in sizes.items()) - average * sum(sizes.values())
    steps: list[tuple[float, int, int]] = []

    def offer(index: int, place: int) -> None:
        """Put the step of a layer to the width at `place` among those to choose from."""
        path = free[index]
        saved = sizes[path] * (WIDTHS[place - 1] - WIDTHS[place])
        heapq.heappush(steps, ((errors[path][place] - errors[path][place - 1]) / saved, index, place))

    for index in range(len(free)):
        offer(index, 1)
    while too_much > 0 and steps:
        _, index, place = heapq.heappop(steps)
        chosen[free[index]] = WIDTHS[place]
        too_much -= sizes[free[index]] * (WIDTHS[place - 1] - WIDTHS[place])
        if place + 1 < len(WIDTHS):
            offer(index, place + 1)
    return chosen


def errors_by_width(
    module: fx.GraphModule,
    layers: Mapping[str, nn.Conv2d | nn.Linear],
    batches: Sequence[Tensor],
    main: Callable[[Any], Tensor],
    *,
    per_channel: bool,
) -> dict[str, list[float]]:
    """Return the squared error of the output with one layer's weights rounded, at each of the widths.

    Errors are means over the positions of an image, summed over the first images of the batches, (N, C, H, W) each. The
    other arguments are those of :func:`assign_widths`.
    """
    device = next(module.parameters()).device
    (returned,) = next(node for node in module.graph.nodes if node.op == "output").args
    behind = {path: nodes_behind(module, nodes_with(module, layer.weight)) for path, layer in layers.items()}
    found = {path: [0.0] * len(WIDTHS) for path in layers}

    def output(values: Mapping[fx.Node, Any]) -> Tensor:
        return main(fx.map_arg(returned, values.__getitem__))

    for batch in _fewer(first_images(batches)):
        whole = fx.Interpreter(module, garbage_collect_values=False)
        with torch.no_grad():
            whole.run(batch.to(device))
            expected = output(whole.env)
            for path, layer in layers.items():
                weight = layer.weight.detach().clone()
                try:
                    for place, bits in enumerate(WIDTHS):
                        layer.weight.copy_(round_weight(weight, bits, per_channel=per_channel))
                        changed = {**whole.env, **rerun(whole, behind[path])}
                        error = (output(changed) - expected).square().mean(dtype=torch.double)
                        found[path][place] += float(error) * len(batch)
                finally:
                    layer.weight.copy_(weight)
    return found


def _fewer(batches: Sequence[Tensor]) -> Iterator[Tensor]:
    """The first images of some batches, (N, C, H, W) each: as many as there may be, and at least one."""
    taken = 0
    for batch in batches:
        most = max(1, min(_IMAGES, _NUMBERS // batch[0].numel()))
        if taken >= most:
            return
        yield batch[: most - taken]
        taken += len(batch)


def round_weight(weight: Tensor, bits: int, *, per_channel: bool) -> Tensor:
    """Return weights (C, ...) on the levels of a width, with the range of least squared error."""
    channels = weight.shape[0] if per_channel else None
    quantizer = FakeQuantize(bits, "mse", weight=True, channels=channels).to(weight.device).eval()
    quantizer.observe_weight(weight)
    return quantizer(weight)  # type: ignore[no-any-return]
