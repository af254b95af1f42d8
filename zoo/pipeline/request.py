"""What `zoo apply` is asked to do, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from zoo.architectures.own_networks import with_specs
from zoo.architectures.weight_option import split_weights
from zoo.contracts import Architecture, Dataset
from zoo.errors import UsageError
from zoo.pipeline.loss_limit import MaxLoss, parse_limit
from zoo.recipes.code_files import refuse_untrusted_code
from zoo.recipes.grammar import Recipe
from zoo.recipes.presets import expand_preset
from zoo.recipes.recipe_toml import RecipeFile
from zoo.training.schedule import Budget, Precision

PRECISIONS: tuple[str, ...] = get_args(Precision)
#: Minutes of training where no budget is given.
DEFAULT_MINUTES = 10.0
#: The longest name that is made up for an output folder.
_LONGEST_NAME = 80


@dataclass(frozen=True)
class ApplyRequest:
    """A recipe for an architecture, and how to train it.

    Attributes:
        recipe: Its techniques in order; None to train the architecture as it is.
        architecture: Its id, or a network of the user's own as ``module.py:factory``, or itself.
        out: The artifact folder to write.
        budgets: One budget for all training, or one for each training stage.
        weights: See :func:`zoo.training.weights.load_start`.
        weights_key: Which set of weights to take from a file that holds several; "" for the one that fits.
        partial: Whether a file of weights may lack tensors of the network, or hold others.
        data: A dataset with options, "darkroom(min_ratio=200)", or itself; "" for the task's default.
        photos: Folders added to the dataset's own photographs.
        batch: Crops per training step.
        crop: Side of the training crops in input-tensor pixels; 0 for the default.
        learning_rate: Of Adam, at its highest; None for one that suits the starting weights.
        precision: What the training computes in.
        seed: Every random choice is derived from it.
        max_loss: What a stage may lose of the task's first measure: "1pt" (points, hundredths), "0.3dB", a number in
            what the measure is counted in, "auto" for the task's own limit; None for any.
        half_weights: Store the exported float weights in 16 bits, which halves the file.
        runner_only: Leave model.safetensors out; a float network's weights can still be read from model.onnx.
        images: Evaluate on this many test images only; None for all.
        threads: Of the engine; 0 for all that this process may use.
        device: The profile of the device that the network is made for, "" for none. See
            :func:`zoo.pipeline.device_target.specialize_for_device`.
        keep_stages: Folder in which the results of trained stages are kept and looked for; None for none.
        accept_disagreement: Write the artifact although a graph or a file does not compute what the network does; what
            disagrees is recorded.
        command: What was typed, for the model card.
        preset: The preset that the recipe was written as, "" for none.
    """

    recipe: Recipe | None
    architecture: str | Architecture
    out: Path
    budgets: tuple[Budget, ...]
    weights: str = "auto"
    weights_key: str = ""
    partial: bool = False
    data: str | Dataset = ""
    photos: tuple[Path, ...] = ()
    batch: int = 4
    crop: int = 0
    learning_rate: float | None = None
    precision: Precision = "auto"
    seed: int = 0
    max_loss: MaxLoss = "auto"
    half_weights: bool = False
    runner_only: bool = False
    images: int | None = None
    threads: int = 0
    device: str = ""
    keep_stages: Path | None = None
    accept_disagreement: bool = False
    command: str = ""
    preset: str = ""


def make_request(
    recipe: Recipe | RecipeFile | None, architecture: str | Architecture | None = None, **given: Any
) -> ApplyRequest:
    """Return the request for a recipe: what is given goes before the recipe file, the file before the defaults.

    Args:
        recipe: A recipe, a recipe file, or None to train the architecture as it is.
        architecture: Its name; None for the one that the recipe file names.
        given: Fields of :class:`ApplyRequest` that were stated explicitly, and no others. In addition `minutes` or
            `steps` (one number per training stage, or one for all) for the budgets, and `input` and `output` for a
            network of the user's own, as :func:`zoo.architectures.own_networks.with_specs` reads them; and `trust_code`
            if Python files that only the recipe file names may be executed.

    Raises:
        UsageError: Both minutes and steps are given, no architecture is named, the file states a precision that
            does not exist, or it would have untrusted code executed.
    """
    file = recipe if isinstance(recipe, RecipeFile) else None
    stages = file.recipe if file else recipe
    assert not isinstance(stages, RecipeFile)
    trusted = given.pop("trust_code", False)
    if file and not trusted:
        refuse_untrusted_code(
            file, " ".join(str(given.get(name, "")) for name in ("data", "weights")) + f" {architecture}"
        )
    budgets = _budgets(given.pop("minutes", None), given.pop("steps", ()), file)
    name = architecture or (file.architecture if file else None)
    if not name:
        raise UsageError(
            "The recipe file does not name an architecture.", hint="Name one: zoo apply --recipe FILE unet"
        )
    if isinstance(name, str):
        name, named = split_weights(name)
        if named and given.setdefault("weights", named) != named:
            raise UsageError("The weights are stated twice, in the name of the network and by --weights.")
        name = with_specs(name, given.pop("input", ""), given.pop("output", ""))
    settings = {**(_settings(file) if file else {}), **given}
    written = stages
    if stages is not None:
        stages = expand_preset(stages, name)
    parse_limit(settings.get("max_loss"))
    if stages is None and isinstance(name, str) and settings.get("weights", "auto") == "auto":
        settings["weights"] = "none"  # a network is trained from scratch, unless weights are named
    title = name if isinstance(name, str) else name.id
    out = settings.pop("out", None) or Path("out", _folder_name(f"{title}-{written or 'trained'}"))
    preset = str(written) if stages is not written else ""
    return ApplyRequest(stages, name, out, budgets, preset=preset, **settings)


def _budgets(minutes: float | None, steps: tuple[int, ...], file: RecipeFile | None) -> tuple[Budget, ...]:
    if minutes is not None and steps:
        raise UsageError("--minutes and --steps cannot be combined.")
    if minutes is None and not steps and file is not None:
        minutes, steps = file.minutes, file.steps or ()
    if steps:
        return tuple(Budget(steps=count) for count in steps)
    return (Budget(minutes=DEFAULT_MINUTES if minutes is None else minutes),)


def _settings(file: RecipeFile) -> dict[str, Any]:
    """Return the fields of a request that a recipe file states."""
    if file.precision not in (None, *PRECISIONS):
        raise UsageError(f"The precision '{file.precision}' is unknown; choose from {', '.join(PRECISIONS)}.")
    known = {field.name for field in fields(ApplyRequest)} - {"recipe", "architecture"}
    stated = {field.name: getattr(file, field.name) for field in fields(file)}
    return {name: value for name, value in stated.items() if name in known and value is not None}


def _folder_name(title: str) -> str:
    return "".join(c if c.isalnum() or c in "+-._" else "-" for c in title).strip("-.")[:_LONGEST_NAME]
