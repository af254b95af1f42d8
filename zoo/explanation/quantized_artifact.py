"""One artifact whose tensors are being measured."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import UsageError
from zoo.explanation.intermediate_outputs import IntermediateOutputs
from zoo.explanation.quantized_tensors import quantized_tensors
from zoo.explanation.report import Choice, Comparison, TensorReport, covered_range, extremes
from zoo.explanation.rounding_rule import RoundingRule, dynamic_range
from zoo.explanation.tensor_statistics import Distribution, RoundingError
from zoo.explanation.verdicts import describe_problems, explain_difference
from zoo.onnx.check import load_checked_model
from zoo.quantization.observers import Magnitudes
from zoo.suggest import did_you_mean

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.artifacts.artifact import Artifact
    from zoo.explanation.observer_rules import ObserverRule

    Values = npt.NDArray[np.float32]


class _Tensor:
    """The sums of one tensor. alternatives: other ways to round it."""

    def __init__(self, rounding: RoundingRule) -> None:
        self.rounding = rounding
        self.distribution = Distribution()
        self.error = RoundingError(rounding)
        self.alternatives: list[RoundingError] = []
        self._scales: list[float] = []
        self._zero_points: list[float] = []

    def add(self, values: Values) -> None:
        values = self.rounding.counted(values)
        if self.rounding.kind == "dynamic":
            scale, zero_point = dynamic_range(values)
            self._scales.append(float(scale[0]))
            self._zero_points.append(float(zero_point[0]))
        self.distribution.add(values)
        for damage in (self.error, *self.alternatives):
            damage.add(values)

    def report(self, label: str) -> TensorReport:
        rounding, spread = self.rounding, self.distribution
        dynamic = rounding.kind == "dynamic"
        scale = extremes(np.array(self._scales)) if dynamic else extremes(rounding.scale)
        zeros = extremes(np.array(self._zero_points)) if dynamic else extremes(rounding.zero_point)
        choice = None
        remarks: tuple[str, ...] = ("the artifact holds no float weights, so the error is unknown",)
        if spread.counts.any():
            choice = Choice.of(label, self.error, covered_range(rounding, self._scales, self._zero_points))
            signed = rounding.signed and rounding.kind == "activation"
            remarks = describe_problems(choice, rounding.bits, spread, signed=signed)
        return TensorReport(
            rounding.name, rounding.kind, rounding.bits, rounding.scale.size, scale,
            (round(zeros[0]), round(zeros[1])), choice, spread if choice else None, remarks,
        )  # fmt: skip

    def comparison(self, rules: Sequence[ObserverRule]) -> Comparison:
        first, second = (
            Choice.of(str(rule), damage, damage.rounding.reach)
            for rule, damage in zip(rules, self.alternatives, strict=True)
        )
        reason = explain_difference(first, second, self.rounding.bits, self.distribution)
        return Comparison(self.rounding.name, self.rounding.kind, first, second, reason, self.distribution)


class QuantizedArtifact:
    """The quantized tensors of an artifact whose names match `pattern`.

    With `rules`, ranges are judged on values that were not rounded before, as observers see them; without, on
    those that the file computes.

    Raises:
        UsageError: There is no such tensor.
    """

    def __init__(
        self,
        name: str,
        artifact: Artifact,
        *,
        pattern: str = "",
        rules: Sequence[ObserverRule] = (),
        threads: int = 0,
    ) -> None:
        self.name, self.artifact, self._rules = name, artifact, rules
        data = load_checked_model(artifact)
        found = quantized_tensors(data)
        if not found:
            made_of = artifact.manifest.architecture
            network = name if made_of.startswith("onnx:") and ".onnx" in name.lower() else made_of
            raise UsageError(
                f"{name} has no quantized tensors.", hint=f"Make one that does:  zoo apply ptq {network}"
            )
        chosen = _matching(found, pattern)
        self.passed_on = sum(rounding.passed_on for rounding in chosen)
        self._tensors = [_Tensor(rounding) for rounding in chosen if not rounding.passed_on]
        self._recorded = {t.rounding.value: t for t in self._tensors if t.rounding.kind != "weight"}
        self._outputs = (
            IntermediateOutputs(data, list(self._recorded), rounding=not rules, threads=threads)
            if self._recorded
            else None
        )
        self._add_weights()

    def _add_weights(self) -> None:
        state = float_weights(self.artifact)
        for tensor in self._tensors:
            rounding = tensor.rounding
            weight = _as_stored(state.get(rounding.value), rounding)
            if weight is None:
                continue
            if any(rule.by_error for rule in self._rules):
                tensor.alternatives = [
                    RoundingError(rule.of_weight(weight, rounding)) for rule in self._rules
                ]
            tensor.add(weight)

    def choose(self, inputs: Iterable[Values]) -> None:
        """Let each rule choose the ranges of activations from the values that `inputs`, (N, C, H, W), bring."""
        counted = {value: Magnitudes() for value in self._recorded}
        for batch in inputs:
            if self._outputs is not None:
                for value, values in self._outputs.run(batch):
                    counted[value].add(self._recorded[value].rounding.counted(values))
        for value, tensor in self._recorded.items():
            if counted[value].largest:
                tensor.alternatives = [
                    RoundingError(rule.of_activation(counted[value], tensor.rounding)) for rule in self._rules
                ]

    def measure(self, inputs: Values) -> None:
        """Add what one batch (N, C, H, W) brings."""
        if self._outputs is not None:
            for value, values in self._outputs.run(inputs):
                self._recorded[value].add(values)

    def reports(self) -> list[TensorReport]:
        """Return one report for each tensor, in the order of the file."""
        return [tensor.report(self.name) for tensor in self._tensors]

    def comparisons(self) -> list[Comparison]:
        """Return the two rules at each tensor where they may differ."""
        return [tensor.comparison(self._rules) for tensor in self._tensors if tensor.alternatives]


def float_weights(artifact: Artifact) -> dict[str, npt.NDArray[np.float32]]:
    """Return the weights as they were before they were rounded; empty if the artifact does not hold them."""
    if "model.safetensors" not in artifact.manifest.files:
        return {}
    from safetensors.numpy import load

    return load(artifact.read("model.safetensors"))


def _as_stored(weight: npt.NDArray[np.float32] | None, rounding: RoundingRule) -> Values | None:
    """Return the float form of a weight in the layout of its levels; None if there is none."""
    levels = rounding.levels
    if weight is None or levels is None:
        return None
    if weight.shape != levels.shape and weight.T.shape == levels.shape:
        weight = weight.T  # a matrix product holds it the other way round
    return weight.astype(np.float32) if weight.shape == levels.shape else None


def _matching(found: list[RoundingRule], pattern: str) -> list[RoundingRule]:
    if not pattern:
        return found
    shape = pattern if any(c in pattern for c in "*?[") else f"*{pattern}*"
    chosen = [rounding for rounding in found if fnmatch.fnmatchcase(rounding.name, shape)]
    if not chosen:
        names = [rounding.name for rounding in found]
        raise UsageError(
            f"No quantized tensor is called '{pattern[:60]}'{did_you_mean(pattern, names) or '.'}",
            hint="List them:  zoo explain ARTIFACT",
        )
    return chosen
