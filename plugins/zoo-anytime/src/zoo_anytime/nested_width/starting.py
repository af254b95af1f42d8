"""What sub-networks start with: statistics of their own batch norms, and classifiers fitted to the whole network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, fx, nn

from zoo.surgery import evaluating, on_device_of
from zoo_anytime.fitting import fit_classifiers, images_of

if TYPE_CHECKING:
    from zoo.contracts import Context


def set_norms_and_classifiers(
    module: fx.GraphModule,
    original: nn.Module,
    features: Sequence[fx.Node],
    logits: Sequence[fx.Node],
    images: int,
    context: Context,
) -> None:
    """Set the statistics of batch norms, and fit the classifiers to the logits of the original network.

    Args:
        module: The divided network, changed in place.
        original: The network before.
        features: The nodes of the features of each sub-network.
        logits: The nodes of the logits of each.
        images: How many images to use.
        context: Provides them.
    """
    _recalibrate(module, [on_device_of(module, each) for each in images_of(context, images)])
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    graph.graph_copy(module.graph, copies)
    graph.output(tuple(copies[node] for node in features))
    probe = fx.GraphModule(module, graph)

    def look(batch: Tensor) -> tuple[Tensor, list[Tensor]]:
        return original(batch), list(probe(batch))

    layers = [cast(nn.Module, module.get_submodule(str(node.target))) for node in logits]
    classifiers = [cast(nn.Linear, getattr(each, "classifier", each)) for each in layers]
    with evaluating(probe), evaluating(original):
        fit_classifiers(classifiers, look, (on_device_of(probe, each) for each in images_of(context, images)))


def _recalibrate(module: nn.Module, batches: Sequence[Tensor]) -> None:
    """Set the running statistics of batch norms to the means over batches."""
    norms = [
        each for each in module.modules() if isinstance(each, nn.BatchNorm2d) and each.track_running_stats
    ]
    if not norms:
        return
    kept = [each.momentum for each in norms]
    module.eval()
    for each in norms:
        each.reset_running_stats()
        each.momentum = None
        each.train()
    with torch.no_grad():
        for batch in batches:
            module(batch)
    for each, momentum in zip(norms, kept, strict=True):
        each.momentum = momentum
    module.eval()
