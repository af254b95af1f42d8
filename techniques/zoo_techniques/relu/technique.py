"""Rectifiers in place of activations that engines do not fuse."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from zoo.contracts import Context, Phase, Technique
from zoo.errors import ZooError
from zoo.options import option

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ReluConfig:
    """Options of `relu`.

    Attributes:
        to: What replaces the activations.
        absorb: How to compensate for the difference: `refit` fits the weights of every layer again, to
            calibration activations; `double` replaces only LeakyReLU and PReLU, and exactly: the layer
            before computes both signs, the layer after takes both; `none` does nothing.
        relu6: Replace ReLU6 by ReLU too.
        images: Calibration images to fit on; none for :attr:`zoo.contracts.Context.fitting_images`.
    """

    to: Literal["relu", "relu6"] = option("relu", help="what replaces the activations")
    absorb: Literal["refit", "double", "none"] = option("refit", help="how the difference is compensated")
    relu6: bool = option(False, help="replace ReLU6 by ReLU too")
    images: int | None = option(
        None, help="calibration images for fitting; none: as many as its smallest layers need", minimum=1
    )

    def __post_init__(self) -> None:
        if self.to == "relu6" and (self.relu6 or self.absorb == "double"):
            raise ValueError("to=relu6 clips, so it cannot be combined with relu6=true or absorb=double")


class Relu(Technique):
    """Replace LeakyReLU, SiLU, GELU and the like by ReLU, and compensate for the change.

    The file does not become smaller; the benefit is that engines fuse the activation with the convolution before it.
    """

    id: ClassVar[str] = "relu"
    summary: ClassVar[str] = (
        "replace activations by ReLU, which every engine fuses, and refit the layers around them"
    )
    paper: ClassVar[str] = (
        "Maas et al., Rectifier Nonlinearities, 2013; Shang et al., Concatenated Rectified Linear Units, ICML 2016"
    )
    phase: ClassVar[Phase] = Phase.STRUCTURE
    must_shrink: ClassVar[bool] = False
    Config: ClassVar[type] = ReluConfig
    config: ReluConfig

    def without_fitting(self) -> Relu:
        """Return the same without fitting; which activations are replaced follows from the network."""
        absorb = "none" if self.config.absorb == "refit" else self.config.absorb
        return Relu(replace(self.config, absorb=absorb))

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """Return the network with its activations replaced or absorbed."""
        from zoo_techniques.relu.activations import find_activations

        found = find_activations(model, context.example_input, relu6=self.config.relu6)
        for module in found.endings:
            context.skip_layer(self.id, found.modules.pop(module), "it produces the network's output")
        for name in found.gates:
            context.skip_layer(self.id, name, "a gate or an output range, which a rectifier cannot replace")
        if self.config.absorb == "double":
            return self._double(model, found.modules, found.code, context)
        if not found.modules and not found.code:
            return model
        return self._replace(model, found.modules, found.code, context)

    def _replace(
        self, model: nn.Module, modules: dict[nn.Module, str], code: list[str], context: Context
    ) -> nn.Module:
        from zoo.surgery import find_candidates, trace
        from zoo.surgery.reconstruction import (
            LayerRefit,
            fitting_batches,
            refit_unsupported_reason,
            replace_layers,
        )
        from zoo_techniques.relu.activations import rectify_calls, rectify_modules

        graph = None
        if code:
            try:
                graph = trace(model, context.example_input)
            except ZooError as error:
                for name in code:
                    context.skip_layer(
                        self.id, name or "the network", f"its code calls an activation: {error}"
                    )
                if not modules:
                    return model

        def rectify(model: nn.Module) -> nn.Module:
            if graph is not None:
                rectify_calls(graph, self.config.to)
                model = graph
            return rectify_modules(model, modules, self.config.to)

        batches = fitting_batches(context, self.config.absorb == "refit", self.config.images)
        if not batches:
            return rectify(model)
        layers = find_candidates(model, context, self.id, refit_unsupported_reason, linear=True)
        named = {module: name for name, module in layers.items()}
        return replace_layers(model, named, LayerRefit, batches, context, self.id, before_fitting=rectify)

    def _double(
        self, model: nn.Module, modules: dict[nn.Module, str], code: list[str], context: Context
    ) -> nn.Module:
        from zoo.surgery import trace
        from zoo_techniques.relu.crelu import absorb_leaky_relu

        for name in code:
            context.skip_layer(
                self.id, name or "the network", "its code calls an activation; only modules are doubled"
            )
        for module, name in modules.items():
            reason = absorb_leaky_relu(model, module, trace(model, context.example_input))
            if reason is not None:
                context.skip_layer(self.id, name, reason)
        return model
