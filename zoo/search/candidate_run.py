"""Carrying out one candidate: apply its recipe, and keep what was measured."""

from __future__ import annotations

import dataclasses
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.contracts import SilentReporter
from zoo.errors import ZooError
from zoo.pipeline.api import apply_request
from zoo.pipeline.originals import Originals
from zoo.pipeline.stages import stages_of
from zoo.search.outcome import Outcome
from zoo.storage.atomic import read_bytes
from zoo.training.schedule import Budget

if TYPE_CHECKING:
    from zoo.benchmarking.latency_model import LatencyModel
    from zoo.pipeline.request import ApplyRequest
    from zoo.pipeline.result import Result
    from zoo.recipes.canonical import ResolvedRecipe

_LARGEST_MODEL = 1 << 36
#: All candidates of a search begin with the same network.
_ORIGINALS = Originals()


@dataclasses.dataclass(frozen=True)
class CandidateRun:
    """A recipe to be carried out.

    Attributes:
        request: What to apply; no stage may be limited in what it loses.
        steps: Of each training.
        trainings: How many trainings the recipe has.
        latency_model: Predicts the latency; None for that which was measured here.
    """

    request: ApplyRequest
    steps: int
    trainings: int
    latency_model: LatencyModel | None = None


def candidate_run(
    base: ApplyRequest,
    recipe: ResolvedRecipe,
    steps: int,
    out: Path,
    stages: Path,
    latency_model: LatencyModel | None = None,
) -> CandidateRun:
    """Return what carries a recipe out.

    Every training gets all of the steps, so that recipes with the same beginning train it alike.

    Args:
        base: Everything but the recipe.
        recipe: The recipe.
        steps: Of each training.
        out: The artifact folder.
        stages: Where trained stages are kept.
        latency_model: Predicts the latency; None to measure it here.
    """
    trainings = sum(stage.trains for stage in stages_of(recipe.techniques))
    request = dataclasses.replace(
        base,
        recipe=recipe.written,
        out=out,
        budgets=(Budget(steps=steps),) * max(trainings, 1),
        keep_stages=stages if steps else None,
        max_loss=None,
    )
    return CandidateRun(request, steps, trainings, latency_model)


def carry_out_candidate(run: CandidateRun) -> Outcome:
    """Apply a candidate's recipe; whatever goes wrong with it is part of the outcome."""
    started, spent = time.monotonic(), time.process_time()
    shutil.rmtree(
        run.request.out, ignore_errors=True
    )  # complete, but the search was killed before it took note
    try:
        result = apply_request(run.request, SilentReporter(), _ORIGINALS)
        assert result is not None
        outcome = _measured(result, run.latency_model)
    except ZooError as error:
        outcome = Outcome("", 0, error=" ".join(filter(None, [error.message, error.hint])))
    except (Exception, SystemExit) as error:  # a plugin may raise anything; the search goes on
        outcome = Outcome("", 0, error=f"{type(error).__name__}: {error}")
    return dataclasses.replace(
        outcome,
        recipe=str(run.request.recipe),
        steps=run.steps,
        trainings=run.trainings,
        seconds=time.monotonic() - started,
        processor_seconds=time.process_time() - spent,
    )


# --------------------------------------------------------------------------------------------------- details


def _measured(result: Result, predicts: LatencyModel | None) -> Outcome:
    from zoo.artifacts import open_artifact
    from zoo.onnx.working_set import measure_working_set

    first, last = result.files[0], result.files[-1]
    metric = last.quality.limited or last.quality.metrics[0]
    spec = open_artifact(result.artifact).manifest.input
    model = read_bytes(result.artifact / "model.onnx", _LARGEST_MODEL)
    height, width = spec.example
    latency = last.latency.median if last.latency else 0.0
    latency_before = first.latency.median if first.latency else 0.0
    if predicts is not None:
        from zoo.benchmarking.op_counts import run_operators

        latency, latency_before = (
            predicts.predict(run_operators(model, (1, spec.channels, height, width))),
            0.0,
        )
    values = first.quality.values[metric.key], last.quality.values[metric.key]
    return Outcome(
        "",
        0,
        measure=metric.name,
        unit=metric.loss_unit,
        score=metric.show(values[1]),
        before=metric.show(values[0]),
        lost=metric.lost(*values),
        size=last.file_bytes,
        macs=last.macs,
        parameters=last.parameters,
        memory=round(measure_working_set(model, spec.channels).live * height * width) + last.file_bytes,
        latency=latency,
        latency_before=latency_before,
        size_before=first.file_bytes,
        macs_before=first.macs,
        reused=result.reused,
        fingerprint=result.fingerprint,
    )
