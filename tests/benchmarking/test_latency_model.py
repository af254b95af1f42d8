"""Predicting latencies: what the rates are, how large the error is said to be, and what a file of it must hold."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import pytest

from zoo import plugins
from zoo.artifacts import Artifact
from zoo.benchmarking.latency_measurement import measure_latency_model
from zoo.benchmarking.latency_model import LatencyModel, MeasuredNetwork, fit_latency
from zoo.benchmarking.op_counts import OperatorRun, count_operations, run_operators
from zoo.contracts import SilentReporter
from zoo.errors import InputError, UsageError
from zoo.onnx.check import load_checked_model

RATES = {"Conv": (0.02, 0.5, 0.1), "Conv depthwise": (0.01, 4.0, 0.2), "Add": (0.005, 0.0, 0.3)}


def networks(count: int, noise: float = 0.0) -> list[MeasuredNetwork]:
    """Networks whose operators take what RATES say, with noise, and a tenth less when they run together."""
    draw = random.Random(0)
    found = []
    for _ in range(count):
        operators = []
        for kind, (fixed, per_mac, per_byte) in RATES.items():
            for _ in range(8):
                macs = 0 if kind == "Add" else draw.randrange(10**5, 10**8)
                moved = draw.randrange(10**4, 10**7)
                time = (fixed + per_mac * macs / 1e6 + per_byte * moved / 1e6) * (
                    1 + noise * draw.uniform(-1, 1)
                )
                operators.append(OperatorRun(kind, macs, moved, time))
        found.append(MeasuredNetwork(operators, 0.9 * sum(each.milliseconds for each in operators)))
    return found


def test_exact_rates_are_found_again_and_predict_a_network_that_was_not_measured() -> None:
    *seen, new = networks(6)
    model = fit_latency(seen, "a machine", "host", 1)
    for kind, rates in RATES.items():
        assert model.rates[kind] == pytest.approx(rates, rel=1e-6, abs=1e-9)
    assert model.factor == pytest.approx(0.9)
    assert model.predict(new.operators) == pytest.approx(new.milliseconds)
    assert model.worst_error < 1e-6


def test_the_stated_error_is_that_of_networks_left_out_of_the_fit() -> None:
    seen = networks(5, noise=0.3)
    model = fit_latency(seen, "a machine", "host", 1)
    rest = fit_latency(seen[1:], "a machine", "host", 1)
    assert model.errors[0] == pytest.approx(abs(rest.predict(seen[0].operators) / seen[0].milliseconds - 1))
    assert 0 < model.error <= model.worst_error < 0.3


def test_a_kind_that_was_not_seen_is_predicted_like_all_others() -> None:
    model = fit_latency(networks(4), "a machine", "host", 1)
    assert model.predict([OperatorRun("Softmax", 0, 10**6, 0.0)]) > 0


def test_too_few_networks_are_refused() -> None:
    with pytest.raises(UsageError, match="needs at least 4 networks to state its error, not 3"):
        fit_latency(networks(3), "a machine", "host", 1)


def test_a_file_holds_the_model_and_another_file_is_refused(tmp_path: Path) -> None:
    model = fit_latency(networks(4, noise=0.1), "a machine", "jetson-nano", 4)
    path = tmp_path / "model.json"
    model.save(path)
    assert LatencyModel.load(path) == model
    content = json.loads(path.read_text())
    for change in (
        {"form": 2},
        {"errors": []},
        {"rates": {"others": [1, -1, 0]}},
        {"rates": {"Conv": [1, 1, 1]}},
    ):
        path.write_text(json.dumps(content | change))
        with pytest.raises(InputError, match="does not hold a latency model"):
            LatencyModel.load(path)


def test_artifacts_are_measured_operator_by_operator_and_as_a_whole(bayer: Artifact) -> None:
    profile = dataclasses.replace(plugins.device("host"), threads=1)
    model = measure_latency_model([bayer] * 4, profile, rounds=3, threads=1, report=SilentReporter())
    data, spec = load_checked_model(bayer), bayer.manifest.input
    shape = (1, spec.channels, *spec.example)
    operators = run_operators(data, shape, runs=3, threads=1)
    assert sum(each.macs for each in operators) == count_operations(data, shape).macs > 0
    assert all(each.milliseconds > 0 for each in operators)
    assert model.predict(operators) > 0
    assert len(model.errors) == 4
