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
    from zoo.pipeline.request import Request

#: The option of techniques that choose how many channels a layer keeps.
_ROUNDING = "round_to"


@dataclass(frozen=True)
class Advice:
    """Something that will not pay on a device. remedy: what to type instead, "" if nothing helps."""

    device: str
    what: str
    effect: str
    remedy: str
    source: str

    def __str__(self) -> str:
        return f"On {self.device}, {self.what}: {self.effect.rstrip('.')}.{self.remedy and ' ' + self.remedy}"

    def to_json(self) -> dict[str, str]:
        """A plain dictionary for metrics.json and `--json`."""
        return dataclasses.asdict(self)


@dataclass
class Target:
    """The device that a network is made for. changes: what was taken from its profile, a sentence each."""

    profile: DeviceProfile
    changes: tuple[str, ...] = ()
    advice: tuple[Advice, ...] = ()

    @property
    def remarks(self) -> list[str]:
        """All of it in words."""
        return [*self.changes, *map(str, self.advice)]

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for metrics.json and `--json`."""
        advice = [each.to_json() for each in self.advice]
        return {"id": self.profile.id, "changes": list(self.changes), "advice": advice}


def aimed(request: Request) -> tuple[Request, Target | None]:
    """The request with what its device asks for and the user did not state; None for no device.

    Where a device computes float16 and the recipe leaves the numbers alone, weights are stored in 16 bits. Where its
    kernels want channels in multiples, techniques that choose their number round to those. Raises UnknownIdError.
    """
    if not request.device:
        return request, None
    profile = plugins.device(request.device)
    changes: list[str] = []
    recipe = request.recipe
    precision = _precision(profile, resolve_recipe(recipe).techniques if recipe else ())
    multiple = max((gap.multiple for gap in profile.gaps if _concerns(gap, precision)), default=0)
    if recipe is not None and multiple:
        stages = tuple(_rounded(stage, multiple) for stage in recipe)
        changes += [
            f"{stage.technique}: {_ROUNDING}={multiple}, as the kernels of {profile.id} take channels."
            for stage, before in zip(stages, recipe, strict=True)
            if stage != before
        ]
        request = dataclasses.replace(request, recipe=Recipe(stages))
    if precision == "float16" and not request.half_weights:
        changes.append(f"Weights are stored in 16 bits: {profile.id} computes in float16.")
        request = dataclasses.replace(request, half_weights=True)
    return request, Target(profile, tuple(changes))


def advise(target: Target, recipe: Recipe | None, techniques: Sequence[Technique], layers: Layers) -> None:
    """Put into `target` what will not pay of a network of these layers, after the recipe's rewrites."""
    precision = _precision(target.profile, techniques)
    target.advice = tuple(
        Advice(
            target.profile.id, _what(gap, layers), gap.effect, _remedy(gap, recipe, techniques), gap.source
        )
        for gap in target.profile.gaps
        if gap.readable
        and _concerns(gap, precision)
        and layers.kinds.issuperset(gap.operators)
        and (not gap.multiple or layers.odd(gap.multiple))
    )


def _precision(profile: DeviceProfile, techniques: Sequence[Technique]) -> str:
    """What the network is to be computed in: int8 after a technique that changes numbers, else the best float."""
    if any(technique.phase is Phase.NUMERICS for technique in techniques):
        return "int8"
    return next((each for each in profile.precisions if "float" in each), "float32")


def _concerns(gap: KernelGap, precision: str) -> bool:
    return gap.precision in ("", precision)


def _what(gap: KernelGap, layers: Layers) -> str:
    odd = layers.odd(gap.multiple) if gap.multiple else 0
    return f"{gap.what} ({odd} of {len(layers.channels)} convolutions here)" if odd else gap.what


def _rounded(stage: Stage, multiple: int) -> Stage:
    config = plugins.load("techniques", stage.technique).Config
    known = {field.name for field in dataclasses.fields(config)}
    if _ROUNDING not in known or _ROUNDING in stage.option_map:
        return stage
    return Stage(stage.technique, (*stage.options, (_ROUNDING, str(multiple))))


def _remedy(gap: KernelGap, recipe: Recipe | None, techniques: Sequence[Technique]) -> str:
    """The recipe with the remedy as its last change of structure, if that is legal; else ""."""
    if recipe is None or not gap.remedy or any(each.id == gap.remedy for each in techniques):
        return ""
    place = sum(each.phase is Phase.STRUCTURE for each in techniques)
    stages = list(recipe)
    stages.insert(place, Stage(gap.remedy))
    better = Recipe(tuple(stages))
    try:
        resolve_recipe(better)
    except ZooError:
        return ""
    return f"Better:  {better}"
