"""Predicting the latency of a file on a machine that it never ran on, from measurements of other files there.

Each operator takes a fixed time, a time for each multiply-accumulate and a time for each byte that it moves, none of
them negative: the terms of a roofline (Williams et al., 2009), fitted for each kind of operator. One factor turns the
sum over operators, which were timed one at a time, into the latency of the network. The error is that of networks which
were left out of the fit, one at a time.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.benchmarking.op_counts import OperatorRun
from zoo.errors import InputError, UsageError
from zoo.schema import parse_json
from zoo.storage.atomic import read_bytes, write_bytes_atomic

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: Networks below which an error cannot be estimated.
LEAST_NETWORKS = 4
#: Operators of a kind below which it is fitted together with all others.
_LEAST_OPERATORS = 6
_FORM = 1
_LARGEST = 1 << 22
#: The kind that stands for those that were not seen often enough.
_OTHERS = "others"

#: Milliseconds of each operator, of 10^6 multiply-accumulates, and of 10^6 bytes.
Rates = tuple[float, float, float]


@dataclass(frozen=True)
class MeasuredNetwork:
    """A network on the machine: what each of its operators took, and what all of it does."""

    operators: Sequence[OperatorRun]
    milliseconds: float


@dataclass(frozen=True)
class LatencyModel:
    """What a machine takes for an operator of each kind.

    Attributes:
        machine: What was measured, in words.
        device: Id of its profile.
        threads: Of the engine.
        rates: By kind of operator.
        factor: Of the sum over operators.
        errors: Relative errors of the networks that were measured, each predicted from the others, in order.
    """

    machine: str
    device: str
    threads: int
    rates: Mapping[str, Rates]
    factor: float
    errors: tuple[float, ...]

    @property
    def error(self) -> float:
        """Return the median relative error on networks that were left out of the fit."""
        return statistics.median(self.errors)

    @property
    def worst_error(self) -> float:
        """Return the largest of these errors."""
        return max(self.errors)

    def predict(self, operators: Sequence[OperatorRun]) -> float:
        """Return the milliseconds that one run of these operators takes; their own times are not looked at."""
        return self.factor * sum(_time(self.rates, each) for each in operators)

    def save(self, path: Path) -> None:
        """Write the model as JSON.

        Raises:
            OutputError: It cannot be written.
        """
        content = {
            "form": _FORM, "machine": self.machine, "device": self.device, "threads": self.threads,
            "factor": self.factor, "errors": list(self.errors),
            "rates": {kind: list(each) for kind, each in self.rates.items()},
        }  # fmt: skip
        write_bytes_atomic(path, json.dumps(content, indent=2).encode())

    @classmethod
    def load(cls, path: Path) -> LatencyModel:
        """Read a model.

        Raises:
            InputError: The file is none.
        """
        content = parse_json(read_bytes(path, _LARGEST), str(path), error=InputError)
        try:
            if not isinstance(content, dict) or content["form"] != _FORM:
                raise ValueError("it states another form")
            rates = {
                str(kind): (float(a), float(b), float(c)) for kind, (a, b, c) in content["rates"].items()
            }
            errors = tuple(float(each) for each in content["errors"])
            if not errors or _OTHERS not in rates or min(min(each) for each in rates.values()) < 0:
                raise ValueError("it lacks errors or rates, or holds negative ones")
            return cls(
                str(content["machine"]), str(content["device"]), int(content["threads"]), rates,
                float(content["factor"]), errors,
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{path} does not hold a latency model: {error}.",
                hint="Make one on the machine:  zoo bench ARTIFACT ... --latency-model FILE",
            ) from error


def fit_latency(networks: Sequence[MeasuredNetwork], machine: str, device: str, threads: int) -> LatencyModel:
    """Fit a model, and find out how well it predicts.

    Args:
        networks: What was measured, networks of the kind that will be predicted.
        machine: What was measured, in words.
        device: Id of its profile.
        threads: Of the engine.

    Raises:
        UsageError: There are fewer than :data:`LEAST_NETWORKS`.
    """
    if len(networks) < LEAST_NETWORKS:
        raise UsageError(
            f"A latency model needs at least {LEAST_NETWORKS} networks to state its error, not {len(networks)}.",
            hint="Name more artifacts, such as those in the folder trials/ of a search",
        )
    errors = []
    for left_out in range(len(networks)):
        rates, factor = _fit([each for place, each in enumerate(networks) if place != left_out])
        wanted = networks[left_out]
        predicted = factor * sum(_time(rates, each) for each in wanted.operators)
        errors.append(abs(predicted / wanted.milliseconds - 1))
    return LatencyModel(machine, device, threads, *_fit(networks), tuple(errors))


# --------------------------------------------------------------------------------------------------- details


def _fit(networks: Sequence[MeasuredNetwork]) -> tuple[dict[str, Rates], float]:
    every = [each for network in networks for each in network.operators]
    kinds = sorted({each.kind for each in every})
    groups = {kind: [each for each in every if each.kind == kind] for kind in kinds}
    rates = {kind: _rates(each) for kind, each in groups.items() if len(each) >= _LEAST_OPERATORS}
    rates[_OTHERS] = _rates(every)
    sums = [sum(_time(rates, each) for each in network.operators) for network in networks]
    return rates, statistics.median(
        each.milliseconds / total if total else 0.0 for each, total in zip(networks, sums, strict=True)
    )


def _time(rates: Mapping[str, Rates], operator: OperatorRun) -> float:
    fixed, per_mac, per_byte = rates.get(operator.kind, rates[_OTHERS])
    return fixed + per_mac * operator.macs / 1e6 + per_byte * operator.bytes / 1e6


def _rates(operators: Sequence[OperatorRun]) -> Rates:
    """Return the least-squares fit of times without negative terms, where long and short operators count alike."""
    import numpy as np

    times = np.array([each.milliseconds for each in operators])
    terms = np.array([(1.0, each.macs / 1e6, each.bytes / 1e6) for each in operators])
    weights = 1 / np.sqrt(np.maximum(times, 1e-3))
    found = _nonnegative(terms * weights[:, None], times * weights)
    return float(found[0]), float(found[1]), float(found[2])


def _nonnegative(terms: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the non-negative x with the least error of ``terms @ x``: the best fit of some of the terms."""
    import numpy as np

    best, least = np.zeros(terms.shape[1]), float(wanted @ wanted)
    for count in range(1, terms.shape[1] + 1):
        for chosen in map(list, itertools.combinations(range(terms.shape[1]), count)):
            found = np.linalg.lstsq(terms[:, chosen], wanted, rcond=None)[0]
            error = float(np.square(terms[:, chosen] @ found - wanted).sum())
            if found.min() >= 0 and error < least:
                best, least = np.zeros(terms.shape[1]), error
                best[chosen] = found
    return best
