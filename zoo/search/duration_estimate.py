"""How long a search will take, from one candidate carried out without training and one timed training step."""

from __future__ import annotations

import contextlib
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import plugins
from zoo.errors import UsageError, ZooError
from zoo.pipeline.input_spec import adapt_input
from zoo.search.candidate_run import candidate_run, carry_out_candidate
from zoo.search.first_settings import first_settings, recipe_of
from zoo.search.halving import rungs, share_promoted, worthwhile_rungs
from zoo.search.network_context import open_context

if TYPE_CHECKING:
    from zoo.contracts import Context
    from zoo.pipeline.request import ApplyRequest
    from zoo.recipes.canonical import ResolvedRecipe
    from zoo.search.search_request import SearchRequest
    from zoo.search.space import Space


@dataclass(frozen=True)
class DurationEstimate:
    """What a search is expected to take.

    Attributes:
        recipe: That was carried out without training.
        candidate: Seconds that it took.
        step: Seconds of a training step of the network before any recipe; 0 without trainings.
        seconds: Of the whole search, if each candidate has one training; at most those of `--minutes`.
    """

    recipe: str
    candidate: float
    step: float
    seconds: float


def estimate_duration(request: SearchRequest, space: Space) -> DurationEstimate:
    """Carry out one recipe of a space without training, time a training step, and return what all of it will take.

    Nothing is written into the folder of the search.

    Raises:
        ZooError: The recipe cannot be carried out.
    """
    recipe = _first(request, space)
    base = request.base(recipe.written)
    with tempfile.TemporaryDirectory(prefix="zoo-search-") as folder:
        outcome = carry_out_candidate(
            candidate_run(base, recipe, 0, Path(folder, "artifact"), Path(folder, "stages"))
        )
    if outcome.error:
        raise ZooError(f"{outcome.recipe} was carried out to estimate the time, and failed: {outcome.error}")
    step = _training_step(base) if request.steps else 0.0
    left = min(request.trials, space.size)
    cost = outcome.seconds
    total = left * cost
    for steps in worthwhile_rungs(rungs(request.steps), cost, cost + request.steps * step):
        next_cost = outcome.seconds + steps * step
        left = math.ceil(left * share_promoted(cost, next_cost))
        total, cost = total + left * next_cost, next_cost
    total = min(total / request.workers, request.minutes * 60)
    return DurationEstimate(outcome.recipe, outcome.seconds, step, total)


def _first(request: SearchRequest, space: Space) -> ResolvedRecipe:
    """Return the first recipe of a search that is legal."""
    for setting in first_settings(space, request.trials, request.seed).settings:
        with contextlib.suppress(UsageError):
            return recipe_of(space, setting)
    return space.example


def _training_step(base: ApplyRequest) -> float:
    """Return the seconds of the second of two passes through the network and back, with a batch of the data."""
    architecture = base.architecture
    if isinstance(architecture, str):
        architecture = plugins.architecture(architecture, own_files=True)
    return _timed_step(open_context(base, adapt_input(architecture, ())), base.batch)


def _timed_step(context: Context, batch: int) -> float:
    import copy

    import torch

    from zoo.modules.output_tree import tensors_of

    assert context.calibration_images is not None
    inputs = torch.cat(list(context.calibration_images(batch)))
    network = copy.deepcopy(context.teacher)
    assert network is not None
    network.train()
    seconds = 0.0
    for _ in range(2):
        begun = time.monotonic()
        outputs = tensors_of(network(inputs)).values()
        loss = torch.stack([output.float().square().mean() for output in outputs]).sum()
        torch.autograd.backward(loss)
        seconds = time.monotonic() - begun
    return seconds
