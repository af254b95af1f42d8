"""What to do about the quantizers that the error comes from, in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo import plugins
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.explanation.effect_report import Effect, EffectExplanation
    from zoo.explanation.report import TensorReport
    from zoo.explanation.switchable_file import Quantizer

#: Signal to error, in dB, from which on the outputs are as good as those in float.
_CLOSE_DB = 45.0
#: The share of the error that few layers must have for it to be worth sparing them.
_MOST = 0.6
#: How many layers are few.
_FEW = 3
#: Shares below this are not worth a line.
_SOME = 0.1
#: dB by which a tensor must be rounded better than the outputs for large values to hide the error of small ones.
_HIDDEN_DB = 15.0
#: Share of a tensor's error that clipping must have.
_MOSTLY = 0.5


def advise(
    found: EffectExplanation,
    tensors: Sequence[TensorReport],
    quantizers: Sequence[Quantizer],
    stages: Sequence[str],
) -> list[str]:
    """Return what to do, the most useful first.

    Args:
        found: What was measured.
        tensors: How each tensor, (...,) of any shape, is rounded.
        quantizers: Those of the file.
        stages: The techniques that made the file; none for a file from elsewhere.
    """
    own = bool(stages)
    scored = next((score for score in found.scores if score.metric.limit is not None), None)
    if scored is not None and scored.lost <= (scored.metric.limit or 0.0):
        metric = scored.metric
        return [
            f"{metric.name}: {metric.show(scored.quantized)}, {metric.show(scored.in_float)} in float. That is within "
            "the limit of the task: nothing to repair."
        ]
    unknown = (
        [
            "What rounding the weights costs is not known: the file holds none in float. Name the float one: --against."
        ]
        if found.weights_db is None
        else []
    )
    if found.total_db >= _CLOSE_DB:
        return [f"Signal to error of the outputs is {_CLOSE_DB:.0f} dB or more: nothing to repair.", *unknown]
    readers = {each.name: each.readers for each in quantizers}
    reports = {tensor.name: tensor for tensor in tensors}
    lines = []
    for single in sorted(found.singles, key=lambda each: -each.share)[:_FEW]:
        if single.share >= _SOME and single.name in reports:
            lines.append(_remedy(single, reports[single.name], readers.get(single.name, ()), own))
    lines.append(_for_the_whole(found.ranking(), trained="qat" in stages))
    return lines + unknown


def _remedy(single: Effect, tensor: TensorReport, readers: Sequence[str], own: bool) -> str:
    """Return a sentence on one tensor: what is wrong, and what helps."""
    spare = _sparing(readers)
    head = f"{single.name} ({single.part}, {_percent(single.share)} of the error)"
    if tensor.kind == "weight":
        if tensor.channels == 1:
            option = "ptq(per_channel=true)" if own else "ptq, or quantize_static(..., per_channel=True)"
            return f"{head} has one scale for all channels: use one per channel, {option}."
        if tensor.bits < 8:
            return (
                f"{head} has {tensor.bits} bits: ptq(rounding=adaptive), more with weight_bits=8, or {spare}."
            )
        return f"{head} has a scale per channel already: try ptq(rounding=adaptive), or {spare}."
    choice = tensor.choice
    if choice is not None and choice.clipping >= _MOSTLY:
        return f"{head} is clipped at {choice.range:.3g}: a wider range, observer=minmax or observer=auto."
    outliers = next((note for note in tensor.notes if note.startswith("spends")), "")
    if outliers:
        return (
            f"{head} {outliers}. A narrower range, observer=mse or observer=percentile, "
            f"if these values do not matter; else {spare}."
        )
    if tensor.bits < 8:
        return f"{head} has {tensor.bits} bits: more with bits=8, or qat."
    if choice is not None and choice.sqnr_db >= single.on_db + _HIDDEN_DB:
        return (
            f"{head} is rounded well as a whole, {choice.sqnr_db:.0f} dB, but the outputs depend on small values that "
            f"share the range with large ones, often those of one channel: ptq(observer=auto), which balances channels "
            f"where it can, or {spare}."
        )
    return f"{head} uses its range well: {spare}."


def _for_the_whole(ranking: Sequence[Effect], *, trained: bool) -> str:
    total = sum(layer.share for layer in ranking) or 1.0
    few = ranking[:_FEW]
    share = sum(layer.share for layer in few) / total
    if share >= _MOST and len(ranking) > _FEW:
        names = [layer.name for layer in few if layer.share >= _SOME]
        return (
            f"{_percent(share)} of the error comes from {len(names)} of {len(ranking)} layers ({', '.join(names)}): "
            f"{_sparing(())}."
        )
    if trained:
        return "The error is spread over many layers, and was trained with: train longer, or with more bits."
    return "The error is spread over many layers: train with rounding, zoo apply qat, which corrects all of them."


def _sparing(layers: Sequence[str]) -> str:
    """Return how layers are computed more precisely with what is installed."""
    try:
        fields = {each.name for each in dataclasses.fields(plugins.technique("ptq").Config)}
    except (ZooError, TypeError):
        fields = set()
    which = f"for {', '.join(layers[:_FEW])}" if 0 < len(layers) <= _FEW else "for the layers that read it"
    which = which if layers else "for them"
    return (
        f"more precision {which} by ptq(mixed=...), or qat"
        if "mixed" in fields
        else "train with rounding, qat"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
