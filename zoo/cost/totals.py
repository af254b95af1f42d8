"""The figures of a cost count."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerCost:
    """One layer, or one operator of a file.

    Attributes:
        kind: "conv", "transposed conv", "linear", "matmul"; "" for a layer with parameters but no MACs.
        parameters: Weights and biases it owns; those it shares with an earlier layer are counted there.
        macs: Multiply-accumulates for the whole input.
    """

    name: str
    kind: str
    parameters: int
    macs: int


@dataclass(frozen=True)
class Cost:
    """What a network costs for one input.

    Attributes:
        parameters: Weights and biases, each counted once, batch-norm weights included; no quantization scales.
        macs: Multiply-accumulates of convolutions, transposed convolutions and linear layers.
        matmul_macs: Those of products of two activations (attention), which `macs` leaves out.
        layers: In order of definition (a module) or of execution (a file).
        bytes: Size of the file; None for a module.
    """

    parameters: int
    macs: int
    matmul_macs: int = 0
    layers: tuple[LayerCost, ...] = ()
    bytes: int | None = None


def total(parameters: int, layers: tuple[LayerCost, ...], size: int | None = None) -> Cost:
    """Return a Cost whose sums are those of its layers."""
    matmul = sum(layer.macs for layer in layers if layer.kind == "matmul")
    return Cost(parameters, sum(layer.macs for layer in layers) - matmul, matmul, layers, size)
