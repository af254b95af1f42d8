"""What a recipe costs at least, before anything is carried out: from the shapes of the rewritten network alone."""

from __future__ import annotations

import copy
import functools
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo import plugins
from zoo.contracts import Phase
from zoo.errors import ZooError
from zoo.pipeline.device_target import specialize_for_device
from zoo.recipes import canonical
from zoo.search.goals import Goal
from zoo.search.network_context import open_context

if TYPE_CHECKING:
    from torch import nn

    from zoo.contracts import Architecture, Context, InputSpec, Technique
    from zoo.pipeline.request import ApplyRequest
    from zoo.recipes.canonical import ResolvedRecipe

#: Rewritten networks that are kept, so that recipes with the same beginning rewrite it once.
_MOST_KEPT = 12
_FLOAT_BITS, _HALF_BITS = 32, 16


@dataclass(frozen=True)
class Counts:
    """What a recipe's file costs.

    Attributes:
        macs: Multiply-accumulates for the example input.
        least_bytes: The weights of its convolutions and linear layers at the width that the recipe states; the file
            holds biases, scales and the graph in addition.
    """

    macs: int
    least_bytes: int

    def value(self, goal: Goal) -> float | None:
        """Return the least that the value of a goal can be; None if counts do not tell."""
        known: Mapping[Goal, int] = {
            "macs": self.macs,
            "size": self.least_bytes,
            "memory": self.least_bytes,
        }
        return known.get(goal)


class ExactCounts:
    """Counts what recipes cost by carrying out their rewrites and nothing else.

    Techniques that can do so are rewritten without fitting; others, whose shapes depend on weights or data, are
    rewritten as they will be when the recipe is carried out. Nothing is trained or exported.

    Args:
        base: Everything but the recipe.
    """

    def __init__(self, base: ApplyRequest) -> None:
        self._base = base
        self._contexts: dict[InputSpec, Context | None] = {}
        self._kept: OrderedDict[str, nn.Module] = OrderedDict()

    def count(self, recipe: ResolvedRecipe) -> Counts | None:
        """Return the counts of a recipe; None if they are not known before it is carried out."""
        try:
            recipe, half_weights = self._specialized(recipe)
            structure = [each for each in recipe.techniques if each.phase is Phase.STRUCTURE]
            names = [
                str(stage)
                for stage, each in zip(recipe.recipe, recipe.techniques, strict=True)
                if each.phase is Phase.STRUCTURE
            ]
            context = self._context(recipe.techniques)
            if context is None:
                return None
            model = self._rewritten(structure, names, context)
            bits = _bits(recipe.techniques, half_weights=half_weights)
            return _counts(model, context.architecture.input, bits)
        except (
            Exception
        ):  # whatever is wrong with it is said when it is carried out; a plugin may raise anything
            return None

    # ------------------------------------------------------------------------------------------ details

    def _specialized(self, recipe: ResolvedRecipe) -> tuple[ResolvedRecipe, bool]:
        base = self._base
        if not base.device:
            return recipe, base.half_weights
        loaded = canonical.load(recipe.written)
        found = specialize_for_device(loaded, base.device, half_weights=base.half_weights)
        assert found.recipe is not None
        return canonical.configure(found.recipe), found.half_weights

    def _rewritten(self, structure: Sequence[Technique], names: Sequence[str], context: Context) -> nn.Module:
        """Return the network after its rewrites, those without fitting where what follows looks at shapes only."""
        plain = [each.without_fitting() for each in structure]
        fitted = max((place for place, each in enumerate(plain) if each is None), default=-1) + 1
        chain = [*structure[:fitted], *(each for each in plain[fitted:] if each is not None)]
        try:
            return self._chain(chain, names, fitted, context)
        except ZooError:
            if fitted == len(structure):
                raise
            return self._chain(structure, names, len(structure), context)

    def _chain(
        self, chain: Sequence[Technique], names: Sequence[str], fitted: int, context: Context
    ) -> nn.Module:
        keys = [str(context.architecture.input)]
        for place, name in enumerate(names):
            keys.append(f"{keys[-1]} + {name} {'fitted' if place < fitted else ''}")
        done = next((many for many in range(len(chain), 0, -1) if keys[many] in self._kept), 0)
        model = self._kept[keys[done]] if done else context.teacher
        assert model is not None, "a context that is opened here has the network before the recipe"
        for place in range(done, len(chain)):
            model = chain[place].rewrite(copy.deepcopy(model).eval(), context)
            self._kept[keys[place + 1]] = model
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return model

    def _context(self, techniques: Sequence[Technique]) -> Context | None:
        """Return what techniques may use; None if the network or its data cannot be opened, which is tried once."""
        from zoo.pipeline.input_spec import adapt_input

        suited = adapt_input(self._architecture, techniques)
        if suited.input not in self._contexts:
            self._contexts[suited.input] = None
            self._contexts[suited.input] = open_context(self._base, suited)
        return self._contexts[suited.input]

    @functools.cached_property
    def _architecture(self) -> Architecture:
        base = self._base.architecture
        return plugins.architecture(base, own_files=True) if isinstance(base, str) else base


def _bits(techniques: Sequence[Technique], *, half_weights: bool) -> float:
    """Return the fewest bits that a weight takes, 0 if nothing is known."""
    numerics = [each.least_weight_bits for each in techniques if each.phase is Phase.NUMERICS]
    plain = _HALF_BITS if half_weights else _FLOAT_BITS
    return min([plain, *(0.0 if each is None else each for each in numerics)])


def _counts(model: nn.Module, spec: InputSpec, bits: float) -> Counts:
    import torch

    from zoo.cost import model_cost

    shape = (1, spec.channels, *spec.example)
    try:
        cost = model_cost(model, torch.empty(shape, device="meta"))
    except Exception:  # operators that do not know meta tensors raise all kinds of errors
        cost = model_cost(model, torch.zeros(shape))
    modules = dict(model.named_modules())
    used = {
        id(weight): weight.numel()
        for layer in cost.layers
        if layer.macs and layer.name in modules
        for weight in modules[layer.name].parameters(recurse=False)
        if weight.dim() > 1
    }
    return Counts(cost.macs, math.ceil(sum(used.values()) * bits / 8))


def beyond(counts: Counts, limits: Mapping[Goal, float]) -> dict[Goal, float]:
    """Return by how much each budget is exceeded, as a share of it; only those that are."""
    found = {goal: value / limit - 1 for goal, limit in limits.items() if (value := counts.value(goal))}
    return {goal: share for goal, share in found.items() if share > 0}
