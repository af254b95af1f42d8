"""What `zoo explain --effect` finds out: which quantizers the error of the outputs comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from zoo.explanation.report import finite_or_none

if TYPE_CHECKING:
    from zoo.contracts import Metric

Part = Literal["layer", "weight", "activation"]


@dataclass(frozen=True)
class Effect:
    """What a layer's quantizers, or a single one, do to the outputs.

    Attributes:
        name: Of the layer or the tensor.
        part: A layer (its weight and what it computes), or one of the two.
        quantizers: The names of the tensors that are rounded.
        off_db: Signal to error of the outputs where only these are off; None where not measured.
        on_db: The same where only these are on.
        until_db: Of a layer, the same where everything up to it is on; None for single quantizers.
        share: How much of the error comes from here: the mean of the share that is gone without it, and of what it
            causes by itself, each from 0 to 1.
    """

    name: str
    part: Part
    quantizers: tuple[str, ...]
    off_db: float
    on_db: float
    share: float
    until_db: float | None = None

    def won_db(self, total_db: float) -> float:
        """Return by how many dB the outputs are better without it."""
        return math.inf if math.isinf(self.off_db) else self.off_db - total_db

    def to_json(self, total_db: float) -> dict[str, Any]:
        """Return a plain dictionary for `--json`; null for an infinite ratio."""
        found = {
            "name": self.name,
            "part": self.part,
            "quantizers": list(self.quantizers),
            "share_of_error": self.share,
            "won_if_off_db": finite_or_none(self.won_db(total_db)),
            "alone_off_db": finite_or_none(self.off_db),
            "alone_on_db": finite_or_none(self.on_db),
        }
        if self.until_db is not None:
            found["quantized_until_here_db"] = finite_or_none(self.until_db)
        return found


@dataclass(frozen=True)
class EndScore:
    """The task's score of the two ends.

    Attributes:
        metric: What is scored.
        in_float: Of the float form.
        quantized: Of the file.
        images: How many images were scored.
    """

    metric: Metric
    in_float: float
    quantized: float
    images: int

    @property
    def lost(self) -> float:
        """Return what quantizing costs, in the metric's unit of loss."""
        return self.metric.lost(self.in_float, self.quantized)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for `--json`."""
        return {
            "metric": self.metric.key,
            "unit": self.metric.unit,
            "float": self.in_float,
            "quantized": self.quantized,
            "images": self.images,
        }


@dataclass
class EffectExplanation:
    """All that was measured of one file.

    Attributes:
        total_db: Signal to error of the outputs, against the float form.
        weights_db: The same where only weights are rounded; None if their float values are not known.
        activations_db: The same where only activations are rounded.
        layers: Of each layer, in the order of the network.
        singles: Of single quantizers of the layers with the largest share.
        scores: What the task scores, where images have labels.
        advice: What to do, the most useful first.
    """

    artifact: str
    fingerprint: str
    engine: str
    data: str
    images: int
    total_db: float
    weights_db: float | None
    activations_db: float
    layers: list[Effect]
    singles: list[Effect] = field(default_factory=list)
    scores: list[EndScore] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    def ranking(self) -> list[Effect]:
        """Return the layers, the largest share first."""
        return sorted(self.layers, key=lambda layer: -layer.share)

    def singles_of(self, layer: Effect) -> list[Effect]:
        """Return the single quantizers of a layer that were measured, the largest share first."""
        found = [single for single in self.singles if set(single.quantizers) <= set(layer.quantizers)]
        return sorted(found, key=lambda single: -single.share)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for `--json`."""
        return {
            "artifact": self.artifact,
            "fingerprint": self.fingerprint,
            "engine": self.engine,
            "data": self.data,
            "images": self.images,
            "signal_to_error_db": finite_or_none(self.total_db),
            "only_weights_db": None if self.weights_db is None else finite_or_none(self.weights_db),
            "only_activations_db": finite_or_none(self.activations_db),
            "ranking": [layer.name for layer in self.ranking()],
            "layers": [layer.to_json(self.total_db) for layer in self.layers],
            "quantizers": [single.to_json(self.total_db) for single in self.singles],
            "scores": [score.to_json() for score in self.scores],
            "advice": list(self.advice),
        }


def shown_db(value: float | None) -> str:
    """Return a ratio as tables show it: ``31.4``, ``exact``, or nothing."""
    if value is None:
        return ""
    if math.isinf(value):
        return "exact" if value > 0 else "lost"
    return f"{value:.1f}"


def shown_scores(scores: list[EndScore]) -> list[str]:
    """Return one line for each score: ``top-1: 91.2 % in float, 90.1 % quantized (256 images)``."""
    return [
        f"{each.metric.name}: {each.metric.show(each.in_float)} in float, {each.metric.show(each.quantized)} quantized "
        f"({each.images} image{'s' if each.images > 1 else ''})"
        for each in scores
    ]
