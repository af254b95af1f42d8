"""What is to be applied, and everything about it that can be checked before any work."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import plugins
from zoo.data.choose import choose_dataset
from zoo.errors import UsageError
from zoo.pipeline.device_target import Target, aimed
from zoo.recipes.canonical import ResolvedRecipe
from zoo.recipes.canonical import resolve as resolve_recipe

if TYPE_CHECKING:
    from zoo.contracts import Architecture, Dataset, Technique
    from zoo.recipes.grammar import Recipe
    from zoo.training.loop import Precision
    from zoo.training.schedule import Budget


@dataclass(frozen=True)
class Request:
    """A recipe for an architecture, and how to train it.

    recipe:   None to train the architecture as it is; else its techniques in order.
    budgets:  one budget for all training, or one for each training stage.
    weights:  see :func:`zoo.training.weights.load_start`.
    data:     a dataset with options, "darkroom(min_ratio=200)"; "" for the task's default.
    photos:   folders added to the dataset's own photographs.
    learning_rate: of Adam, at its highest; None for one that suits the starting weights.
    max_loss: quality a training stage may lose, in dB of PSNR or points (hundredths) of Dice; None for any.
    half_weights: store the exported float weights in 16 bits, which halves the file.
    runner_only: leave model.safetensors out; a float net's weights can still be read back from model.onnx.
    crop:     side of the training crops in input-tensor pixels; 0 for the default.
    device:   the profile of the device that the net is made for; "" for none. See
              :func:`zoo.pipeline.device_target.aimed`.
    """

    recipe: Recipe | None
    architecture: str
    out: Path
    budgets: tuple[Budget, ...]
    weights: str = "auto"
    data: str = ""
    photos: tuple[Path, ...] = ()
    batch: int = 4
    crop: int = 0
    learning_rate: float | None = None
    precision: Precision = "auto"
    seed: int = 0
    max_loss: float | None = 3.0
    half_weights: bool = False
    runner_only: bool = False
    images: int | None = None
    threads: int = 0
    device: str = ""
    command: str = ""


@dataclass(frozen=True)
class Job:
    """A checked request: everything named in it exists and may be combined. data: the dataset as text."""

    request: Request
    architecture: Architecture
    recipe: ResolvedRecipe | None
    data: str
    dataset: Dataset
    crop: int
    target: Target | None = None

    @property
    def name(self) -> str:
        """What artifacts call the architecture: as the user did, but for a file, which others do not have."""
        return self.architecture.id if self.architecture.named else self.request.architecture

    @property
    def techniques(self) -> tuple[Technique, ...]:
        """The techniques of the recipe, in order."""
        return self.recipe.techniques if self.recipe else ()


def resolve(request: Request) -> Job:
    """Find what the request names and refuse what cannot work, before any work is done.

    Raises ZooError subclasses: unknown ids, wrong options, an illegal order, data that does not suit the net.
    """
    architecture = plugins.architecture(request.architecture, own_files=True)
    request, target = aimed(request)
    recipe = resolve_recipe(request.recipe) if request.recipe is not None else None
    architecture = adapted(architecture, recipe.techniques if recipe else ())
    data, dataset = choose_dataset(request.data, request.photos, architecture)
    return Job(request, architecture, recipe, data, dataset, _crop(request, architecture), target)


def narrowed(job: Job, **changes: Any) -> Job:
    """The job with `changes` to what its architecture takes. Raises UsageError if the crops then do not suit it."""
    architecture = copy.copy(plugins.architecture(job.request.architecture, own_files=True))
    architecture.input = dataclasses.replace(architecture.input, **changes)
    architecture = adapted(architecture, job.techniques)
    return dataclasses.replace(job, architecture=architecture, crop=_crop(job.request, architecture))


def adapted(architecture: Architecture, techniques: Sequence[Technique]) -> Architecture:
    """The architecture with an input that suits it before and after each of the techniques; a copy."""
    suited = copy.copy(architecture)
    for technique in techniques:
        suited.input = technique.adapt_input(suited.input)
    return suited


def _crop(request: Request, architecture: Architecture) -> int:
    height, width = architecture.input.example
    if architecture.input.fixed_size:
        if height != width:
            raise UsageError(
                f"{architecture.id} takes {width}x{height} input; only square crops can be trained on."
            )
        if request.crop not in (0, height):
            raise UsageError(
                f"{architecture.id} takes {width}x{height} input, so crops of {request.crop} cannot be trained on.",
                hint="Leave --crop out.",
            )
        return height
    crop = request.crop or min(128, height, width)
    multiple = architecture.input.multiple_of
    if crop % multiple or crop <= 0:
        raise UsageError(
            f"Crops for {architecture.id} must be a multiple of {multiple}, not {crop}.",
            hint=f"Use --crop {max(multiple, crop - crop % multiple)}",
        )
    return crop
