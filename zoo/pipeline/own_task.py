"""A task made of a program's own loss and measures."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from zoo import plugins
from zoo.artifacts.golden import MAIN_OUTPUT
from zoo.contracts import Metric, OutputSpec, Scorer, Task
from zoo.errors import InputError, UsageError
from zoo.modules.output_tree import arranged, split_outputs
from zoo.tasks.built_in_metrics import METRICS

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.contracts import Architecture, FloatArray, TargetArray

#: (outputs, targets) of a batch, to a number.
Measure = Callable[[Any, Any], Any]
#: Images that a measure is called with at once.
_BATCH = 64


class OwnTask(Task):
    """A task whose loss or measures are functions of a Python program; the rest is that of another task.

    Args:
        base: The task that it completes.
        architecture: The network.
        loss: From (outputs, targets) of a batch to a scalar tensor; None for the base's. The outputs are what the
            network returns.
        metrics: From (outputs, targets) of a batch to a number, by name or by :class:`zoo.contracts.Metric`. The
            outputs are what the engine computes from the exported file, in the form that the network returns.
    """

    def __init__(
        self,
        base: Task,
        architecture: Architecture,
        loss: Callable[[Any, Tensor], Tensor] | None,
        metrics: Mapping[str | Metric, Measure],
    ) -> None:
        self._base, self._loss, self._architecture = base, loss, architecture
        self._metrics = {_metric(name): function for name, function in metrics.items()}
        self.id, self.summary, self.outputs = base.id, base.summary, base.outputs  # type: ignore[misc]
        self.pipeline, self.data, self.data_hint = base.pipeline, base.data, base.data_hint  # type: ignore[misc]
        own = {metric.key for metric in self._metrics}
        self._joined = base.id == "classification" or not metrics
        inherited = tuple(each for each in base.measures if each.key not in own) if self._joined else ()
        self.measures = (*self._metrics, *inherited)  # type: ignore[misc]
        self.labelled = bool(metrics) or base.labelled  # type: ignore[misc]
        self.whole_output = True  # type: ignore[misc]

    @property
    def has_loss(self) -> bool:
        """Return whether a loss was passed."""
        return self._loss is not None

    def loss(self, output: OutputSpec) -> Callable[[Any, Tensor], Tensor] | None:
        inherited = None if self._loss else self._base.loss(output)
        if inherited is None:
            return self._loss

        def of_main_output(returned: Any, targets: Tensor) -> Tensor:
            return inherited(split_outputs(returned, self._architecture)[0].float(), targets)

        return of_main_output

    def scorer(self, output: OutputSpec) -> Scorer:
        return _OwnScorer(
            self._metrics, self._architecture, self._base.scorer(output) if self._joined else None
        )

    def show(self, *args: Any, **kwargs: Any) -> Any:
        return self._base.show(*args, **kwargs)


def with_own_loss(architecture: Architecture) -> Architecture:
    """Return an architecture whose task trains by the loss that the architecture states, if it states one."""
    stated = architecture.loss
    held: object = architecture.task
    if stated is None or (isinstance(held, OwnTask) and held.has_loss):
        return architecture
    changed = copy.copy(architecture)
    changed.task = OwnTask(plugins.task_of(architecture), architecture, stated, {})  # type: ignore[assignment]
    return changed


def _metric(name: str | Metric) -> Metric:
    """The declaration of a measure that is only named: that of the built-in one, else higher is better."""
    if isinstance(name, Metric):
        return name
    return METRICS.get(name) or Metric(name, name.replace("_", " "), limit=math.inf)


class _OwnScorer:
    """Collects images into batches; the result is the mean over images."""

    def __init__(
        self, metrics: Mapping[Metric, Measure], architecture: Architecture, base: Scorer | None
    ) -> None:
        self._metrics, self._base, self._architecture = metrics, base, architecture
        self._outputs: list[dict[str, FloatArray]] = []
        self._targets: list[TargetArray] = []
        self._sums = dict.fromkeys((metric.key for metric in metrics), 0.0)
        self._images = 0

    def add(self, prediction: Any, target: TargetArray) -> Mapping[str, float]:
        outputs = prediction if isinstance(prediction, dict) else {MAIN_OUTPUT: prediction}
        if not self._metrics and self._base is not None:
            return self._base.add(outputs[MAIN_OUTPUT], target)
        if self._outputs and (_shapes(self._outputs[0]), self._targets[0].shape) != (
            _shapes(outputs),
            target.shape,
        ):
            self._measure()  # images of different sizes are measured apart
        self._outputs.append(outputs)
        self._targets.append(np.asarray(target))
        if len(self._outputs) == _BATCH:
            self._measure()
        return (
            self._base.add(outputs[MAIN_OUTPUT], target)
            if self._base is not None and target.ndim == 0 and target.dtype.kind in "ui"
            else {}
        )

    def result(self) -> Mapping[str, float]:
        self._measure()
        own = {key: total / max(1, self._images) for key, total in self._sums.items()}
        return {**(self._base.result() if self._base is not None else {}), **own}

    def intervals(self) -> Mapping[str, tuple[float, float]]:
        found = self._base.intervals() if self._base is not None else {}
        return {key: each for key, each in found.items() if key not in self._sums}

    def _measure(self) -> None:
        if not self._outputs:
            return
        outputs = self._as_returned(
            {
                name: torch.from_numpy(np.stack([each[name] for each in self._outputs]))
                for name in self._outputs[0]
            }
        )
        targets = torch.from_numpy(np.stack(self._targets))
        for metric, function in self._metrics.items():
            try:
                value = float(function(outputs, targets))
            except Exception as error:  # the program's own function
                raise InputError(
                    f"The metric '{metric.key}' failed on outputs of {_shapes(self._outputs[0])} and targets of "
                    f"{tuple(targets.shape)}: {type(error).__name__}: {error}",
                    hint="metric=... is called with (outputs, targets): what the network returns, and tensors with a "
                    "batch dimension; it returns a number. Several are a dictionary of functions by name.",
                ) from error
            if not math.isfinite(value):
                raise UsageError(f"The metric '{metric.key}' is {value}, which cannot be compared.")
            self._sums[metric.key] += value * len(self._outputs)
        self._images += len(self._outputs)
        self._outputs, self._targets = [], []

    def _as_returned(self, outputs: dict[str, Tensor]) -> Any:
        """Return the outputs of a file in the form that the network returns them."""
        names = self._architecture.returns
        main = outputs.pop(MAIN_OUTPUT)
        return main if isinstance(names, str) else arranged(names, outputs, main)


def _shapes(outputs: Mapping[str, FloatArray]) -> str:
    return ", ".join(str(each.shape) for each in outputs.values())
