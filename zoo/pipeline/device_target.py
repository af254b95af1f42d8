"""Making a network for a device: what the recipe takes from the profile, and what will not pay there."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo import plugins
from zoo.contracts import Phase
from zoo.errors import ZooError
from zoo.recipes.canonical import resolve as resolve_recipe
from zoo.recipes.grammar import Recipe, Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.contracts import DeviceProfile, KernelGap, Technique
    from zoo.pipeline.layer_kinds import Layers
    from zoo.recipes.canonical import LoadedRecipe, ResolvedRecipe

#: The option of techniques that choose how many channels a layer keeps.
_ROUNDING = "round_to"


@dataclass(frozen=True)
class Advice:
    """Something that will not pay on a device.

    Attributes:
        remedy: What to type instead, "" if nothing helps.
    """

    device: str
    what: str
    effect: str
    remedy: str
    source: str

    def __str__(self) -> str:
        return f"On {self.device}, {self.what}: {self.effect.rstrip('.')}.{self.remedy and ' ' + self.remedy}"

    def to_json(self) -> dict[str, str]:
        """Return a plain dictionary for metrics.json and `--json`."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Target:
    """The device that a network is made for.

    Attributes:
        changes: What was adapted to its profile, one sentence each.
        advice: What will not pay there; empty before the network is rewritten.
    """

    profile: DeviceProfile
    changes: tuple[str, ...] = ()
    advice: tuple[Advice, ...] = ()

    @property
    def remarks(self) -> list[str]:
        """Return the changes and the advice in words."""
        return [*self.changes, *map(str, self.advice)]

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for metrics.json and `--json`."""
        advice = [each.to_json() for each in self.advice]
        return {"id": self.profile.id, "changes": list(self.changes), "advice": advice}


@dataclass(frozen=True)
class Specialized:
    """The recipe and half_weights that suit a device.

    Attributes:
        target: None for no device.
    """

    recipe: LoadedRecipe | None
    half_weights: bool
    target: Target | None = None


def specialize_for_device(recipe: LoadedRecipe | None, device: str, *, half_weights: bool) -> Specialized:
    """Return what the device called `device` asks for and the user did not state; "" for no device.

    Where a device computes float16 and the recipe leaves the numbers alone, weights are stored in 16 bits.
    Where its kernels want channels in multiples, techniques that choose their number round to those.

    Raises:
        UnknownIdError: The device does not exist.
    """
    if not device:
        return Specialized(recipe, half_weights)
    profile = plugins.device(device)
    changes: list[str] = []
    precision = _precision(profile, recipe.classes if recipe else ())
    multiple = max((gap.multiple for gap in profile.gaps if _concerns(gap, precision)), default=0)
    if recipe is not None and multiple:
        stages = tuple(
            _rounded(stage, technique, multiple)
            for stage, technique in zip(recipe.recipe, recipe.classes, strict=True)
        )
        changes += [
            f"{stage.technique}: {_ROUNDING}={multiple}, as the kernels of {profile.id} require."
            for stage, before in zip(stages, recipe.recipe, strict=True)
            if stage != before
        ]
        recipe = dataclasses.replace(recipe, recipe=Recipe(stages))
    if precision == "float16" and not half_weights:
        changes.append(f"Weights are stored in 16 bits: {profile.id} computes in float16.")
        half_weights = True
    return Specialized(recipe, half_weights, Target(profile, tuple(changes)))


def advise(target: Target, recipe: ResolvedRecipe | None, layers: Layers) -> Target:
    """Return `target` with what will not pay of a network of these layers, after the recipe's rewrites."""
    techniques = recipe.techniques if recipe else ()
    precision = _precision(target.profile, techniques)
    advice = tuple(
        Advice(target.profile.id, _what(gap, layers), gap.effect, _remedy(gap, recipe), gap.source)
        for gap in target.profile.gaps
        if gap.readable
        and _concerns(gap, precision)
        and layers.kinds.issuperset(gap.operators)
        and (not gap.multiple or layers.odd(gap.multiple))
    )
    return dataclasses.replace(target, advice=advice)


def _precision(profile: DeviceProfile, techniques: Sequence[Technique | type[Technique]]) -> str:
    """Return what the network is computed in: int8 after a technique that changes numbers, else the best float."""
    if any(technique.phase is Phase.NUMERICS for technique in techniques):
        return "int8"
    return next((each for each in profile.precisions if "float" in each), "float32")


def _concerns(gap: KernelGap, precision: str) -> bool:
    return gap.precision in ("", precision)


def _what(gap: KernelGap, layers: Layers) -> str:
    odd = layers.odd(gap.multiple) if gap.multiple else 0
    return f"{gap.what} ({odd} of {len(layers.channels)} convolutions here)" if odd else gap.what


def _rounded(stage: Stage, technique: type[Technique], multiple: int) -> Stage:
    known = {field.name for field in dataclasses.fields(technique.Config)}
    if _ROUNDING not in known or _ROUNDING in stage.option_map:
        return stage
    return Stage(stage.technique, (*stage.options, (_ROUNDING, str(multiple))))


def _remedy(gap: KernelGap, recipe: ResolvedRecipe | None) -> str:
    """Return the recipe with the remedy as its last change of structure, if that is legal; else ""."""
    if recipe is None or not gap.remedy or any(each.id == gap.remedy for each in recipe.techniques):
        return ""
    place = sum(each.phase is Phase.STRUCTURE for each in recipe.techniques)
    stages = list(recipe.written)
    stages.insert(place, Stage(gap.remedy))
    better = Recipe(tuple(stages))
    try:
        resolve_recipe(better)
    except ZooError:
        return ""
    return f"Better:  {better}"
