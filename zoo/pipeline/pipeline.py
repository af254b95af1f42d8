"""Carrying out a plan: run the stages, measure the files, write the artifact."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from functools import partial
from typing import TYPE_CHECKING

from zoo import plugins
from zoo.contracts.architecture import WHOLE_FRAME
from zoo.errors import NoEffectError
from zoo.export.receptive_field import measure_halo
from zoo.modules.several_inputs import SeveralInputs
from zoo.pipeline.artifact_writer import WHOLE_FRAME_NOTE, write_result
from zoo.pipeline.checked_export import checked_export
from zoo.pipeline.device_target import advise
from zoo.pipeline.effect import check_quality, check_smaller, slower_remark
from zoo.pipeline.figure_rows import figures
from zoo.pipeline.layer_kinds import layers_of
from zoo.pipeline.loss_limit import parse_limit
from zoo.pipeline.measure import Meter
from zoo.pipeline.repair import Attempt, repair_stage
from zoo.pipeline.result import Result
from zoo.pipeline.sample_picture import sample_picture
from zoo.pipeline.stage_runner import StageRunner
from zoo.pipeline.stage_store import StageStore
from zoo.storage.atomic import writing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from zoo.contracts import InputSpec, Reporter
    from zoo.pipeline.device_target import Target
    from zoo.pipeline.plan import ApplyPlan
    from zoo.pipeline.repair import Repair
    from zoo.pipeline.stage_runner import StageResult
    from zoo.training.loop import TrainingResult


def carry_out(
    plan: ApplyPlan, reporter: Reporter, started: float, accepted: Sequence[str] | None = None
) -> Result | None:
    """Do what a plan says.

    An interrupted run leaves its training state in :attr:`ApplyPlan.work`; the same request continues from
    there.

    Args:
        started: When the request was made, in seconds of `time.monotonic`.
        accepted: Where disagreements are collected that the user accepts; None if none are accepted.

    Returns:
        The result; None in every process except the first of a distributed run.

    Raises:
        ZooError: The plan cannot be carried out; nothing is written to the artifact's folder before all is
            well.
    """
    request = plan.request
    with writing(plan.work):
        plan.work.mkdir(parents=True, exist_ok=True)
    store = StageStore(request.keep_stages, reporter) if request.keep_stages is not None else None
    runner = StageRunner(plan.stages, plan.original, reporter, plan.work, store)
    if not _is_main_process():
        for _ in runner.run():
            pass
        return None
    target = plan.target

    def advise_for_device(model: nn.Module) -> None:
        nonlocal target
        target = _advised(plan, model, reporter)

    limit = parse_limit(request.max_loss)
    meter = Meter(plan, plugins.engine("onnxruntime"), reporter)
    before = meter.add("", plan.exported)
    trainings: list[TrainingResult] = []
    reused: list[str] = []
    repair: Repair | None = None

    def attempt(done: StageResult) -> Attempt:
        exported = checked_export(
            done.finished, plan.architecture, plan.dataset, reporter, crop=plan.crop, seed=request.seed,
            half_weights=plan.half_weights, threads=request.threads,
        )  # fmt: skip
        return Attempt(done, exported, *meter.measure(done.recipe, exported))

    for done in runner.run(advise_for_device):
        made = attempt(done)
        check = partial(check_quality, done.stage, before, start=plan.start, limit=limit, reporter=reporter)
        try:
            check(made.measured)
        except NoEffectError as error:
            first = made
            made, plan, repair = repair_stage(plan, runner, first, error, before, attempt, check, reporter)
            meter.compare(first.measured, first.session)
        before = meter.take(made.measured, made.session)
        if done.training is not None:
            trainings.append(done.training)
        if done.reused:
            reused.append(done.stage.name)
    check_smaller(plan.techniques, meter.files[0], meter.files[-1])
    parts = plan.architecture.input.parts
    meter.time()
    result = Result(
        request.out,
        plan.fingerprint,
        meter.files,
        figures(plan, meter.files),
        trainings,
        runner.left_alone(),
        plan.start,
        time.monotonic() - started,
        target,
        tuple(reused),
        tuple(dict.fromkeys(accepted or ())),
        repair,
        SeveralInputs(made.done.finished, parts) if parts else made.done.finished,
    )
    for message in result.accepted:
        reporter.note(f"Accepted: {message}")
    if repair is not None:
        reporter.note(str(repair))
    slower = slower_remark(meter.files[0], meter.files[-1])
    if slower:
        reporter.note(slower)
    spec = _measured_input(plan, meter, reporter)
    sample = sample_picture(plan, meter) if plan.architecture.output.bounded else None
    write_result(plan, result, made.done, spec, exported=made.exported.data, sample=sample)
    shutil.rmtree(plan.work, ignore_errors=True)
    return result


def _measured_input(plan: ApplyPlan, meter: Meter, reporter: Reporter) -> InputSpec:
    """Return the input with the halo that the exported file shows, and report a file that needs whole frames."""
    spec, output = plan.architecture.input, plan.architecture.output
    # The file before the recipe sees changes that integers round away on the frames that are tried here.
    files = {meter.files[0].stage, meter.files[-1].stage}
    halos = [measure_halo(meter.session(file), spec, output) for file in files]
    halo = max((each for each in halos if each is not None), default=None)
    if halo == WHOLE_FRAME:
        reporter.note(WHOLE_FRAME_NOTE)
    return spec if halo == spec.halo else dataclasses.replace(spec, halo=halo)


def _advised(plan: ApplyPlan, model: nn.Module, reporter: Reporter) -> Target | None:
    """Return the target with advice on the rewritten, not yet trained network, and report it."""
    if plan.target is None:
        return None
    target = advise(plan.target, plan.recipe, layers_of(model, plan.architecture.input))
    for remark in target.remarks:
        reporter.note(remark)
    return target


def _is_main_process() -> bool:
    return int(os.environ.get("RANK", "0")) == 0
