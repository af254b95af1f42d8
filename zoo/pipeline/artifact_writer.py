"""Putting the result of a run into an artifact."""

from __future__ import annotations

import json
import os
import platform
import shlex
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from zoo.artifacts.artifact import write_artifact
from zoo.artifacts.card import card_text
from zoo.artifacts.figures import Figure
from zoo.artifacts.golden import GOLDEN_NAME, golden_bytes
from zoo.artifacts.manifest import GoldenCheck, Manifest
from zoo.evaluation.metrics import METRICS_BY_TASK
from zoo.evaluation.quality import Agreement, Quality
from zoo.export.int8_coverage import int8_report
from zoo.pipeline.recipe_file import recipe_text
from zoo.pipeline.sample_picture import panels_of, sample_picture
from zoo.training.inputs import normalise
from zoo.version import __version__

if TYPE_CHECKING:
    from zoo.pipeline.measure import Measured, Meter
    from zoo.pipeline.pipeline import Outcome
    from zoo.pipeline.request import Job

SAMPLE_NAME = "sample.png"
_GOLDEN_PAIRS = 2
_GOLDEN_SIDE = 64
#: Engines that are right agree to 35 dB and more; those found silently wrong gave 9 to 21.
_GOLDEN_PSNR = 30.0
_GOLDEN_SEED = 104_729


def write_outcome(
    job: Job, outcome: Outcome, *, exported: bytes, finished: nn.Module, trained: nn.Module, meter: Meter
) -> None:
    """Write the artifact. `finished` is the net `exported` was made from, `trained` the one to train further."""
    metrics = _metrics(job, outcome, exported)
    if job.architecture.output.kind in METRICS_BY_TASK:
        metrics |= {"sample": SAMPLE_NAME, "sample_shows": panels_of(job)}
    manifest = Manifest(
        architecture=job.name,
        recipe=str(job.recipe) if job.recipe else "",
        fingerprint=outcome.fingerprint,
        input=job.architecture.input,
        output=job.architecture.output,
        precision=_precision(job, metrics),
        golden=GoldenCheck(GOLDEN_NAME, _GOLDEN_PSNR),
        created_with=_versions(),
    )
    contents = {
        "model.onnx": exported,
        GOLDEN_NAME: golden_bytes(_golden_pairs(job, finished)),
        "metrics.json": (json.dumps(metrics, indent=1) + "\n").encode(),
        "README.md": card_text(outcome.artifact.name, manifest, metrics, path=outcome.artifact).encode(),
    }
    if not job.request.runner_only:
        contents["model.safetensors"] = _weights(trained)
    if job.recipe:
        contents["recipe.toml"] = recipe_text(job, outcome.trainings).encode()
    if job.architecture.output.kind in METRICS_BY_TASK:
        contents[SAMPLE_NAME] = sample_picture(job, meter)
    write_artifact(outcome.artifact, manifest, contents)


def _precision(job: Job, metrics: dict[str, Any]) -> str:
    """What the last technique that changes numbers calls them, else what ONNX Runtime computes in."""
    named = [technique.precision for technique in job.techniques if technique.precision]
    return named[-1] if named else "int8" if metrics["int8"]["share"] > 0 else "float32"


def _golden_pairs(job: Job, finished: nn.Module) -> list[tuple[Any, Any]]:
    """Small training crops and what the torch net gives for them, clipped as the exported graph clips."""
    spec = job.architecture.input
    side = job.crop if spec.fixed_size else min(job.crop, max(spec.multiple_of, _GOLDEN_SIDE))
    samples = job.dataset.crops(job.architecture, side, job.request.seed + _GOLDEN_SEED)
    pairs = []
    for _ in range(_GOLDEN_PAIRS):
        inputs = torch.from_numpy(next(samples).inputs[None])
        with torch.no_grad():
            outputs = finished(normalise(inputs, spec))
        if job.architecture.output.kind == "rgb":
            outputs = outputs.clamp(0, 1)
        pairs.append((inputs.numpy(), outputs.numpy()))
    return pairs


def _weights(model: nn.Module) -> bytes:
    """The state dict; tensors of more than one dimension in float16, which is what a fine-tuning can tell apart."""
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


def _metrics(job: Job, outcome: Outcome, exported: bytes) -> dict[str, Any]:
    report = int8_report(exported)
    convolutions = len(report.int8) + len(report.float)
    return {
        "command": job.request.command,
        "baseline": f"{job.name} ({outcome.start.label} weights)" if job.recipe else "untrained",
        "figures": [figure.to_json() for figure in figures(job, outcome)],
        "training": _training(job, outcome),
        "notes": [
            f"{layer['technique']} left {layer['layer']} alone: {layer['reason']}"
            for layer in outcome.left_alone
        ]
        + (job.target.remarks if job.target else []),
        **({"device": job.target.to_json()} if job.target else {}),
        "files": [file.to_json() for file in outcome.files],
        "int8": {
            "share": round(len(report.int8) / convolutions, 4) if convolutions else 0.0,
            "float_layers": list(report.float),
        },
        "data_identity": job.dataset.identity(),
        "losses": [training.losses for training in outcome.trainings],
    }


def _training(job: Job, outcome: Outcome) -> dict[str, Any]:
    request = job.request
    if not outcome.trainings:
        return {
            "data": job.data,
            "calibrated_on": list(job.dataset.scenes("train")),
            "evaluated_on": list(job.dataset.scenes("test")),
            "starting_weights": outcome.start.label,
            "training": "none: no technique of the recipe trains",
            "batch": request.batch,
            "crop": job.crop,
            "seed": request.seed,
            "machine": _machine(),
        }
    return {
        "data": job.data,
        "trained_on": list(job.dataset.scenes("train")),
        "evaluated_on": list(job.dataset.scenes("test")),
        "starting_weights": outcome.start.label,
        "steps": [training.steps for training in outcome.trainings],
        "hours": [round(training.seconds / 3600, 3) for training in outcome.trainings],
        "batch": request.batch,
        "crop": job.crop,
        "learning_rate": request.learning_rate,
        "precision": [training.precision for training in outcome.trainings],
        "seed": request.seed,
        "machine": _machine(),
    }


def _machine() -> str:
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {'cuda' if torch.cuda.is_available() else 'no GPU'}"
    )


def figures(job: Job, outcome: Outcome) -> list[Figure]:
    """The rows of the before/after table, each with how it was measured."""
    first, last = outcome.files[0], outcome.files[-1]
    spec = job.architecture.input
    size = f"{spec.channels}x{spec.example[0]}x{spec.example[1]} input"
    rows = [
        Figure("parameters", "parameters", "", first.parameters, last.parameters, "weights and biases in model.onnx"),
        Figure(
            "gmacs", "multiply-accumulates", "G", first.macs / 1e9, last.macs / 1e9,
            f"convolutions, transposed convolutions and matrix products of model.onnx for a {size}",
        ),
        Figure("file_mb", "model.onnx", "MB", first.file_bytes / 1e6, last.file_bytes / 1e6, "size of the file"),
    ]  # fmt: skip
    if first.latency and last.latency:
        rows.append(
            Figure(
                "latency_ms", "latency", "ms", round(first.latency.median, 2), round(last.latency.median, 2),
                f"median of interleaved runs in ONNX Runtime on the machine that made it, {size}; compare the ratio",
            )
        )  # fmt: skip
    return rows + _quality_rows(first, last, _eval_command(job, outcome.artifact.name))


def _eval_command(job: Job, name: str) -> str:
    limit = f" --images {job.request.images}" if job.request.images else ""
    return f"zoo eval {name} --data {shlex.quote(job.data)}{limit}"


def _quality_rows(first: Measured, last: Measured, command: str) -> list[Figure]:
    before, after = first.quality, last.quality
    if isinstance(before, Quality) and isinstance(after, Quality):
        how = f"mean over {len(after.scores)} images that no training saw: {command}"
        return [
            Figure(
                each.key, each.name, each.unit, round(before.mean(each.key), each.decimals + 1),
                round(after.mean(each.key), each.decimals + 1), how,
            )
            for each in after.metrics
            if each.key != "mse"  # says what PSNR says
        ]  # fmt: skip
    if isinstance(after, Agreement):
        how = f"against the net before, on {after.images} crops: {command} --against BEFORE"
        return [
            Figure("top1_agreement", "same top-1 class", "", 1.0, round(after.top1, 4), how),
            Figure(
                "logits_sqnr_db", "signal to error of the logits", "dB", None, round(after.logits_db, 2), how
            ),
        ]
    return []
