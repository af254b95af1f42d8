"""Latencies of other devices are predicted or refused, and never presented as measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.searching import request, run
from zoo.benchmarking.latency_model import LatencyModel
from zoo.errors import UnknownIdError, UsageError
from zoo.search.front_report import write_report
from zoo.search.latency_source import latency_model
from zoo.search.outcome import Outcome

pytestmark = [pytest.mark.usefixtures("third_party"), pytest.mark.xdist_group("search")]


def model(path: Path, device: str) -> str:
    LatencyModel("aarch64, 6 processors", device, 1, {"others": (1.0, 1.0, 1.0)}, 1.0, (0.1, 0.2, 0.4)).save(
        path
    )
    return str(path)


def test_another_device_needs_a_model_of_it(tmp_path: Path) -> None:
    nano = {"stated": {"device": "jetson-nano"}}
    with pytest.raises(UsageError, match="Latencies on jetson-nano cannot be measured on this machine"):
        latency_model(request(tmp_path, goals=("score", "latency"), **nano))
    with pytest.raises(UsageError, match="cannot be measured on this machine"):
        latency_model(request(tmp_path, limits={"latency": 20.0}, **nano))
    assert latency_model(request(tmp_path, **nano)) is None
    with pytest.raises(UnknownIdError):
        latency_model(request(tmp_path, goals=("score", "latency"), stated={"device": "jetson-none"}))
    found = latency_model(request(tmp_path, latency_model=model(tmp_path / "m.json", "jetson-nano"), **nano))
    assert found is not None
    with pytest.raises(UsageError, match="was measured on jetson-tx2, not on jetson-nano"):
        latency_model(request(tmp_path, latency_model=model(tmp_path / "m.json", "jetson-tx2"), **nano))


def test_a_prediction_is_taken_as_it_is_and_a_measurement_relative_to_the_original() -> None:
    assert Outcome("ptq", 0, latency=6.0).value("latency", 100.0) == 6.0
    assert Outcome("ptq", 0, latency=6.0, latency_before=12.0).value("latency", 100.0) == 50.0


def test_a_report_says_that_latencies_are_predicted_and_how_well(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    wanted = request(
        tmp_path,
        trials=4,
        goals=("score", "latency"),
        latency_model=model(tmp_path / "m.json", "jetson-nano"),
    )
    page = write_report(wanted, run(wanted), {}).read_text()
    assert "predicted latency" in page
    assert "predicted, not measured: for jetson-nano (aarch64, 6 processors)" in page
    assert "by 20% (median) and 40% (at most)" in page
