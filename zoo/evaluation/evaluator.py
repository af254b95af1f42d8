"""Measuring an artifact on a dataset, as `zoo eval` does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo import plugins
from zoo.artifacts.artifact import Artifact
from zoo.checkpoints.resolver import locate_artifact
from zoo.contracts import Architecture, Dataset, Reporter, Sample, Split, task_for
from zoo.data.choose import choose_dataset
from zoo.errors import UsageError
from zoo.evaluation.predict import make_extra_predictor, make_predictor
from zoo.evaluation.quality import Quality, evaluate_quality
from zoo.runner.budget import board_limit
from zoo.runner.loading import load

if TYPE_CHECKING:
    from zoo.engines.checked_session import CheckedSession
    from zoo.evaluation.predict import PredictExtras

_ALL: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Evaluation:
    """The result of measuring an artifact on a dataset.

    Attributes:
        seen: Scenes evaluated on that the artifact was trained on.
    """

    artifact: str
    fingerprint: str
    engine: str
    quality: Quality
    seen: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for `--json`."""
        return {
            "artifact": self.artifact,
            "fingerprint": self.fingerprint,
            "engine": self.engine,
            "quality": self.quality.to_json(),
            "seen_in_training": self.seen,
        }


def evaluate_artifact(
    name: str,
    *,
    reporter: Reporter,
    data: str | Dataset = "",
    photos: Sequence[Path] = (),
    split: Literal["train", "val", "test", "all"] = "test",
    against: str | None = None,
    images: int | None = None,
    engine: str = "onnxruntime",
    threads: int = 0,
    seed: int = 0,
) -> Evaluation:
    """Measure an artifact on a dataset (see :func:`zoo.data.choose.choose_dataset`).

    Args:
        name: A folder or a checkpoint.
        against: The artifact it is compared with where the data has no labels.

    Raises:
        ZooError: The artifact, the data or the engine cannot be used.
    """
    artifact = locate_artifact(name, files=True, reporter=reporter)
    architecture = deployed_architecture(artifact)
    _, dataset = choose_dataset(data, photos, architecture)
    if split == "all":
        dataset, split = _Everything(dataset), "test"
    with contextlib.ExitStack() as stack:
        session = _open(artifact, engine, threads, stack)
        predict = make_predictor(session, architecture)
        reference = None
        extras: tuple[PredictExtras | None, PredictExtras | None] = (None, None)
        if against is not None:
            original = locate_artifact(against, files=True, reporter=reporter)
            names = _names_of_extras(artifact, original, against)
            other = _open(original, engine, threads, stack)
            reference = make_predictor(other, architecture)
            extras = (
                make_extra_predictor(session, architecture),
                make_extra_predictor(other, architecture, names),
            )
        quality = evaluate_quality(
            predict, dataset, architecture, split=split, reporter=reporter, reference=reference, extras=extras,
            seed=seed, limit=images,
        )  # fmt: skip
    return Evaluation(name, artifact.manifest.fingerprint, engine, quality, _seen(artifact, dataset, split))


def deployed_architecture(artifact: Artifact) -> Architecture:
    """Return the architecture as the manifest describes it; neither its plugin nor its source file is needed."""
    manifest = artifact.manifest
    deployed = Architecture()
    deployed.id, deployed.input, deployed.output = manifest.architecture, manifest.input, manifest.output
    deployed.extra_outputs = manifest.extra_outputs
    deployed.task = manifest.task or task_for(manifest.input, manifest.output)
    return deployed


def _names_of_extras(artifact: Artifact, original: Artifact, against: str) -> dict[str, str]:
    """Return what the outputs besides the main one are called in the original, which another tool may have named.

    Raises:
        UsageError: It has other outputs.
    """
    own, theirs = artifact.manifest, original.manifest
    found = dict(zip(own.extra_outputs, theirs.extra_outputs, strict=False))
    if own.extra_outputs.keys() == theirs.extra_outputs.keys():
        found = {name: name for name in own.extra_outputs}
    pairs = [
        (own.output, theirs.output),
        *((own.extra_outputs[name], theirs.extra_outputs[other]) for name, other in found.items()),
    ]
    alike = all((one.channels, one.scale) == (two.channels, two.scale) for one, two in pairs)
    if not alike or len(own.extra_outputs) != len(theirs.extra_outputs):
        raise UsageError(
            f"{against} gives {_outputs_of(original)}, and cannot be compared with {_outputs_of(artifact)}.",
            hint="Name the network that it was made from:  --against ARTIFACT",
        )
    return found


def _outputs_of(artifact: Artifact) -> str:
    manifest = artifact.manifest
    outputs = [("the main output", manifest.output), *manifest.extra_outputs.items()]
    return ", ".join(f"{name} ({each.kind} {each.channels})" for name, each in outputs)


def _open(artifact: Artifact, engine: str, threads: int, stack: contextlib.ExitStack) -> CheckedSession:
    """Open it as `zoo run` does: apart from this process, unless a registry pins it."""
    host = plugins.device("host")
    session = load(artifact, host, engine=engine, threads=threads, memory=board_limit(host)).session
    stack.callback(session.close)
    return session


def _seen(artifact: Artifact, dataset: Dataset, split: Split) -> list[str]:
    training = artifact.metrics().get("training")
    found = training if isinstance(training, dict) else {}
    seen = found.get("trained_on", found.get("calibrated_on"))
    return (
        sorted({str(scene) for scene in seen} & set(dataset.scenes(split))) if isinstance(seen, list) else []
    )


class _Everything(Dataset):
    """All splits of a dataset as one."""

    def __init__(self, inner: Dataset) -> None:
        self._inner = inner
        self.id = inner.id  # type: ignore[misc]

    def scenes(self, split: Split) -> Sequence[str]:
        return [scene for part in _ALL for scene in self._inner.scenes(part)]

    def frames(self, architecture: Architecture, split: Split, seed: int = 0) -> Iterator[Sample]:
        for part in _ALL:
            yield from self._inner.frames(architecture, part, seed)
