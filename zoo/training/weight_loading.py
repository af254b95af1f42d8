"""Putting a file of weights into a network, and saying what matched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import IntegrityError, UsageError
from zoo.suggest import did_you_mean
from zoo.training.weight_files import WeightFile, is_average, read_weight_file
from zoo.training.weight_matching import Match, match_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.contracts import Architecture

#: What batch norms keep.
_AVERAGED = ("running_mean", "running_var")


def load_weight_file(
    model: nn.Module, architecture: Architecture, path: Path, *, entry: str = "", partial: bool = False
) -> str:
    """Put the weights in a file into `model`.

    Of several sets in the file, the one that fits best is taken; where several fit, a moving average first.

    Args:
        model: Changed in place. Weights that it computes become plain tensors if the file holds their values.
        architecture: Of the network.
        path: The file.
        entry: The place in the file to take; "" to choose.
        partial: Whether tensors may be missing or left over.

    Returns:
        A sentence that says which set was taken, and what matched.

    Raises:
        UsageError: The file does not fit the network, or has no such entry.
        IntegrityError: It is damaged, or holds numbers that are not finite.
        InputError: It cannot be read without executing code.
    """
    file = read_weight_file(path)
    if entry and entry not in file.entries:
        raise UsageError(
            f"{path} has no weights called '{entry}'{did_you_mean(entry, file.entries) or '.'}",
            hint=f"Those it has: {', '.join(each or '(top)' for each in file.entries)}",
        )
    place, match, others = _best(model, file, entry)
    if not match.complete and make_plain(model, architecture):
        place, match, others = _best(model, file, entry)
    where = f"{path.name}{f', entry {place!r}' if place else ''}"
    total = len(match.values) + len(match.missing) + len(match.other_shape)
    if not match.complete and not (partial and match.values):
        hint = "Name the network that they belong to" + (
            ", or load what matches with --partial." if match.values else "."
        )
        raise UsageError(
            f"The weights of {where} do not fit {architecture.id}: {len(match.values)} of its {total} tensors match; "
            f"{match.problems()}.",
            hint=hint,
        )
    widened = _put(model, match, path)
    said = [
        f"{len(match.values)} of {total} tensors matched",
        match.renamed,
        widened,
        _averaged(place, others),
    ]
    if not match.complete:
        said.append(f"loaded in part: {match.problems()}")
    return f"Weights: {where}: {'; '.join(filter(None, said))}."


def check_finite(model: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Check that a network can be computed with the numbers in a state.

    What it neither learns nor averages may be infinite, as masks of attention are, but not NaN.

    Args:
        model: The network.
        state: Tensors (...,) of any shape and type, by their keys in its state dict.
        where: They are from, for messages.

    Raises:
        IntegrityError: A number is not finite.
    """
    learned = {name for name, _ in model.named_parameters()}
    for key, values in state.items():
        if not values.is_floating_point():
            continue
        masks = key not in learned and not key.endswith(_AVERAGED)
        bad = values.isnan() if masks else ~values.isfinite()
        if bool(bad.any()):
            raise IntegrityError(
                f"{where}: {int(bad.sum())} of the {values.numel()} numbers of the tensor '{key}' are NaN or infinite.",
                hint="Take an earlier checkpoint of that training.",
            )


def make_plain(model: nn.Module, architecture: Architecture | None) -> bool:
    """Store the values of weights that a network computes, and give its layers torch's classes, in place.

    Returns:
        Whether anything changed.
    """
    from zoo.surgery.plain_layers import make_layers_plain
    from zoo.surgery.plain_weights import make_weights_plain
    from zoo.training.inputs import example_of

    weights = make_weights_plain(model)
    layers = make_layers_plain(model, example_of(architecture.input)) if architecture is not None else []
    return bool(weights or layers)


def _best(model: nn.Module, file: WeightFile, entry: str) -> tuple[str, Match, list[str]]:
    """Return the entry to take with its match, and the other entries that fit as well."""
    matches = {
        place: match_tensors(model, tensors)
        for place, tensors in file.entries.items()
        if place == entry or not entry
    }
    ranked = sorted(matches, key=lambda each: (matches[each].rank, is_average(each)), reverse=True)
    best = ranked[0]
    others = [each for each in ranked[1:] if matches[each].complete]
    return best, matches[best], others


def _averaged(place: str, others: list[str]) -> str:
    """Return which of several sets that fit was taken."""
    if not others:
        return ""
    kind = "the moving average" if is_average(place) else "the first that fits"
    choices = " or ".join(f"--weights-key {each or chr(39) * 2}" for each in others[:3])
    return f"{kind} was taken, for another set use {choices}"


def _put(model: nn.Module, match: Match, path: Path) -> str:
    """Put matched values into the network in its own types; return what was converted."""
    state = dict(model.state_dict())
    converted: dict[str, None] = {}
    for key, value in match.values.items():
        new = value.to(state[key].dtype)
        if value.dtype != new.dtype:
            converted[str(value.dtype).removeprefix("torch.")] = None
        state[key] = new
    check_finite(model, {key: state[key] for key in match.values}, str(path))
    model.load_state_dict(state)
    return f"stored as {', '.join(converted)}, computed in float32" if converted else ""
