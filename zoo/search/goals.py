"""What a search minimises, and the budgets that an answer must keep."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from zoo.errors import UsageError
from zoo.formatting import scaled, seconds
from zoo.suggest import did_you_mean

Goal = Literal["score", "size", "latency", "memory", "macs"]
GOALS: tuple[Goal, ...] = get_args(Goal)
#: What is minimised where nothing is stated.
DEFAULT_GOALS: tuple[Goal, ...] = ("score", "size", "latency")
#: The same for a device whose latencies are not known here.
FOREIGN_GOALS: tuple[Goal, ...] = ("score", "size", "macs")
#: Goals whose value a file has before it is trained; a candidate beyond their budget is not trained.
EXACT: tuple[Goal, ...] = ("size", "memory", "macs")
#: How each is known.
SOURCES: Mapping[Goal, str] = {
    "score": "measured on the test images with the exported file in ONNX Runtime",
    "size": "bytes of model.onnx",
    "latency": "median of runs in ONNX Runtime on this machine, interleaved with the original's; their ratio times the "
    "original's median",
    "memory": "computed from model.onnx: the activations that are held at once for the example input, and the weights",
    "macs": "counted in model.onnx for the example input",
}

_FORM = re.compile(r"(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+)\s*([A-Za-z]*)", re.IGNORECASE)
_BYTES = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_UNITS: Mapping[Goal, Mapping[str, float]] = {
    "size": _BYTES,
    "memory": _BYTES,
    "latency": {"us": 1e-3, "ms": 1, "s": 1e3, "": 1},
    "macs": {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12},
}
_EXAMPLES: Mapping[Goal, str] = {"size": "2MB", "memory": "200MB", "latency": "20ms", "macs": "1.5G"}


def parse_goals(names: Sequence[str]) -> tuple[Goal, ...]:
    """Return goals by name, in order; those of :data:`DEFAULT_GOALS` if none are named.

    Raises:
        UsageError: One does not exist, or is named twice.
    """
    found: list[Goal] = []
    for name in names:
        goal = next((each for each in GOALS if each == name), None)
        if goal is None:
            raise UsageError(
                f"There is no goal '{name}'{did_you_mean(name, GOALS)}",
                hint=f"Choose from:  {', '.join(GOALS)}",
            )
        if goal in found:
            raise UsageError(f"The goal '{name}' is named twice.")
        found.append(goal)
    return tuple(found) or DEFAULT_GOALS


def parse_budget(goal: Goal, text: str) -> float:
    """Return a budget such as ``20ms``, ``2MB`` or ``1.5G`` in milliseconds, bytes or multiply-accumulates.

    Raises:
        UsageError: It is malformed or zero.
    """
    match = _FORM.fullmatch(text.strip())
    factor = _UNITS[goal].get(match[2].lower()) if match else None
    value = float(match[1]) * factor if match and factor is not None else 0.0
    if not 0 < value < float("inf"):
        raise UsageError(
            f"--{goal} is '{text[:50]}', which is not a budget.",
            hint=f"Write it as in:  --{goal} {_EXAMPLES[goal]}",
        )
    return value


def heading(goal: Goal, *, predicted: bool = False) -> str:
    """Return the head of a column with a goal's values.

    Args:
        goal: What it is a value of.
        predicted: Whether latencies come from a model.
    """
    if goal == "score":
        return "loss"
    return "predicted latency" if goal == "latency" and predicted else goal


def show_goal(goal: Goal, value: float, unit: str = "") -> str:
    """Return a value as tables show it.

    Args:
        goal: What it is a value of.
        value: In milliseconds, bytes, multiply-accumulates, or the unit of the loss.
        unit: Of the loss: "dB", "pt".
    """
    if goal == "score":
        return f"{value:.3g} {unit}".rstrip()
    if goal == "latency":
        return seconds(value / 1000)
    return scaled(value, "" if goal == "macs" else "B")


def goal_weights(goals: Sequence[str]) -> list[float]:
    """Return how much each goal counts where candidates are compared: the score as much as all costs together."""
    costs = sum(goal != "score" for goal in goals) or 1
    return [1.0 if goal == "score" else 1 / costs for goal in goals]
