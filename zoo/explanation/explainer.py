"""Measuring an artifact's quantized tensors, as `zoo explain` does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from zoo import plugins
from zoo.checkpoints.resolver import locate_artifact
from zoo.data.choose import choose_dataset
from zoo.errors import UsageError
from zoo.evaluation.evaluator import deployed_architecture
from zoo.explanation.intermediate_outputs import calibration_inputs, evaluation_inputs
from zoo.explanation.observer_rules import parse_observer_rules
from zoo.explanation.quantized_artifact import QuantizedArtifact
from zoo.explanation.report import Comparison, Explanation, TensorReport
from zoo.explanation.verdicts import explain_difference

if TYPE_CHECKING:
    from zoo.contracts import Reporter

T = TypeVar("T")


def explain_artifact(
    name: str,
    *,
    reporter: Reporter,
    pattern: str = "",
    compare: str = "",
    against: str = "",
    data: str = "",
    photos: Sequence[Path] = (),
    images: int = 4,
    threads: int = 0,
    seed: int = 0,
) -> Explanation:
    """Measure each quantized tensor of the artifact `name` on test images, in ONNX Runtime.

    Args:
        name: A folder or a checkpoint.
        pattern: Which tensors, by name with * and ?, or a part of the name.
        compare: Two observers, whose ranges are chosen on calibration crops and judged on the test images.
        against: Another artifact, whose rounding of the tensors of the same names is measured on the same
            images.

    Raises:
        ZooError: The artifact or the data cannot be used, or no tensor is meant.
    """
    if compare and against:
        raise UsageError("--compare and --against cannot be combined: not both.")
    rules = parse_observer_rules(compare) if compare else ()
    artifact = locate_artifact(name, files=True, reporter=reporter)
    subject = QuantizedArtifact(name, artifact, pattern=pattern, rules=rules, threads=threads)
    subjects = [subject]
    if against:
        other = locate_artifact(against, files=True, reporter=reporter)
        subjects.append(QuantizedArtifact(against, other, pattern=pattern, threads=threads))
    architecture = deployed_architecture(subject.artifact)
    data, dataset = choose_dataset(data, photos, architecture)
    if rules:
        crops = calibration_inputs(dataset, architecture, seed)
        subject.choose(_told(crops, reporter, f"observe {dataset.id}/train", "crops"))
    count = 0
    frames = evaluation_inputs(dataset, architecture, images, seed)
    for inputs in _told(frames, reporter, f"measure on {dataset.id}/test", "images"):
        count += 1
        for each in subjects:
            each.measure(inputs)
    tensors = subject.reports()
    explanation = Explanation(
        artifact=name,
        fingerprint=subject.artifact.manifest.fingerprint,
        engine=f"onnxruntime {plugins.engine('onnxruntime').version()}",
        data=data,
        images=count,
        tensors=tensors,
        passed_on=subject.passed_on,
    )
    if rules:
        explanation.labels = (str(rules[0]), str(rules[1]))
        explanation.comparisons = subject.comparisons()
    elif against:
        explanation.labels = (name, against)
        explanation.comparisons = _side_by_side(tensors, subjects[1].reports(), (name, against))
    return explanation


def _told(items: Iterable[T], reporter: Reporter, task: str, unit: str) -> Iterator[T]:
    """`items`, with the reporter told of each."""
    reporter.start(task, None, unit)
    for item in items:
        yield item
        reporter.advance(1)
    reporter.finish()


def _side_by_side(
    ours: Sequence[TensorReport], theirs: Sequence[TensorReport], labels: tuple[str, str]
) -> list[Comparison]:
    """Return the tensors of the same name. Raises UsageError if there is none."""
    others = {tensor.name: tensor for tensor in theirs}
    rows = []
    for tensor in ours:
        other = others.get(tensor.name)
        if other is None or tensor.choice is None or other.choice is None or tensor.distribution is None:
            continue
        reason = explain_difference(tensor.choice, other.choice, tensor.bits, tensor.distribution)
        rows.append(
            Comparison(tensor.name, tensor.kind, tensor.choice, other.choice, reason, tensor.distribution)
        )
    if not rows:
        raise UsageError(
            f"{labels[0]} and {labels[1]} have no quantized tensor of the same name.",
            hint="Compare artifacts of one architecture with the same changes of structure.",
        )
    return rows
