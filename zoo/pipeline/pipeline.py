"""`zoo apply` from end to end: rewrite, train, finish, export, measure, write the artifact."""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from zoo import plugins
from zoo.contracts import Phase, Reporter
from zoo.errors import NoEffectError, UsageError
from zoo.evaluation.quality import Quality
from zoo.pipeline.artifact_writer import write_outcome
from zoo.pipeline.device_target import Target, advise
from zoo.pipeline.input_sizes import export_first, export_shown
from zoo.pipeline.layer_kinds import layers_of
from zoo.pipeline.measure import Measured, Meter
from zoo.pipeline.request import Job, Request, resolve
from zoo.pipeline.stages import Stage, StageRunner, stages_of
from zoo.recipes.fingerprint import fingerprint
from zoo.storage.atomic import check_folder_target, writing
from zoo.training.schedule import Budget
from zoo.training.weights import StartWeights, load_start
from zoo.version import __version__

if TYPE_CHECKING:
    from zoo.training.loop import TrainingResult

_TRAINING_RATE = 4e-4
_FINE_TUNING_RATE = 1e-4
#: Share of one budget that each training stage gets: most of it before the arithmetic changes.
_SHARES: dict[int, tuple[float, ...]] = {0: (), 1: (1.0,), 2: (0.65, 0.35)}


@dataclass
class Outcome:
    """What a run made.

    artifact: the folder. files: what was measured, the net as it was first, the artifact's last.
    trainings: one a training stage.
    """

    artifact: Path
    fingerprint: str
    files: list[Measured]
    trainings: list[TrainingResult]
    left_alone: list[dict[str, str]]
    start: StartWeights
    seconds: float
    target: Target | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for `--json`."""
        return {
            "artifact": str(self.artifact),
            "fingerprint": self.fingerprint,
            "files": [file.to_json() for file in self.files],
            "steps": [training.steps for training in self.trainings],
            "seconds": round(self.seconds, 1),
            "weights": self.start.label,
            "left_alone": self.left_alone,
            "device": self.target.to_json() if self.target else None,
        }


def apply(request: Request, reporter: Reporter) -> Outcome | None:
    """Run a request. None in every process but the first of a distributed run.

    An interrupted run leaves its training state beside the output folder, in ``<out>.work``; the same request
    goes on from there. Raises ZooError subclasses; nothing is written to ``request.out`` before all is well.
    """
    started = time.monotonic()
    job = resolve(request)
    request = job.request
    check_folder_target(request.out)
    torch.manual_seed(request.seed)
    model = job.architecture.build().eval()
    start = load_start(model, job.architecture, request.weights)
    request = settled(request, start)
    stages = stages_of(job.techniques)
    if not any(stage.trains for stage in stages):
        request = dataclasses.replace(request, budgets=())  # whatever was given, nothing is made of it
    job = dataclasses.replace(job, request=request)
    original = copy.deepcopy(model)
    job, exported = export_first(job, original, reporter)
    key = _fingerprint(job, start)
    work = request.out.with_name(request.out.name + ".work")
    with writing(work):
        work.mkdir(parents=True, exist_ok=True)
    meter = Meter(job, plugins.engine("onnxruntime"), reporter) if _is_main_process() else None
    if meter:
        meter.add("", exported)
    runner = StageRunner(job, original, reporter, work, key)
    left = iter(budgets(request, sum(stage.trains for stage in stages)))
    trainings: list[TrainingResult] = []
    for index, stage in enumerate(stages):
        model = runner.rewrite(model, stage)
        if index == 0 and meter:
            _advise(job, model, reporter)
        if stage.trains:
            model, training = runner.train(model, stage, index, next(left))
            trainings.append(training)
        if meter:
            finished = _finish(runner, copy.deepcopy(model), stages[: index + 1])
            exported = export_shown(job, finished, reporter, half_weights=request.half_weights)
            name = "+".join(done.name for done in stages[: index + 1])
            before = meter.files[-1]
            _check_loss(request, stage, before, meter.add(name, exported), start)
    if not meter:
        return None
    _check_smaller(job, meter.files)
    meter.time()
    outcome = Outcome(
        request.out,
        key,
        meter.files,
        trainings,
        runner.left_alone(),
        start,
        time.monotonic() - started,
        job.target,
    )
    write_outcome(job, outcome, exported=exported, finished=finished, trained=model, meter=meter)
    shutil.rmtree(work, ignore_errors=True)
    return outcome


def _advise(job: Job, model: nn.Module, reporter: Reporter) -> None:
    """Tell what of the net, rewritten but not yet trained, will not pay on the device it is made for."""
    if job.target is None:
        return
    layers = layers_of(model, job.architecture.input)
    advise(job.target, job.request.recipe, job.techniques, layers)
    for remark in job.target.remarks:
        reporter.note(remark)


def _finish(runner: StageRunner, model: nn.Module, stages: list[Stage]) -> nn.Module:
    for stage in stages:
        model = runner.finish(model, stage)
    return model


def settled(request: Request, start: StartWeights) -> Request:
    """The request with a learning rate: trained weights are only to be adapted, random ones have far to go."""
    if request.learning_rate is not None:
        return request
    return dataclasses.replace(request, learning_rate=_FINE_TUNING_RATE if start.trained else _TRAINING_RATE)


def budgets(request: Request, stages: int) -> list[Budget]:
    """The budget of each training stage; one budget for all is shared out, most of it to the first."""
    if len(request.budgets) == stages:
        return list(request.budgets)
    if len(request.budgets) != 1:
        raise UsageError(
            f"This recipe trains {stages} times, but {len(request.budgets)} budgets were given.",
            hint="Give one number for all of it, or one for each training.",
        )
    return [request.budgets[0].share(share) for share in _SHARES[stages]]


def _check_loss(
    request: Request, stage: Stage, before: Measured, after: Measured, start: StartWeights
) -> None:
    """A net that was never trained has no quality to lose."""
    if request.max_loss is None or not (start.trained and stage.techniques):
        return
    if not (isinstance(before.quality, Quality) and isinstance(after.quality, Quality)):
        return
    measure = after.quality.metrics[0]
    had, has = before.quality.mean(measure.key), after.quality.mean(measure.key)
    lost = (had - has) * measure.steps
    if lost > request.max_loss:
        raise NoEffectError(
            f"{stage.name} lost {lost:.2f} {measure.budget} ({measure.show(had)} to {measure.show(has)}); "
            f"the budget is {request.max_loss:g}.",
            hint=f"Train longer, or allow more: --max-loss {math.ceil(lost)}. The training so far is kept.",
        )


def _check_smaller(job: Job, files: list[Measured]) -> None:
    """What says that it shrinks a net must pay in the exported file, in bytes or in multiplications."""
    promised = [t.id for t in job.techniques if t.must_shrink and t.phase is not Phase.TRAINING]
    first, last = files[0], files[-1]
    if promised and last.file_bytes >= first.file_bytes and last.macs >= first.macs:
        raise NoEffectError(
            f"{'+'.join(promised)} bought nothing: the exported file has {last.file_bytes:,} bytes and {last.macs:,} "
            f"MACs, the original {first.file_bytes:,} and {first.macs:,}."
        )


def _fingerprint(job: Job, start: StartWeights) -> str:
    request = job.request
    versions = {"compression-zoo": __version__, **(job.recipe.versions if job.recipe else {})}
    beyond = {f"{number}:{each.id}": each.identity() for number, each in enumerate(job.techniques)}
    beyond["architecture"] = job.architecture.identity()
    return fingerprint(
        job.recipe.recipe if job.recipe else None,
        architecture=job.name,
        plugins=versions,
        data=job.dataset.identity(),
        weights=start.sha256 or None,
        seed=request.seed,
        training={
            "budgets": " ".join(str(budget) for budget in request.budgets),
            "batch": request.batch,
            "crop": job.crop,
            "learning_rate": request.learning_rate,
            "precision": request.precision,
            **{name: identity for name, identity in beyond.items() if identity},
        },
    )


def _is_main_process() -> bool:
    return int(os.environ.get("RANK", "0")) == 0
