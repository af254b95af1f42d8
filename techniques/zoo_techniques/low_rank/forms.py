"""The forms a layer can be factorized in, and what they cost. See :mod:`zoo_techniques.low_rank.fit`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast

from torch import nn

from zoo.surgery.reconstruction import Layer, channels_of, groups_of, kernel_of

Kind = Literal["output", "spatial", "input", "tucker"]
KINDS: tuple[Kind, ...] = ("output", "spatial", "input", "tucker")


@dataclass(frozen=True)
class Form:
    """A factorization of one layer: its kind, and the ranks within a group of channels (two for `tucker`)."""

    kind: Kind
    ranks: tuple[int, ...]


def cost_of(layer: Layer, form: Form | None = None) -> tuple[float, float]:
    """Return the cost of a layer, or of a form of it.

    Returns:
        Weights, and multiply-accumulates per position of the layer's coarser side.
    """
    groups, (kh, kw) = groups_of(layer), kernel_of(layer)
    inputs, outputs = (channels // groups for channels in channels_of(layer))
    down, across = (1, 1) if isinstance(layer, nn.Linear) else cast("tuple[int, int]", layer.stride)
    if form is None:
        return (weights := float(groups * inputs * outputs * kh * kw)), weights
    r, last = form.ranks[0], form.ranks[-1]
    # (weights, positions on which they act): an image is larger before a stride, after a transposed one
    before, between, after = (down * across, across, 1)
    if isinstance(layer, nn.ConvTranspose2d):
        before, between, after = (1, down, down * across)
        parts = {
            "output": ((inputs * r * kh * kw, 1), (r * outputs, after)),
            "spatial": ((inputs * r * kh, 1), (r * outputs * kw, between)),
            "input": ((inputs * r, 1), (r * outputs * kh * kw, 1)),
            "tucker": ((inputs * r, 1), (r * last * kh * kw, 1), (last * outputs, after)),
        }[form.kind]
    else:
        parts = {
            "output": ((inputs * r * kh * kw, 1), (r * outputs, 1)),
            "spatial": ((inputs * r * kh, between), (r * outputs * kw, 1)),
            "input": ((inputs * r, before), (r * outputs * kh * kw, 1)),
            "tucker": ((inputs * r, before), (r * last * kh * kw, 1), (last * outputs, 1)),
        }[form.kind]
    weights = float(groups * sum(weights for weights, _ in parts))
    return weights, float(groups * sum(weights * positions for weights, positions in parts))


def saves(layer: Layer, form: Form, share: float = 1.0) -> bool:
    """Return whether a form has at most `share` of the layer's weights and multiplications, and fewer of each."""
    dense, factored = cost_of(layer), cost_of(layer, form)
    return all(new <= share * old and new < old for new, old in zip(factored, dense, strict=True))


def full_rank(layer: Layer, kind: Kind) -> int:
    """Return the rank within a group at which the form can equal the layer."""
    groups, (kh, kw) = groups_of(layer), kernel_of(layer)
    inputs, outputs = (channels // groups for channels in channels_of(layer))
    left = {"output": 1, "spatial": kw, "input": kh * kw, "tucker": kh * kw}[kind]
    return min(inputs * kh * kw // left, outputs * left)


def kinds_for(layer: Layer, kind: Kind | Literal["auto"]) -> tuple[Kind, ...]:
    """Return the kinds to try; with a kernel of one tap, or a line, some leave nothing for the second layer to do."""
    kernel = kernel_of(layer)
    if math.prod(kernel) == 1 or (kind == "spatial" and min(kernel) == 1):
        return ("output",)
    if kind != "auto":
        return (kind,)
    return ("output", "input") if min(kernel) == 1 else ("output", "spatial", "input")


def form_at(layer: Layer, kind: Kind, rank: int) -> Form:
    """Return the form of a kind at a rank; for `tucker` that of the inputs, with the outputs' rank in proportion."""
    if kind != "tucker":
        return Form(kind, (rank,))
    inputs, outputs = (channels // groups_of(layer) for channels in channels_of(layer))
    return Form(kind, (rank, min(max(1, round(rank * outputs / inputs)), outputs)))


def form_within(layer: Layer, kind: Kind, share: float) -> Form | None:
    """Return the largest form of a kind with at most `share` of the layer's weights and multiplications, or None.

    Ranks above eight are multiples of eight, which kernels prefer.
    """
    best = None
    for rank in range(1, full_rank(layer, kind) + 1):
        form = form_at(layer, kind, rank)
        if not saves(layer, form, share):
            break
        if rank <= 8 or rank % 8 == 0:
            best = form
    return best


def left_indices(layer: Layer, kind: Kind) -> int:
    """Return the number of indices b that a form leaves for its second layer."""
    kernel = kernel_of(layer)
    return {"output": 1, "spatial": kernel[1]}.get(kind, math.prod(kernel))
