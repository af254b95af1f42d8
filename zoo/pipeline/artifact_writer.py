"""Putting the result of a run into an artifact."""

from __future__ import annotations

import json
import os
import platform
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from zoo import plugins
from zoo.artifacts.artifact import write_artifact
from zoo.artifacts.card import card_text
from zoo.artifacts.golden import GOLDEN_NAME, golden_bytes
from zoo.artifacts.manifest import GoldenCheck, Manifest
from zoo.contracts.architecture import WHOLE_FRAME
from zoo.export.exporter import Deployed
from zoo.export.file_agreement import run_network
from zoo.export.int8_coverage import int8_report
from zoo.pipeline.golden_inputs import golden_inputs
from zoo.pipeline.recipe_file import recipe_text
from zoo.version import __version__

if TYPE_CHECKING:
    from zoo.contracts import InputSpec
    from zoo.pipeline.plan import ApplyPlan
    from zoo.pipeline.result import Result
    from zoo.pipeline.sample_picture import SamplePicture
    from zoo.pipeline.stage_runner import StageResult

#: Of a network whose frames cannot be cut into tiles.
WHOLE_FRAME_NOTE = (
    "Every output depends on the whole frame: zoo run computes each file in one piece, not in tiles, and refuses "
    "those that do not fit in memory."
)
SAMPLE_NAME = "sample.png"
#: Engines that are right agree to 35 dB and more; those found silently wrong gave 9 to 21.
_GOLDEN_PSNR = 30.0
#: dB by which an engine may come less near than the one that was tried here, where a network amplifies rounding.
_GOLDEN_MARGIN = 3.0


def write_result(
    plan: ApplyPlan,
    result: Result,
    last: StageResult,
    spec: InputSpec,
    *,
    exported: bytes,
    sample: SamplePicture | None,
) -> None:
    """Write the artifact of a run.

    Args:
        plan: What was to be done.
        result: What came of it.
        last: The network after its last stage.
        spec: The input of the exported file.
        exported: The file of `last.finished`.
        sample: What shows what the network does; None if that cannot be shown.
    """
    metrics = _metrics(plan, result, exported)
    if spec.halo == WHOLE_FRAME:
        metrics["notes"].append(WHOLE_FRAME_NOTE)
    if sample is not None:
        metrics |= {"sample": SAMPLE_NAME, "sample_shows": sample.shows}
    required = round(max(0.0, min(_GOLDEN_PSNR, result.files[-1].agreement.psnr - _GOLDEN_MARGIN)), 1)
    if required < _GOLDEN_PSNR:
        metrics["notes"].append(
            f"This network amplifies rounding: engines need to come within {required:.1f} dB of the golden outputs, "
            f"not {_GOLDEN_PSNR:.0f} as for others."
        )
    manifest = Manifest(
        architecture=plan.name,
        recipe=str(plan.recipe) if plan.recipe else "",
        fingerprint=result.fingerprint,
        input=spec,
        output=plan.architecture.output,
        extra_outputs=dict(plan.architecture.extra_outputs),
        task=plugins.task_of(plan.architecture).id,
        classes=tuple(plan.dataset.class_names()),
        precision=_precision(plan, metrics),
        golden=GoldenCheck(GOLDEN_NAME, required),
        created_with=_versions(),
    )
    contents = {
        "model.onnx": exported,
        GOLDEN_NAME: golden_bytes(_golden_pairs(plan, last.finished), spec.parts),
        "metrics.json": (json.dumps(metrics, indent=1) + "\n").encode(),
        "README.md": card_text(result.artifact.name, manifest, metrics, path=result.artifact).encode(),
    }
    if not plan.request.runner_only:
        contents["model.safetensors"] = _weights(last.trained)
    if plan.recipe:
        contents["recipe.toml"] = recipe_text(plan, result.trainings).encode()
    if sample is not None:
        contents[SAMPLE_NAME] = sample.png
    write_artifact(result.artifact, manifest, contents)


def _precision(plan: ApplyPlan, metrics: dict[str, Any]) -> str:
    """Return what the last technique that changes numbers calls them, else what ONNX Runtime computes in."""
    named = [technique.precision for technique in plan.techniques if technique.precision]
    return named[-1] if named else "int8" if metrics["int8"]["share"] > 0 else "float32"


def _golden_pairs(plan: ApplyPlan, finished: nn.Module) -> list[tuple[Any, Any]]:
    """Return small training crops with the outputs of the torch network, clipped as the exported graph clips."""
    deployed = Deployed(finished, plan.architecture).eval()
    return [
        (inputs, {name: value.numpy() for name, value in run_network(deployed, inputs).items()})
        for inputs in golden_inputs(plan.dataset, plan.architecture, plan.crop, plan.request.seed)
    ]


def _weights(model: nn.Module) -> bytes:
    """Return the state dict, tensors of more than one dimension in float16: enough for fine-tuning."""
    from safetensors.torch import save

    def stored(tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.detach().cpu().contiguous()
        return tensor.half() if tensor.dtype == torch.float32 and tensor.dim() > 1 else tensor

    return save({name: stored(tensor).clone() for name, tensor in model.state_dict().items()})


def _versions() -> dict[str, str]:
    import onnxruntime

    return {
        "compression-zoo": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "onnxruntime": str(onnxruntime.__version__),
        "numpy": np.__version__,
    }


def _metrics(plan: ApplyPlan, result: Result, exported: bytes) -> dict[str, Any]:
    report = int8_report(exported)
    convolutions = len(report.int8) + len(report.float)
    return {
        "command": plan.request.command,
        "baseline": f"{plan.name} ({result.start.label} weights)" if plan.recipe else "untrained",
        "figures": [figure.to_json() for figure in result.figures],
        "training": _training(plan, result),
        "notes": [
            f"{layer['technique']} left {layer['layer']} alone: {layer['reason']}"
            for layer in result.left_alone
        ]
        + (result.target.remarks if result.target else [])
        + [f"Accepted: {message}" for message in result.accepted]
        + ([str(result.repair)] if result.repair else []),
        **({"repair": result.repair.to_json()} if result.repair else {}),
        **({"device": result.target.to_json()} if result.target else {}),
        "files": [file.to_json() for file in result.files],
        "accepted_disagreements": list(result.accepted),
        "int8": {
            "share": round(len(report.int8) / convolutions, 4) if convolutions else 0.0,
            "float_layers": list(report.float),
        },
        "data_identity": plan.dataset.identity(),
        "losses": [training.losses for training in result.trainings],
        "held_out_losses": [training.held_out for training in result.trainings],
    }


def _training(plan: ApplyPlan, result: Result) -> dict[str, Any]:
    request = plan.request
    if not result.trainings:
        return {
            "data": plan.data,
            "calibrated_on": list(plan.dataset.scenes("train")),
            "evaluated_on": list(plan.dataset.scenes("test")),
            "starting_weights": result.start.label,
            "starting_weights_sha256": result.start.sha256,
            "training": "none: no technique of the recipe trains",
            "batch": request.batch,
            "crop": plan.crop,
            "seed": request.seed,
            "machine": _machine(),
        }
    return {
        "data": plan.data,
        "trained_on": list(plan.dataset.scenes("train")),
        "evaluated_on": list(plan.dataset.scenes("test")),
        "starting_weights": result.start.label,
        "starting_weights_sha256": result.start.sha256,
        "steps": [training.steps for training in result.trainings],
        "hours": [round(training.seconds / 3600, 3) for training in result.trainings],
        "batch": request.batch,
        "crop": plan.crop,
        "learning_rate": plan.stages.learning_rate,
        "precision": [training.precision for training in result.trainings],
        "seed": request.seed,
        "machine": _machine(),
    }


def _machine() -> str:
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {'cuda' if torch.cuda.is_available() else 'no GPU'}"
    )
