"""A layer as a product of smaller ones: spatial, channel and Tucker-2 factorizations of its weight.

Read the weight W of a layer (out, in, kh, kw) as a matrix from the indices `a` that a first layer takes in to
the output channels and the indices `b` left for the second: W^[o, a, b] = sum over r of B[o, r, b] A[r, a].

    output    a = (in, kh, kw)           k x k to r channels, then 1 x 1             Zhang et al.
    spatial   a = (in, kh)   b = kw      k x 1 to r channels, then 1 x k             Jaderberg et al.
    input     a = in         b = kh, kw  1 x 1 to r channels, then k x k
    tucker    `input`, then `output` of its second layer: 1 x 1, k x k, 1 x 1        Kim et al.

The best A has a closed form: with the moments S of patches and W* = E[y x'] S^-1 the unconstrained best weight,
the output error is |(W* - W^) S^1/2|^2, and truncating the singular value decomposition of W* S^1/2 is optimal
where `b` is empty (reduced-rank regression). Otherwise S is taken as a product S_a (x) S_b to choose A. Then B
and the bias are the exact least-squares solution for that A.

Papers: Jaderberg et al., "Speeding up Convolutional Neural Networks with Low Rank Expansions", BMVC 2014; Zhang
et al., "Accelerating Very Deep Convolutional Networks for Classification and Detection", TPAMI 2016; Kim et
al., "Compression of Deep Convolutional Neural Networks for Fast and Low Power Mobile Applications", ICLR 2016.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from zoo.surgery.reconstruction import (
    ActivationStatistics,
    Layer,
    LeastSquares,
    balance_factors,
    channels_of,
    dense_weight,
    derive_layer,
    derive_pointwise,
    extract_patches,
    fits_in_memory,
    fold_factors,
    groups_of,
    leading_rows,
    relative_error,
    split_metric,
    store_dense_weight,
    unfold_weight,
)
from zoo_techniques.low_rank.forms import (
    Form,
    Kind,
    cost_of,
    form_at,
    form_within,
    full_rank,
    kinds_for,
    left_indices,
    saves,
)

#: White input that stands for the data not seen, over the mean variance of the data.
_RIDGE = 1e-3


class Factors(nn.Sequential):
    """Two or three linear layers in sequence that replace one, with nothing between them."""


@dataclass(frozen=True)
class Size:
    """How small to make a layer: `rank`, else the least rank that keeps `energy`, else `ratio` of the layer's cost."""

    ratio: float = 0.5
    energy: float | None = None
    rank: int | None = None


# -------------------------------------------------------------------------------------------------- closed form


@dataclass
class Fitted:
    """A fitted form.

    Attributes:
        form: The form.
        weights: Of its layers, first to last, (groups, out, in * taps) each.
        merged: Their product, (groups, out, in * taps).
        error: Of the product, as the least-squares problem counts it.
    """

    form: Form
    weights: tuple[Tensor, ...]
    merged: Tensor
    error: float


def first_rows(problem: LeastSquares, layer: Layer, kind: Kind) -> tuple[Tensor, Tensor]:
    """Return the first layer's weight A (groups, full rank, a), best rows first, and the energy that each adds."""
    left = left_indices(layer, kind)
    inner, outer = split_metric(problem.second, left)
    return leading_rows(unfold_weight(problem.solution(), left, outer), inner)


def fit_form(problem: LeastSquares, form: Form, rows: Tensor, left: int) -> Fitted:
    """Return the best layers after a first one.

    Args:
        problem: The least-squares problem of the layer.
        form: The form to fit.
        rows: What the first layer computes, (groups, r, a).
        left: The number of indices b.
    """
    reduced = problem.project(rows, left)
    best = reduced.solution()
    if form.kind != "tucker":
        second: Tensor = best
        weights: tuple[Tensor, ...] = (rows, best)
    else:
        core = leading_rows(best, reduced.second)[0][:, : form.ranks[1]]
        last = reduced.coefficients(core)
        second, weights = last @ core, (rows, core, last)
    merged = fold_factors(second, rows)
    return Fitted(form, weights, merged, problem.error(merged))


def fit_layer(problem: LeastSquares, layer: Layer, form: Form) -> Fitted:
    """Return the best layers of a form, the first one included."""
    rows = first_rows(problem, layer, form.kind)[0][:, : form.ranks[0]]
    return fit_form(problem, form, rows, left_indices(layer, form.kind))


# ----------------------------------------------------------------------------------------------------- stand-in


class LowRankReplacement:
    """Fit the factorization of one layer; a :class:`zoo.surgery.reconstruction.LayerReplacement`.

    Patches too wide for their moments to be held are seen through the first layer that the weights alone give.
    """

    def __init__(self, layer: Layer, kind: Kind | Literal["auto"], size: Size) -> None:
        self._layer, self._size = layer, size
        self._kinds = kinds_for(layer, kind)
        self._weight = dense_weight(layer).double().flatten(2)
        self._whole = fits_in_memory(*self._weight.shape[::2])
        self._moments: ActivationStatistics | None = None
        self._narrow: tuple[Form, Tensor, int] | None = None
        self._refusal: str | None = None

    def observe(self, image: Tensor, at: Tensor, targets: Tensor | None = None) -> None:
        """Add the data of one image, (1, in, H, W), at some positions; see the protocol."""
        if self._moments is None:
            self._moments = self._begin()
        if self._refusal is not None:
            return
        groups = len(self._weight)
        seen = extract_patches(self._layer, image, at).float().cpu()
        seen = seen.reshape(len(seen), groups, -1)
        if self._narrow is not None:
            _, rows, left = self._narrow
            seen = torch.einsum("ngab,gra->ngrb", seen.view(len(seen), groups, -1, left), rows.float())
            seen = seen.flatten(2)
        self._moments.add(seen, targets)

    def _begin(self) -> ActivationStatistics:
        weight = self._weight
        if not self._whole:
            found = self._fit(self._problem(ActivationStatistics(weight, self._layer.bias)))
            if isinstance(found, str):
                self._refusal = found
            else:
                self._narrow = (found.form, found.weights[0], left_indices(self._layer, found.form.kind))
                weight = found.weights[1] if len(found.weights) == 2 else found.weights[2] @ found.weights[1]
        return ActivationStatistics(weight, self._layer.bias)

    def build(self) -> tuple[nn.Module, float] | str:
        """Return the factors and their relative error, or why the layer should stay."""
        if self._refusal is not None:
            return self._refusal
        moments = self._moments or ActivationStatistics(self._weight, self._layer.bias)
        problem = self._problem(moments)
        if self._narrow is None:
            found = self._fit(problem)
        else:
            form, rows, left = self._narrow
            eye = torch.eye(rows.shape[1], dtype=rows.dtype).expand(len(rows), -1, -1)
            inner = fit_form(problem, form, eye, left)
            found = Fitted(form, (rows, *inner.weights[1:]), inner.merged, inner.error)
        if isinstance(found, str):
            return found
        module = build_factors(self._layer, found.form, found.weights, problem.bias(found.merged))
        return module, relative_error(found.error, moments.target_power())

    def _problem(self, moments: ActivationStatistics) -> LeastSquares:
        # Fewer positions than features say nothing about some directions: there the weights decide.
        width = self._weight.shape[2]
        return moments.problem(_RIDGE * max(1.0, width / max(moments.count, 1)))

    def _fit(self, problem: LeastSquares) -> Fitted | str:
        """The form of least error, or why there is none."""
        best, refusals = None, []
        for kind in self._kinds:
            rows, energy = first_rows(problem, self._layer, kind)
            form = self._form(kind, energy)
            if isinstance(form, str):
                refusals.append(form)
                continue
            fitted = fit_form(problem, form, rows[:, : form.ranks[0]], left_indices(self._layer, kind))
            if best is None or self._merit(fitted) < self._merit(best):
                best = fitted
        return best or "; ".join(refusals)

    def _form(self, kind: Kind, energy: Tensor) -> Form | str:
        """How far to go with a kind, or why it does not pay."""
        size = self._size
        if size.rank is None and size.energy is None:
            form = form_within(self._layer, kind, size.ratio)
            return form or f"no {kind} form has {size.ratio:g} of its cost"
        if size.rank is not None:
            rank = size.rank
        else:
            kept = energy.sum(0).cumsum(0)
            rank = int((kept < cast(float, size.energy) * kept[-1]).sum()) + 1
        form = form_at(self._layer, kind, min(rank, full_rank(self._layer, kind)))
        return form if saves(self._layer, form) else f"its {kind} form of rank {rank} would save nothing"

    def _merit(self, fitted: Fitted) -> float:
        """What the kinds are compared by: the error at one cost, or the cost where ranks follow the energy."""
        fixed = self._size.rank is None and self._size.energy is None
        return fitted.error if fixed else cost_of(self._layer, fitted.form)[0]


@torch.no_grad()
def build_factors(layer: Layer, form: Form, weights: tuple[Tensor, ...], bias: Tensor | None) -> Factors:
    """Return the layers of a form that replace `layer`, their weights balanced.

    Args:
        layer: The layer to replace.
        form: The form.
        weights: First to last, (groups, out, in * taps) each.
        bias: (out,) of the last layer, or None.
    """
    groups = groups_of(layer)
    inputs, outputs = channels_of(layer)
    ranks = [rank * groups for rank in form.ranks]
    if form.kind == "output":
        layers = [derive_layer(layer, inputs, ranks[0]), derive_pointwise(layer, ranks[0], outputs)]
    elif form.kind == "spatial":
        layers = [
            derive_layer(layer, inputs, ranks[0], axes=(True, False)),
            derive_layer(layer, ranks[0], outputs, axes=(False, True)),
        ]
    elif form.kind == "input":
        layers = [derive_pointwise(layer, inputs, ranks[0]), derive_layer(layer, ranks[0], outputs)]
    else:
        layers = [
            derive_pointwise(layer, inputs, ranks[0]),
            derive_layer(layer, *ranks),
            derive_pointwise(layer, ranks[1], outputs),
        ]
    if bias is not None:
        last = layers[-1]
        last.bias = nn.Parameter(bias.to(layer.weight.device, layer.weight.dtype))
    for new, weight in zip(layers, balance_factors(weights), strict=True):
        store_dense_weight(new, weight)
        new.requires_grad_(layer.weight.requires_grad)
    names = ("first", "second", "third")
    return Factors(OrderedDict(zip(names, layers, strict=False))).train(layer.training)
