"""Which techniques may share a recipe, and in what order; decided from declarations, before any work."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from zoo.contracts import Phase, Technique
from zoo.errors import LegalityError
from zoo.recipes.grammar import Recipe

_PHASE_ORDER = {Phase.STRUCTURE: 0, Phase.TRAINING: 1, Phase.NUMERICS: 2}
_PHASE_DOES = {
    Phase.STRUCTURE: "changes structure",
    Phase.TRAINING: "changes training",
    Phase.NUMERICS: "changes the arithmetic",
}

TechniqueClass = type[Technique]


class Relation(str, Enum):
    """What holds for a recipe in which one technique stands somewhere before another."""

    COMMUTES = "commutes"  #: both orders are legal
    ORDERED = "ordered"  #: this order is legal, the other is not
    FORBIDDEN = "forbidden"  #: this order is not legal


def check(techniques: Sequence[TechniqueClass], recipe: Recipe | None = None) -> None:
    """Check that the techniques may be composed in this order.

    Args:
        techniques: In order.
        recipe: The recipe they come from; with it the suggested order keeps the options as written.

    Raises:
        LegalityError: They may not; the message suggests a legal order.
    """
    for later, second in enumerate(techniques):
        for earlier, first in enumerate(techniques[:later]):
            reason = _refusal(first, second)
            if reason and _refusal(second, first):
                raise LegalityError(reason, hint=_without_one(techniques, recipe, earlier, later))
            if reason:
                raise LegalityError(reason + _remedy(techniques, recipe))


def suggest_order(techniques: Sequence[TechniqueClass]) -> tuple[int, ...] | None:
    """Return the positions of the techniques in the nearest legal order; None if no order is legal."""
    order = arrange(techniques)
    if order is None:
        return None
    ordered = [techniques[i] for i in order]
    legal = not any(_refusal(first, second) for i, second in enumerate(ordered) for first in ordered[:i])
    return order if legal else None


def arrange(techniques: Sequence[TechniqueClass]) -> tuple[int, ...] | None:
    """Return the positions in the nearest order in which each comes before those that must follow it; None if none is.

    Unlike :func:`suggest_order` it accepts techniques that cannot share a recipe.
    """
    left = list(range(len(techniques)))
    order: list[int] = []
    while left:
        free = (
            i for i in left if not any(_must_precede(techniques[j], techniques[i]) for j in left if j != i)
        )
        chosen = next(free, None)
        if chosen is None:
            return None
        order.append(chosen)
        left.remove(chosen)
    return tuple(order)


def relation(first: TechniqueClass, second: TechniqueClass) -> Relation:
    """Return what the declarations say about a recipe with `first` before `second`."""
    if _refusal(first, second):
        return Relation.FORBIDDEN
    return Relation.ORDERED if _refusal(second, first) else Relation.COMMUTES


def matrix(techniques: Sequence[TechniqueClass]) -> dict[tuple[str, str], Relation]:
    """Return the relation of every ordered pair, by ids, including a technique with itself."""
    return {(first.id, second.id): relation(first, second) for first in techniques for second in techniques}


# --------------------------------------------------------------------------------------------------- details


def _refusal(first: TechniqueClass, second: TechniqueClass) -> str | None:
    """Why `first` may not stand before `second`, or None."""
    if first is second:
        return None if first.repeatable else f"{first.id} may appear only once in a recipe"
    if first.id in second.conflicts or second.id in first.conflicts:
        return f"{first.id} and {second.id} cannot share a recipe"
    if _must_precede(first, second) and _must_precede(second, first):
        return f"{first.id} and {second.id} each demand to come first, so they cannot share a recipe"
    if not _must_precede(second, first):
        return None
    if _PHASE_ORDER[second.phase] < _PHASE_ORDER[first.phase]:
        return f"{second.id} {_PHASE_DOES[second.phase]} and must come before {first.id}"
    return f"{second.id} must come before {first.id}"


def _must_precede(first: TechniqueClass, second: TechniqueClass) -> bool:
    by_phase = _PHASE_ORDER[first.phase] < _PHASE_ORDER[second.phase]
    return first is not second and (by_phase or second.id in first.before or first.id in second.after)


def _remedy(techniques: Sequence[TechniqueClass], recipe: Recipe | None) -> str:
    order = suggest_order(techniques)
    if order is None:
        return "; no order of these techniques is legal"
    return f"; did you mean {_written(techniques, recipe, order)}?"


def _without_one(
    techniques: Sequence[TechniqueClass], recipe: Recipe | None, earlier: int, later: int
) -> str | None:
    """The recipes that are left, in a legal order, without the one or the other of two stages."""
    rests = []
    for dropped in (later, earlier):
        kept = [i for i in range(len(techniques)) if i != dropped]
        order = suggest_order([techniques[i] for i in kept])
        if order is not None:
            rests.append(_written(techniques, recipe, [kept[i] for i in order]))
    return f"Leave one of them out:  {'  or  '.join(dict.fromkeys(rests))}" if rests else None


def _written(techniques: Sequence[TechniqueClass], recipe: Recipe | None, order: Sequence[int]) -> str:
    names = [technique.id for technique in techniques] if recipe is None else [str(stage) for stage in recipe]
    return "+".join(names[i] for i in order)
