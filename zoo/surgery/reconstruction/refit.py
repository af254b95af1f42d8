"""Refitting the layers of a changed network to the outputs that the original one had there, by linear least squares.

Removing channels, stages or links leaves layers whose inputs are no longer those they were trained on. Each is
refitted, in the order in which the network runs them, to the outputs of the *original* network at that layer, from
the inputs that the *changed* network feeds into it: He, Zhang and Sun, "Channel Pruning for Accelerating Very Deep
Neural Networks", ICCV 2017; Luo, Wu and Lin, "ThiNet", ICCV 2017; asymmetric as in Zhang et al., "Accelerating Very
Deep Convolutional Networks for Classification and Detection", TPAMI 2016. Unlike
:func:`zoo.surgery.reconstruction.replace_layers` this keeps the layers' form; only their numbers change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor, fx, nn

from zoo.contracts import Context
from zoo.surgery.fx_graph import layer_of
from zoo.surgery.hooks import evaluating, record_inputs, watch
from zoo.surgery.module_tree import names_of
from zoo.surgery.reconstruction.layer_refit import LayerRefit, refit_unsupported_reason
from zoo.surgery.reconstruction.patches import Layer
from zoo.surgery.reconstruction.replace import RecordedOutputs

#: lambda over the mean variance of a patch element: white input that stands for the data not seen
_RIDGE = 1e-2


@dataclass(frozen=True)
class RefitTarget:
    """What a layer is refitted to.

    Attributes:
        name: The layer's name, for reports.
        source: The layer of the original network whose recorded outputs are wanted.
        channels: (out,) indices of the source's output channels that are wanted, in the layer's order; None for all.
    """

    name: str
    source: nn.Module
    channels: Tensor | None = None


def is_refittable(layer: nn.Module) -> bool:
    """Return whether least squares can refit a layer: a plain convolution, transposed or not, of moderate size.

    Linear layers are excluded, which have no height and width. :func:`targets_downstream` and :func:`targets_after`
    include them.
    """
    return not isinstance(layer, nn.Linear) and refit_unsupported_reason(layer) is None


def record_outputs(
    model: nn.Module,
    layers: Iterable[nn.Module],
    batches: Sequence[Tensor],
    context: Context,
    view: Callable[[nn.Module, Tensor], Tensor] | None = None,
) -> RecordedOutputs:
    """Record outputs of layers of the original network, at positions drawn with the context's seed.

    Args:
        model: The original network.
        layers: The layers to record.
        batches: Inputs, (N, C, H, W) each; pass the same ones to :func:`refit_layers`.
        context: Provides the example input and the seed.
        view: Called with a layer and its output (N, C, H', W'); returns what is recorded instead, of the same form.
    """
    with evaluating(model):
        return RecordedOutputs(
            model, _calls(model, layers, context.example_input), batches, context.seed, view
        )


def refit_layers(
    model: nn.Module,
    layers: Mapping[nn.Module, RefitTarget],
    targets: RecordedOutputs,
    batches: Sequence[Tensor],
    context: Context,
    technique: str,
) -> float | None:
    """Refit layers of the changed network, in order of execution.

    Args:
        model: The changed network; the layers' weights change in place.
        layers: The layers to refit, with their targets.
        targets: What :func:`record_outputs` returned for the original network on the same batches.
        batches: Inputs, (N, C, H, W) each.
        context: Provides the example input; receives the progress.
        technique: id of the technique, for reports.

    Returns:
        The relative error of the last layer; None without batches, or if the network calls none of the layers.

    Raises:
        ZooError: The activations are not finite.
    """
    if not batches:
        return None
    error = None
    with evaluating(model):
        calls = _calls(model, layers, context.example_input)
        context.report.start(technique, len(calls))
        for layer, times in calls.items():
            error = _fit(model, cast(Layer, layer), layers[layer], times, targets, batches)
            context.report.advance(layer=layers[layer].name, error=round(error, 4))
        context.report.finish()
    return error


def _calls(model: nn.Module, layers: Iterable[nn.Module], example: Tensor) -> dict[nn.Module, int]:
    """How often the network calls each layer, in order of execution."""
    calls: dict[nn.Module, int] = {}

    def count(module: nn.Module, given: Tensor, output: Tensor) -> None:
        calls[module] = calls.get(module, 0) + 1

    watch(model, layers, example, count)
    return calls


def _fit(
    model: nn.Module,
    layer: Layer,
    wanted: RefitTarget,
    times: int,
    targets: RecordedOutputs,
    batches: Sequence[Tensor],
) -> float:
    fitting = LayerRefit(layer, _RIDGE)
    for index, batch in enumerate(batches):
        given = record_inputs(model, layer, batch, times)
        for inputs, recorded in zip(given, targets.of(wanted.source, index), strict=False):
            for image, (at, rows) in zip(inputs, recorded, strict=True):
                fitting.observe(
                    image[None], at, rows if wanted.channels is None else rows[:, wanted.channels]
                )
    fitted, error = fitting.build()
    layer.load_state_dict(fitted.state_dict())
    return error


def targets_downstream(module: fx.GraphModule, starts: Iterable[nn.Module]) -> dict[nn.Module, RefitTarget]:
    """Return the layers of a traced network that depend on some layers and can be refitted, with themselves as targets.

    Convolutions, transposed or not, and linear layers can be.

    Args:
        module: A graph from :func:`zoo.surgery.trace`.
        starts: The layers whose outputs change; included if they can be refitted.
    """
    starts = set(starts)
    reached: set[fx.Node] = set()
    layers: dict[nn.Module, RefitTarget] = {}
    for node in module.graph.nodes:
        layer = layer_of(module, node)
        if layer in starts or any(source in reached for source in node.all_input_nodes):
            reached.add(node)
            if layer is not None and refit_unsupported_reason(layer) is None:
                layers[layer] = RefitTarget(str(node.target), layer)
    return layers


def targets_after(model: nn.Module, last: nn.Module, example: Tensor) -> dict[nn.Module, RefitTarget]:
    """Return the layers to refit that first run after a module has run for the last time, with themselves as targets.

    Args:
        model: The network.
        last: The module.
        example: An input, (N, C, H, W).
    """
    layers = {
        m: RefitTarget(all_names[0], m)
        for m, all_names in names_of(model).items()
        if refit_unsupported_reason(m) is None
    }
    order: list[nn.Module] = []
    inside = set(last.modules())

    def keep(module: nn.Module, given: Tensor, output: Tensor) -> None:
        order.append(module)

    with evaluating(model):
        watch(
            model,
            [*layers, *(m for m in inside if isinstance(m, nn.Conv2d) and m not in layers)],
            example,
            keep,
        )
    ends = [index for index, module in enumerate(order) if module in inside]
    after = order[ends[-1] + 1 :] if ends else []
    return {m: layers[m] for m in after if m in layers and m not in order[: len(order) - len(after)]}
