"""`zoo bench` compares by ratios of medians, measured in turns; loading and memory in a process of their own."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from fake_distributions import zoo
from tiny import bayer_artifact, classifier_artifact
from zoo import plugins
from zoo.bench.bench import contenders_of, run_bench
from zoo.bench.energy import Meter
from zoo.bench.fresh import start_of
from zoo.bench.peaks import peak_gmacs
from zoo.bench.timing import Latency, measure, ratio
from zoo.errors import UsageError, ZooError


class Sleeper:
    """A session that takes a known time, and notes when it was called."""

    def __init__(self, seconds: float, calls: list[float]) -> None:
        self.seconds, self.calls = seconds, calls

    def run(self, inputs):
        self.calls.append(self.seconds)
        time.sleep(self.seconds)
        return inputs


def test_sessions_take_turns_and_the_warm_up_does_not_count() -> None:
    calls: list[float] = []
    sessions = {"slow": Sleeper(0.02, calls), "fast": Sleeper(0.01, calls)}
    found = measure(sessions, np.zeros(1, np.float32), rounds=4, warm_up=1)
    assert calls == [0.02, 0.01] * 5
    assert len(found["slow"].times) == 4
    assert 1.5 < ratio(found["slow"], found["fast"])[0] < 2.5


def test_a_ratio_is_that_of_the_medians_with_the_spread_over_rounds() -> None:
    slow, fast = Latency(4, 4, 4, (2.0, 4.0, 8.0)), Latency(2, 2, 2, (2.0, 2.0, 2.0))
    assert ratio(slow, fast) == (2.0, 1.5, 3.0)


def test_percentiles_lie_between_the_runs() -> None:
    latency = Latency(3, 2, 4, (5.0, 1.0, 2.0, 3.0, 4.0))
    assert (latency.percentile(0), latency.percentile(50), latency.percentile(100)) == (1.0, 3.0, 5.0)
    assert latency.percentile(95) == pytest.approx(4.8)


def test_load_time_and_memory_come_from_a_fresh_process(tmp_path: Path) -> None:
    start = start_of(bayer_artifact(tmp_path / "net").path, "onnxruntime", "host", 1, (4, 32, 32))
    assert start.load_ms > 0
    assert start.first_ms > 0
    assert 20 < start.peak_rss_mb < 200, "that of a process without torch"


def test_a_process_that_fails_is_an_error_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="fresh process"):
        start_of(bayer_artifact(tmp_path / "net").path, "onnxruntime", "host", 1, (7, 32, 32))


def test_artifacts_are_compared_with_the_first(tmp_path: Path) -> None:
    found = {name: bayer_artifact(tmp_path / name) for name in ("one", "two")}
    profile = plugins.device("host")
    bench = run_bench(contenders_of(found, ["onnxruntime"], profile), profile, side=64, rounds=3, threads=1)
    one, two = bench.results
    assert one.ratio == (1.0, 1.0, 1.0)
    assert two.ratio[0] == pytest.approx(two.latency.median / one.latency.median)
    assert one.shape == (4, 64, 64)
    assert one.golden_psnr is not None
    assert bench.peaks["float32"] > 0


def test_a_side_the_network_does_not_take_is_refused_with_one_it_does(tmp_path: Path) -> None:
    profile = plugins.device("host")
    contenders = contenders_of({"net": bayer_artifact(tmp_path / "net")}, ["onnxruntime"], profile)
    with pytest.raises(UsageError, match="multiple of 2") as refusal:
        run_bench(contenders, profile, side=33)
    assert refusal.value.hint == "Try --side 32"
    fixed = contenders_of({"net": classifier_artifact(tmp_path / "fixed")}, ["onnxruntime"], profile)
    with pytest.raises(UsageError, match="64x64 only"):
        run_bench(fixed, profile, side=32)


def test_the_peak_counts_multiply_accumulates() -> None:
    assert 1 < peak_gmacs("float32", 1) < 10_000
    assert 1 < peak_gmacs("int8", 1) < 50_000


def test_a_rapl_counter_that_wraps_is_followed(tmp_path: Path) -> None:
    counter = tmp_path / "sys/class/powercap/intel-rapl:0"
    counter.mkdir(parents=True)
    (counter / "max_energy_range_uj").write_text("1000000\n")
    (counter / "energy_uj").write_text("900000\n")
    meter = Meter(root=tmp_path)
    (counter / "energy_uj").write_text("400000\n")
    energy = meter.stop()
    assert energy.joules == pytest.approx(0.5)
    assert energy.sensor.startswith("RAPL")


@pytest.mark.parametrize(
    ("files", "pattern", "watts"),
    [
        ({"sys/rail/in_power0_input": "5000"}, "/sys/rail/in_power0_input", 5.0),
        ({"sys/rail/in1": "5000", "sys/rail/curr1": "1500"}, "/sys/rail/in1 * /sys/rail/curr1", 7.5),
    ],
)
def test_power_rails_are_sampled_over_time(
    tmp_path: Path, files: dict[str, str], pattern: str, watts: float
) -> None:
    (tmp_path / "sys/rail").mkdir(parents=True)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    started = time.monotonic()
    meter = Meter([pattern], tmp_path)
    time.sleep(0.2)
    energy = meter.stop()
    elapsed = time.monotonic() - started
    assert energy.joules is not None
    assert 0.5 * watts * elapsed < energy.joules <= watts * elapsed


def test_without_a_sensor_that_is_said(tmp_path: Path) -> None:
    energy = Meter(["/sys/none"], tmp_path).stop()
    assert energy.joules is None
    assert energy.sensor.startswith("no ")


def test_one_artifact_alone_is_not_called_a_comparison(tmp_path: Path) -> None:
    bayer_artifact(tmp_path / "net")
    done = zoo("bench", str(tmp_path / "net"), "--engine", "onnxruntime", "--rounds", "3", "--side", "32")
    assert done.code == 0, done.err
    assert "no comparison" in done.out
    assert "times as fast" not in done.out


def test_json_holds_every_figure(tmp_path: Path) -> None:
    for name in ("one", "two"):
        bayer_artifact(tmp_path / name)
    done = zoo(
        "bench", str(tmp_path / "two"), "--vs", str(tmp_path / "one"), "--engine", "onnxruntime", "--rounds", "3",
        "--side", "32", "--json",
    )  # fmt: skip
    results = json.loads(done.out)["results"]
    assert [result["name"] for result in results] == ["one", "two"]
    assert {"median_ms", "quartiles_ms", "percentiles_ms", "load_ms", "first_ms", "peak_rss_mb"} <= set(
        results[1]
    )
