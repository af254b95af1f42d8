"""Measuring what each quantizer of a file does to its outputs, as `zoo explain --effect` does."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo import plugins
from zoo.checkpoints.resolver import locate_artifact
from zoo.data.choose import choose_dataset
from zoo.engines.feeds import feeds_of
from zoo.evaluation.evaluator import deployed_architecture
from zoo.evaluation.predict import make_predictor
from zoo.evaluation.quality import evaluate_quality
from zoo.explanation.effect_report import Effect, EffectExplanation, EndScore, Part
from zoo.explanation.intermediate_outputs import evaluation_inputs, open_as_written
from zoo.explanation.quantized_artifact import QuantizedArtifact, float_weights
from zoo.explanation.quantized_tensors import parse_onnx
from zoo.explanation.quantizer_remedies import advise
from zoo.explanation.switchable_file import Quantizer, SwitchableFile
from zoo.onnx.check import load_checked_model
from zoo.recipes.grammar import parse

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.artifacts.artifact import Artifact
    from zoo.contracts import Architecture, Dataset, Reporter, Session

    Values = npt.NDArray[np.float32]

#: Layers beyond this number are measured together with their neighbours.
MOST_LAYERS = 60
#: How many quantizers are measured by themselves: those of the layers with the largest share.
MOST_SINGLE = 8
#: Images that classifiers are scored on at most; one image is cheap there, and few say nothing.
_SCORED = 256


def explain_effect(
    name: str,
    *,
    reporter: Reporter,
    data: str = "",
    photos: Sequence[Path] = (),
    against: str = "",
    images: int = 4,
    threads: int = 0,
    seed: int = 0,
) -> EffectExplanation:
    """Switch the quantizers of the artifact `name` off and on, and measure its outputs on test images.

    Args:
        name: A folder, a checkpoint or an ONNX file.
        against: The float artifact or file that `name` was made from, for its weights; needed where `name` itself does
            not hold them.

    Raises:
        ZooError: The artifact or the data cannot be used, or its quantizers cannot be switched.
    """
    artifact = locate_artifact(name, files=True, reporter=reporter)
    recipe = artifact.manifest.recipe
    stages = [stage.technique.rpartition(":")[2] for stage in parse(recipe)] if recipe else []
    source = locate_artifact(against, files=True, reporter=reporter) if against else artifact
    switches = SwitchableFile(
        load_checked_model(artifact), _weights_of(source), keep_ranges=bool(stages) and "ptq" not in stages
    )
    architecture = deployed_architecture(artifact)
    data, dataset = choose_dataset(data, photos, architecture)
    inputs = list(evaluation_inputs(dataset, architecture, images, seed))
    measured = _Measured(switches, inputs, threads)
    layers = _layers(measured.switchable)
    variants = 3 * len(layers) + 3 + 2 * min(MOST_SINGLE, len(measured.switchable))
    reporter.start(f"switch quantizers of {name}", variants, "variants")
    measured.told = lambda: reporter.advance(1)
    weights = [each.name for each in measured.switchable if each.is_weight]
    activations = [each.name for each in measured.switchable if not each.is_weight]
    total = measured.error_db(())
    found = EffectExplanation(
        artifact=name,
        fingerprint=artifact.manifest.fingerprint,
        engine=f"onnxruntime {plugins.engine('onnxruntime').version()}",
        data=data,
        images=len(inputs),
        total_db=total,
        weights_db=measured.error_db(activations) if weights else None,
        activations_db=measured.error_db(weights) if weights else total,
        layers=[],
    )
    until: set[str] = set()
    for label, members in layers:
        until.update(member.name for member in members)
        effect = measured.effect(label, "layer", members, total)
        found.layers.append(replace(effect, until_db=measured.error_db_on(until)))
    for each in _singles(found, measured.switchable):
        found.singles.append(
            measured.effect(each.name, "weight" if each.is_weight else "activation", [each], total)
        )
    reporter.finish()
    found.scores = _scores(measured, dataset, architecture, images, seed, reporter)
    tensors = QuantizedArtifact(name, artifact, threads=threads)
    for each_input in inputs:
        tensors.measure(each_input)
    found.advice = advise(found, tensors.reports(), switches.quantizers, stages)
    return found


class _Measured:
    """The outputs of variants of a file, compared with those of its float form."""

    def __init__(self, switches: SwitchableFile, inputs: Sequence[Values], threads: int) -> None:
        self._switches, self._inputs, self._threads = switches, inputs, threads
        self.told: Callable[[], object] = lambda: None
        self.switchable = [each for each in switches.quantizers if each.can_switch]
        self.everything = frozenset(each.name for each in self.switchable)
        self._wanted = [np.asarray(each, np.float64) for each in self._run(self.everything)]
        self._signal = sum(float(np.square(each).sum()) for each in self._wanted)

    def ends(self) -> tuple[Session, Session]:
        """Return sessions of the float form and of the file, as the engine runs them."""
        in_float, quantized = (
            plugins.engine("onnxruntime").open(self._switches.file(off), threads=self._threads)
            for off in (self.everything, ())
        )
        return in_float, quantized

    def error_db(self, off: Collection[str]) -> float:
        """Return signal to error of the outputs, in dB, with the quantizers of these names off."""
        error = 0.0
        for found, wanted in zip(self._run(off), self._wanted, strict=True):
            error += float(np.square(found - wanted).sum())
        self.told()
        if error == 0:
            return math.inf
        return (
            10 * math.log10(self._signal / error) if self._signal > 0 and math.isfinite(error) else -math.inf
        )

    def error_db_on(self, on: Collection[str]) -> float:
        """Return the same with only the quantizers of these names on."""
        return self.error_db(self.everything - set(on))

    def effect(self, name: str, part: Part, members: Sequence[Quantizer], total_db: float) -> Effect:
        """Measure some quantizers alone off and alone on."""
        names = tuple(member.name for member in members)
        off, on = self.error_db(names), self.error_db_on(names)
        gone, caused = 1 - _error_ratio(off, total_db), _error_ratio(on, total_db)
        share = (max(gone, 0.0) + min(caused, 1.0)) / 2
        return Effect(name, part, names, off, on, share)

    def _run(self, off: Collection[str]) -> Iterator[Values]:
        session = open_as_written(self._switches.file(off), self._threads)
        wanted, expected = [session.get_outputs()[0].name], session.get_inputs()
        for inputs in self._inputs:
            yield np.asarray(session.run(wanted, feeds_of(expected, inputs))[0], np.float32)


def _error_ratio(ratio_db: float, total_db: float) -> float:
    """Return the squared error behind a signal-to-error ratio, as a multiple of the whole file's."""
    if math.isinf(ratio_db) or math.isinf(total_db):
        return 0.0 if ratio_db > 0 else 1.0
    return float(10 ** ((total_db - ratio_db) / 10))


def _layers(quantizers: Sequence[Quantizer]) -> list[tuple[str, list[Quantizer]]]:
    """Return the quantizers by layer, in order; neighbouring layers together if there are more than MOST_LAYERS."""
    found: dict[str, list[Quantizer]] = {}
    for each in quantizers:
        found.setdefault(each.layer, []).append(each)
    layers = list(found.items())
    size = math.ceil(len(layers) / MOST_LAYERS)
    together = []
    for start in range(0, len(layers), size or 1):
        part = layers[start : start + size]
        label = part[0][0] if len(part) == 1 else f"{part[0][0]} to {part[-1][0]}"
        together.append((label, [each for _, members in part for each in members]))
    return together


def _singles(found: EffectExplanation, quantizers: Sequence[Quantizer]) -> list[Quantizer]:
    """Return the quantizers of the layers with the largest share, MOST_SINGLE at most."""
    by_name = {each.name: each for each in quantizers}
    return [by_name[name] for layer in found.ranking() for name in layer.quantizers][:MOST_SINGLE]


def _weights_of(artifact: Artifact) -> Mapping[str, npt.NDArray[np.float32]]:
    """Return the float weights of an artifact by name, those of its file included."""
    from onnx import TensorProto, numpy_helper

    stored = parse_onnx(load_checked_model(artifact)).graph.initializer
    in_file = {
        each.name: numpy_helper.to_array(each) for each in stored if each.data_type == TensorProto.FLOAT
    }
    return in_file | float_weights(artifact)


def _scores(
    measured: _Measured,
    dataset: Dataset,
    architecture: Architecture,
    images: int,
    seed: int,
    reporter: Reporter,
) -> list[EndScore]:
    """Return what the task scores in float and quantized; nothing if the images have no labels."""
    first = next(iter(dataset.frames(architecture, "test", seed)), None)
    if first is None or first.target is None or not plugins.task_of(architecture).labelled:
        return []
    limit = images if architecture.output.dense else max(images, _SCORED)
    ends = [
        evaluate_quality(
            make_predictor(session, architecture), dataset, architecture,
            split="test", reporter=reporter, seed=seed, limit=limit,
        )
        for session in measured.ends()
    ]  # fmt: skip
    return [
        EndScore(metric, ends[0].values[metric.key], ends[1].values[metric.key], ends[0].images)
        for metric in ends[0].metrics
        if metric.key in ends[1].values
    ]
