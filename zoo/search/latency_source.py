"""Where latencies come from: runs on this machine, or a model of another one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zoo import plugins
from zoo.benchmarking.latency_model import LatencyModel
from zoo.devices import board_of
from zoo.errors import UsageError
from zoo.search.goals import SOURCES

if TYPE_CHECKING:
    from zoo.search.search_request import SearchRequest

#: Profiles that stand for whatever machine this is.
_ANY_MACHINE = ("", "host", "x86-cpu")


def is_this_machine(device: str) -> bool:
    """Return whether latencies of a device can be measured here.

    Raises:
        UnknownIdError: There is no such device.
    """
    if device not in _ANY_MACHINE:
        plugins.device(device)
    return device in _ANY_MACHINE or device == board_of()


def latency_model(request: SearchRequest) -> LatencyModel | None:
    """Return the model that predicts latencies; None if they are measured here or not asked for.

    Raises:
        UsageError: Latencies of another device are asked for without a model, or the model is of another device.
        InputError: The model cannot be read.
    """
    if request.latency_model:
        model = LatencyModel.load(Path(request.latency_model))
        if request.device and model.device not in (request.device, "host"):
            raise UsageError(
                f"{request.latency_model} was measured on {model.device}, not on {request.device}.",
                hint=f"Make one there:  {_how(request.device)}",
            )
        return model
    if ("latency" in request.goals or "latency" in request.limits) and not is_this_machine(request.device):
        raise UsageError(
            f"Latencies on {request.device} cannot be measured on this machine, and no model predicts them.",
            hint=f"Make one there:  {_how(request.device)}  then add  --latency-model FILE",
        )
    return None


def latency_note(request: SearchRequest) -> str:
    """Return how latencies are known, for reports."""
    model = latency_model(request)
    if model is None:
        return SOURCES["latency"]
    return (
        f"predicted, not measured: for {request.device or model.device} ({model.machine}), by a model of its operators "
        f"that missed networks left out of its fit by {model.error:.0%} (median) and {model.worst_error:.0%} (at most)"
    )


def _how(device: str) -> str:
    return f"zoo bench ARTIFACT ... --device {device} --latency-model FILE"
