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

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from zoo.surgery.factors import balanced, fold, leading_rows, split_metric, unfolded
from zoo.surgery.moments import LeastSquares, Moments, fits_in_memory, ratio
from zoo.surgery.parts import part, pointwise
from zoo.surgery.windows import (
    Layer,
    channels_of,
    dense_weight,
    groups_of,
    kernel_of,
    patches,
    store_dense_weight,
)

Kind = Literal["output", "spatial", "input", "tucker"]
KINDS: tuple[Kind, ...] = ("output", "spatial", "input", "tucker")
#: White input that stands for the data not seen, over the mean variance of the data.
_RIDGE = 1e-3


class Factors(nn.Sequential):
    """Two or three linear layers, one after the other, in place of one; nothing between them."""


@dataclass(frozen=True)
class Form:
    """A factorization of one layer: its kind, and the ranks within a group of channels (two for `tucker`)."""

    kind: Kind
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class Size:
    """How far to go: `rank`, else the least rank that keeps `energy`, else `ratio` of the layer's cost."""

    ratio: float = 0.5
    energy: float | None = None
    rank: int | None = None


# ----------------------------------------------------------------------------------------------------- the cost


def cost_of(layer: Layer, form: Form | None = None) -> tuple[float, float]:
    """Weights, and multiply-accumulates per position of the layer's coarser side, of the layer or of a form of it."""
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
    """Whether a form has at most `share` of the layer's weights and multiplications, and fewer of each."""
    dense, factored = cost_of(layer), cost_of(layer, form)
    return all(new <= share * old and new < old for new, old in zip(factored, dense, strict=True))


def full_rank(layer: Layer, kind: Kind) -> int:
    """The rank within a group at which the form can be the layer itself."""
    groups, (kh, kw) = groups_of(layer), kernel_of(layer)
    inputs, outputs = (channels // groups for channels in channels_of(layer))
    left = {"output": 1, "spatial": kw, "input": kh * kw, "tucker": kh * kw}[kind]
    return min(inputs * kh * kw // left, outputs * left)


def kinds_for(layer: Layer, kind: Kind | Literal["auto"]) -> tuple[Kind, ...]:
    """The kinds to try: a kernel of one tap, or one that is a line, leaves nothing for the second layer to do."""
    kernel = kernel_of(layer)
    if math.prod(kernel) == 1 or (kind == "spatial" and min(kernel) == 1):
        return ("output",)
    if kind != "auto":
        return (kind,)
    return ("output", "input") if min(kernel) == 1 else ("output", "spatial", "input")


def form_at(layer: Layer, kind: Kind, rank: int) -> Form:
    """The form of a kind at a rank; for `tucker` the rank of the inputs, that of the outputs in proportion."""
    if kind != "tucker":
        return Form(kind, (rank,))
    inputs, outputs = (channels // groups_of(layer) for channels in channels_of(layer))
    return Form(kind, (rank, min(max(1, round(rank * outputs / inputs)), outputs)))


def form_within(layer: Layer, kind: Kind, share: float) -> Form | None:
    """The largest form of a kind that has at most `share` of the layer's weights and multiplications.

    Ranks above eight are multiples of eight, which kernels like.
    """
    best = None
    for rank in range(1, full_rank(layer, kind) + 1):
        form = form_at(layer, kind, rank)
        if not saves(layer, form, share):
            break
        if rank <= 8 or rank % 8 == 0:
            best = form
    return best


# -------------------------------------------------------------------------------------------------- closed form


@dataclass
class Fitted:
    """The weights of a form's layers, first to last, (groups, out, in * taps) each, their product and its error."""

    form: Form
    weights: tuple[Tensor, ...]
    merged: Tensor
    error: float


def fit_form(problem: LeastSquares, form: Form, rows: Tensor, left: int) -> Fitted:
    """The best layers after a first one that computes `rows` (groups, r, a); b being `left` indices."""
    reduced = problem.through(rows, left)
    if form.kind != "tucker":
        second = reduced.best()
        weights: tuple[Tensor, ...] = (rows, second)
    else:
        best = reduced.best()
        core = leading_rows(best, reduced.second)[0][:, : form.ranks[1]]
        last = reduced.solve(core)
        second, weights = last @ core, (rows, core, last)
    merged = fold(second, rows)
    return Fitted(form, weights, merged, problem.error(merged))


# ----------------------------------------------------------------------------------------------------- stand-in


class LowRankStandIn:
    """Fits the factorization of one layer; a :class:`zoo.surgery.substitute.StandIn`.

    Patches too wide for their moments to be held are seen through the first layer that the weights alone give.
    """

    def __init__(self, layer: Layer, kind: Kind | Literal["auto"], size: Size) -> None:
        self._layer, self._size = layer, size
        self._kinds = kinds_for(layer, kind)
        self._weight = dense_weight(layer).double().flatten(2)
        self._whole = fits_in_memory(*self._weight.shape[::2])
        self._moments: Moments | None = None
        self._narrow: tuple[Form, Tensor, int] | None = None

    def add(self, image: Tensor, at: Tensor, targets: Tensor | None = None) -> None:
        if self._moments is None:
            self._begin()
        assert self._moments is not None
        groups = len(self._weight)
        seen = patches(self._layer, image, at).float().cpu()
        seen = seen.reshape(len(seen), groups, -1)
        if self._narrow is not None:
            _, rows, left = self._narrow
            seen = torch.einsum("ngab,gra->ngrb", seen.view(len(seen), groups, -1, left), rows.float())
            seen = seen.flatten(2)
        self._moments.add(seen, targets)

    def _begin(self) -> None:
        weight = self._weight
        if not self._whole:
            found = self._fitted(self._problem(None))
            if not isinstance(found, str):
                self._narrow = (found.form, found.weights[0], self._left(found.form.kind))
                weight = found.weights[1] if len(found.weights) == 2 else found.weights[2] @ found.weights[1]
        self._moments = Moments(weight, self._layer.bias)

    def finish(self) -> tuple[nn.Module, float] | str:
        moments = self._moments
        problem = self._problem(moments)
        if self._narrow is None:
            found = self._fitted(problem)
        else:
            form, rows, left = self._narrow
            eye = torch.eye(rows.shape[1], dtype=rows.dtype).expand(len(rows), -1, -1)
            inner = fit_form(problem, form, eye, left)
            found = Fitted(form, (rows, *inner.weights[1:]), inner.merged, inner.error)
        if isinstance(found, str):
            return found
        module = build(self._layer, found.form, found.weights, problem.bias(found.merged))
        if moments is not None and moments.count:
            return module, ratio(found.error, moments.wanted_power())
        missed = float((problem.weight - found.merged).square().sum())
        return module, ratio(missed, float(problem.weight.square().sum()))

    def _problem(self, moments: Moments | None) -> LeastSquares:
        if moments is None:
            return Moments(self._weight, self._layer.bias).problem(_RIDGE)
        # Fewer positions than features tell nothing of some directions: there the weights shall decide.
        width = self._weight.shape[2]
        return moments.problem(_RIDGE * max(1.0, width / max(moments.count, 1)))

    def _left(self, kind: Kind) -> int:
        kernel = kernel_of(self._layer)
        return {"output": 1, "spatial": kernel[1]}.get(kind, math.prod(kernel))

    def _fitted(self, problem: LeastSquares) -> Fitted | str:
        """The form of least error, or why there is none."""
        best, refusals, unconstrained = None, [], problem.best()
        for kind in self._kinds:
            left = self._left(kind)
            inner, outer = split_metric(problem.second, left)
            if self._size.rank is None and self._size.energy is None:
                form = form_within(self._layer, kind, self._size.ratio)
                if form is None:
                    refusals.append(f"no {kind} form has {self._size.ratio:g} of its cost")
                    continue
                rows = leading_rows(unfolded(unconstrained, left, outer), inner)[0]
            else:
                rows, energy = leading_rows(unfolded(unconstrained, left, outer), inner)
                form = form_at(self._layer, kind, self._rank(energy, full_rank(self._layer, kind)))
                if not saves(self._layer, form):
                    refusals.append(f"its {kind} form of rank {form.ranks[0]} would save nothing")
                    continue
            fitted = fit_form(problem, form, rows[:, : form.ranks[0]], left)
            if problem.second is None:
                fitted.error = float((problem.weight - fitted.merged).square().sum())
            if best is None or self._merit(fitted) < self._merit(best):
                best = fitted
        return best or "; ".join(refusals)

    def _merit(self, fitted: Fitted) -> float:
        """What the kinds are compared by: the error at one cost, or the cost where ranks follow the energy."""
        fixed = self._size.rank is None and self._size.energy is None
        return fitted.error if fixed else cost_of(self._layer, fitted.form)[0]

    def _rank(self, energy: Tensor, full: int) -> int:
        if self._size.rank is not None:
            return min(self._size.rank, full)
        assert self._size.energy is not None
        kept = energy.sum(0).cumsum(0)
        enough = int((kept < self._size.energy * kept[-1]).sum()) + 1
        return min(enough, full)


@torch.no_grad()
def build(layer: Layer, form: Form, weights: tuple[Tensor, ...], bias: Tensor | None) -> Factors:
    """The layers of a form with these weights, in place of `layer`; each gets a weight of the same norm per rank."""
    groups = groups_of(layer)
    inputs, outputs = channels_of(layer)
    ranks = [rank * groups for rank in form.ranks]
    if form.kind == "output":
        layers = [part(layer, inputs, ranks[0]), pointwise(layer, ranks[0], outputs)]
    elif form.kind == "spatial":
        layers = [
            part(layer, inputs, ranks[0], axes=(True, False)),
            part(layer, ranks[0], outputs, axes=(False, True)),
        ]
    elif form.kind == "input":
        layers = [pointwise(layer, inputs, ranks[0]), part(layer, ranks[0], outputs)]
    else:
        layers = [
            pointwise(layer, inputs, ranks[0]),
            part(layer, *ranks),
            pointwise(layer, ranks[1], outputs),
        ]
    if bias is not None:
        last = layers[-1]
        last.bias = nn.Parameter(bias.to(layer.weight.device, layer.weight.dtype))
    for new, weight in zip(layers, balanced(weights), strict=True):
        store_dense_weight(new, weight)
        new.requires_grad_(layer.weight.requires_grad)
    names = ("first", "second", "third")
    return Factors(OrderedDict(zip(names, layers, strict=False))).train(layer.training)
