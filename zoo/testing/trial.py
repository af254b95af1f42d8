"""Techniques applied to a network from rewrite to exported file, without a command line, plugins or photographs."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from zoo.artifacts.golden import MAIN_OUTPUT
from zoo.contracts import Architecture, Dataset, Reporter, SilentReporter, SkippedLayer, Technique
from zoo.export.exporter import Deployed, export_onnx
from zoo.export.file_agreement import FileAgreement, compare_file, run_network
from zoo.modules.several_inputs import with_one_input
from zoo.pipeline.golden_inputs import comparison_inputs
from zoo.pipeline.input_spec import adapt_input, choose_crop
from zoo.pipeline.plain_network import make_network_plain
from zoo.pipeline.stage_runner import StageRunner
from zoo.pipeline.stages import StagePlan, stages_of
from zoo.recipes import legality
from zoo.testing.workbench import Patterns, Workbench
from zoo.training.schedule import Budget
from zoo.training.teachers import load_teacher

if TYPE_CHECKING:
    from zoo.contracts import FloatArray


@dataclass(frozen=True)
class Trial:
    """What became of a network.

    Attributes:
        original: The network before.
        finished: The network that the file was made from, in eval mode.
        exported: The bytes of model.onnx.
        comparison: How closely the file in ONNX Runtime computes what the finished network does, at two input sizes.
        skipped_layers: What the techniques reported.
    """

    architecture: Architecture
    original: nn.Module
    finished: nn.Module
    exported: bytes
    comparison: FileAgreement
    skipped_layers: tuple[SkippedLayer, ...]

    @property
    def agreement(self) -> float:
        """Return the PSNR in dB between the file and the finished network, the lowest over the inputs."""
        return self.comparison.psnr

    @property
    def left_alone(self) -> tuple[SkippedLayer, ...]:
        """Return `skipped_layers`; the former name, which contract 1 keeps."""
        return self.skipped_layers

    def computed(self, inputs: FloatArray) -> FloatArray:
        """Return the output of the finished network, not of the file, for inputs (N, C, H, W) in the file's range."""
        outputs = run_network(Deployed(self.finished, self.architecture).eval(), inputs)
        computed: FloatArray = outputs[MAIN_OUTPUT].numpy()
        return computed


def rewrite(
    technique: Technique,
    architecture: Architecture | None = None,
    dataset: Dataset | None = None,
    *,
    seed: int = 0,
    report: Reporter | None = None,
) -> tuple[nn.Module, nn.Module, StageRunner]:
    """Return a freshly built network, the same after the technique's rewrite, and the context of the rewrite."""
    plan = _plan((technique,), architecture or Workbench(), dataset or Patterns(), 0, seed)
    runner = _runner(plan, report, Path())
    return runner.original, runner.rewrite(copy.deepcopy(runner.original), plan.stages[0]), runner


def attempt(
    techniques: Sequence[Technique],
    architecture: Architecture | None = None,
    dataset: Dataset | None = None,
    *,
    steps: int = 1,
    seed: int = 0,
    report: Reporter | None = None,
) -> Trial:
    """Apply a recipe as `zoo apply` does: rewrite, train, finish, export, run the file.

    Args:
        techniques: The recipe; without any the net is trained as it is, and exported.
        steps: Training steps of each stage.

    Raises:
        LegalityError: The order is illegal.
        NoEffectError: A technique changes nothing.
        ZooError: What a technique, the training or the exporter raises.
    """
    legality.check([type(technique) for technique in techniques])
    plan = _plan(techniques, architecture or Workbench(), dataset or Patterns(), steps, seed)
    with tempfile.TemporaryDirectory(prefix="zoo-trial-") as folder:
        runner = _runner(plan, report, Path(folder))
        *_, last = runner.run()
    exported = export_onnx(last.finished, plan.architecture)
    inputs = comparison_inputs(plan.dataset, plan.architecture, plan.crop, seed)
    return Trial(
        plan.architecture,
        runner.original,
        last.finished,
        exported,
        compare_file(last.finished, plan.architecture, exported, inputs, threads=1),
        tuple(runner.context.skipped_layers),
    )


def _plan(
    techniques: Sequence[Technique], architecture: Architecture, dataset: Dataset, steps: int, seed: int
) -> StagePlan:
    architecture = adapt_input(architecture, techniques)
    spec = architecture.input
    small = -(-min(*spec.example, 32) // spec.multiple_of) * spec.multiple_of
    stages = stages_of(techniques)
    return StagePlan(
        architecture, stages, dataset, (Budget(steps=steps),) * sum(stage.trains for stage in stages), batch=2,
        crop=choose_crop(architecture, 0 if spec.fixed_size else small), learning_rate=1e-4, precision="float32",
        seed=seed,
        load_teacher=load_teacher, key=f"trial/{seed}",
    )  # fmt: skip


def _runner(plan: StagePlan, report: Reporter | None, work: Path) -> StageRunner:
    torch.manual_seed(plan.seed)
    original = with_one_input(plan.architecture.build().eval(), plan.architecture.input.parts)
    list(make_network_plain(original, plan.architecture.input))
    return StageRunner(plan, original, report or SilentReporter(), work)
