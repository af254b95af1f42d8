"""`zoo bench` compares by the median ratio over rounds, measured interleaved; cold starts have their own process."""

from __future__ import annotations

import json
import time
import timeit
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from support.fake_distributions import zoo
from support.tiny import bayer_artifact, classifier_artifact
from zoo import plugins
from zoo.benchmarking import machine_peaks
from zoo.benchmarking.cold_start import measure_cold_start
from zoo.benchmarking.comparison import Workload, list_candidates, run_bench
from zoo.benchmarking.energy import EnergyMeter
from zoo.benchmarking.machine_peaks import Arithmetic, bandwidth_gbs, matrix_products, peak_gmacs
from zoo.benchmarking.op_counts import count_operations
from zoo.benchmarking.roofline import RooflinePoint, draw_roofline
from zoo.benchmarking.steps import frame_file
from zoo.contracts import InputSpec, SilentReporter
from zoo.cost import onnx_cost
from zoo.errors import InputError, IntegrityError, UsageError, ZooError
from zoo.export.int8_coverage import int8_report
from zoo.raw.decode import decode
from zoo.registry import shipped_folder
from zoo.runner.loading import load
from zoo.runner.timing import Latency, latency_ratio, measure_latency


@pytest.fixture(autouse=True)
def _briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's limits are measured as they are, in less time."""
    monkeypatch.setattr(machine_peaks, "COPIED_BYTES", 2**23)
    monkeypatch.setattr(machine_peaks, "LONGEST_SECONDS", 0.01)


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
    sessions = {"slow": Sleeper(0.2, calls), "fast": Sleeper(0.02, calls)}
    found = measure_latency(sessions, np.zeros(1, np.float32), rounds=4, warm_up=1)
    assert calls == [0.2, 0.02] * 5
    assert len(found["slow"].times) == 4
    assert latency_ratio(found["slow"], found["fast"])[0] > 1.5


def test_a_ratio_lies_between_its_quartiles() -> None:
    """The ratio of the medians would be 4: the rounds in which both were slow do not count for it."""
    slow, fast = Latency(4, 4, 4, (4.0, 2.0, 9.0)), Latency(1, 1, 1, (4.0, 1.0, 1.0))
    assert latency_ratio(slow, fast) == (2.0, 1.5, 5.5)


def test_a_ratio_is_the_median_over_rounds_with_its_quartiles() -> None:
    slow, fast = Latency(4, 4, 4, (2.0, 4.0, 8.0)), Latency(2, 2, 2, (2.0, 2.0, 2.0))
    assert latency_ratio(slow, fast) == (2.0, 1.5, 3.0)


def test_percentiles_lie_between_the_runs() -> None:
    latency = Latency(3, 2, 4, (5.0, 1.0, 2.0, 3.0, 4.0))
    assert (latency.percentile(0), latency.percentile(50), latency.percentile(100)) == (1.0, 3.0, 5.0)
    assert latency.percentile(95) == pytest.approx(4.8)


def test_load_time_and_memory_come_from_a_fresh_process(tmp_path: Path) -> None:
    start = measure_cold_start(bayer_artifact(tmp_path / "net").path, "onnxruntime", "host", 1, (4, 32, 32))
    assert start.load_ms > 0
    assert start.first_ms > 0
    assert 20 < start.peak_rss_mb < 200, "that of a process without torch"


def test_a_process_that_fails_is_an_error_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="fresh process"):
        measure_cold_start(bayer_artifact(tmp_path / "net").path, "onnxruntime", "host", 1, (7, 32, 32))


def test_artifacts_are_compared_with_the_first(tmp_path: Path) -> None:
    found = {name: bayer_artifact(tmp_path / name) for name in ("one", "two")}
    profile = plugins.device("host")
    workload = Workload(64, frame=(96, 64))
    bench = run_bench(
        list_candidates(found, ["onnxruntime"], profile), profile, workload, rounds=3, threads=1
    )
    one, two = bench.results
    assert one.ratio == (1.0, 1.0, 1.0)
    assert two.ratio[1] <= two.ratio[0] <= two.ratio[2]
    assert one.shape == (4, 64, 64)
    assert one.golden_psnr is not None
    assert set(one.steps.milliseconds) == {"decode", "pack", "infer", "write"}
    assert 0 < one.steps.beside_inference < 1
    rate = one.counts.macs / one.latency.median / 1e6
    assert one.share_of_peak == pytest.approx(rate / bench.peaks["float32"]["onnxruntime"])


def test_without_an_engine_named_it_is_the_one_that_runs_files(tmp_path: Path) -> None:
    artifact, profile = bayer_artifact(tmp_path / "net"), plugins.device("host")
    (candidate,) = list_candidates({"net": artifact}, [], profile)
    assert candidate.engine == load(artifact, profile).engine


def test_an_engine_whose_peak_cannot_be_measured_is_benched_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_peaks, "matrix_products", lambda arithmetic: b"no model")
    artifact, profile, report = bayer_artifact(tmp_path / "net"), plugins.device("host"), SilentReporter()
    candidates = list_candidates({"net": artifact}, ["onnxruntime"], profile)
    workload = Workload(32, frame=(64, 64))
    (result,) = run_bench(candidates, profile, workload, rounds=3, threads=1, report=report).results
    assert result.share_of_peak is None
    assert "onnxruntime in float32 could not be measured" in report.notes[0]


def test_a_side_the_network_does_not_take_is_refused_with_one_it_does(tmp_path: Path) -> None:
    profile = plugins.device("host")
    candidates = list_candidates({"net": bayer_artifact(tmp_path / "net")}, ["onnxruntime"], profile)
    with pytest.raises(UsageError, match="multiple of 2") as refusal:
        run_bench(candidates, profile, Workload(33))
    assert refusal.value.hint == "Try --side 32"
    fixed = list_candidates({"net": classifier_artifact(tmp_path / "fixed")}, ["onnxruntime"], profile)
    with pytest.raises(UsageError, match="only inputs of 64x64"):
        run_bench(fixed, profile, Workload(32))


def best_of(runs: int, work: Callable[[], object]) -> float:
    """The shortest time of `work` in seconds: other programs make it longer, and never shorter."""
    return min(timeit.repeat(work, number=1, repeat=runs))


def test_the_peak_is_near_that_of_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a factor of four: enough for a busy machine, and too little for a mistake in what is counted."""
    monkeypatch.setattr(machine_peaks, "LONGEST_SECONDS", 1.5)
    engine, profile = plugins.engine("onnxruntime"), plugins.device("host")
    side = 1024
    matrix = np.ones((side, side), np.float32)
    with threadpool_limits(1):
        seconds = best_of(12, lambda: matrix @ matrix)
        peak = peak_gmacs(engine, "float32", profile, 1)
        seconds = min(seconds, best_of(12, lambda: matrix @ matrix))
    assert 1 / 4 < peak / (side**3 / seconds / 1e9) < 4


@pytest.mark.parametrize("arithmetic", ["int8", "float32"])
def test_the_products_of_a_peak_are_as_many_as_it_counts(arithmetic: Arithmetic) -> None:
    model = matrix_products(arithmetic)
    assert count_operations(model, (1, 1024, 32, 32)).macs == 6 * 1024**3
    report = int8_report(model)
    assert bool(report.int8) == (arithmetic == "int8")
    assert not report.float or arithmetic == "float32"


def test_the_bandwidth_is_near_that_of_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes read and bytes written both count."""
    monkeypatch.setattr(machine_peaks, "LONGEST_SECONDS", 1.5)
    source = np.ones(machine_peaks.COPIED_BYTES, np.uint8)
    target = np.empty_like(source)
    np.copyto(target, source)
    seconds = best_of(12, lambda: np.copyto(target, source))
    bandwidth = max(bandwidth_gbs(plugins.device("host"), 1) for _ in range(4))
    seconds = min(seconds, best_of(12, lambda: np.copyto(target, source)))
    assert 1 / 4 < bandwidth / (2 * source.nbytes / seconds / 1e9) < 4


@pytest.mark.parametrize("checkpoint", ["lighter-unet", "lighter-unet-int8"])
def test_multiply_accumulates_are_those_counted_from_the_graph(checkpoint: str) -> None:
    model = (shipped_folder(checkpoint) / "model.onnx").read_bytes()
    assert count_operations(model, (1, 4, 32, 48)).macs == onnx_cost(model, (1, 4, 32, 48)).macs


def test_int8_moves_fewer_bytes() -> None:
    whole, rounded = (
        count_operations((shipped_folder(name) / "model.onnx").read_bytes(), (1, 4, 64, 64))
        for name in ("lighter-unet", "lighter-unet-int8")
    )
    assert whole.macs == rounded.macs
    assert rounded.bytes < whole.bytes / 2


def test_work_on_a_shape_the_network_does_not_take_is_an_error() -> None:
    with pytest.raises(IntegrityError, match="cannot run"):
        count_operations((shipped_folder("lighter-unet") / "model.onnx").read_bytes(), (1, 3, 32, 32))


@pytest.mark.parametrize("mosaic", ["bayer", "xtrans"])
def test_a_made_raw_file_is_dark_and_decodes(tmp_path: Path, mosaic: str) -> None:
    spec = InputSpec("packed-raw", 4 if mosaic == "bayer" else 9, mosaic=mosaic)
    frame = decode(frame_file(spec, 132, 96, tmp_path).read_bytes())
    assert frame.mosaic.shape == (96, 132)
    assert 512 < frame.mosaic.mean() < 800


def test_a_frame_smaller_than_a_network_takes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="64x16"):
        frame_file(InputSpec("packed-raw", 4, multiple_of=16, mosaic="bayer"), 64, 16, tmp_path)


def test_the_roofline_shows_each_network_under_the_roofs(tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "roof.png"
    points = [
        RooflinePoint("slow", 2.0, 10.0),
        RooflinePoint("fast", 30.0, 200.0),
        RooflinePoint("as fast", 30.0, 199.0),
    ]
    draw_roofline(points, {"int8": 800.0, "float32": 250.0}, 20.0, path)
    with Image.open(path) as picture:
        colours = {colour for _, colour in picture.getcolors(100_000)}
    assert {(200, 60, 40), (30, 100, 190), (40, 140, 80)} <= colours


def test_a_rapl_counter_that_wraps_is_followed_and_parts_are_not_added_to_the_whole(tmp_path: Path) -> None:
    for name in ("intel-rapl:0", "intel-rapl:0:0"):
        counter = tmp_path / "sys/class/powercap" / name
        counter.mkdir(parents=True)
        (counter / "max_energy_range_uj").write_text("1000000\n")
        (counter / "energy_uj").write_text("900000\n")
    meter = EnergyMeter(root=tmp_path)
    for counter in (tmp_path / "sys/class/powercap").iterdir():
        (counter / "energy_uj").write_text("400000\n")
    assert meter.joules() == pytest.approx(0.5)
    assert meter.sensor == "RAPL, intel-rapl:0"


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
    meter = EnergyMeter([pattern], tmp_path)
    while (meter.joules() or 0.0) < 0.1 * watts:  # a tenth of a second's, later on a busy machine
        assert time.monotonic() - started < 60
        time.sleep(0.02)
    meter.close()
    joules, elapsed = meter.joules(), time.monotonic() - started
    assert joules is not None
    assert 0.1 * watts <= joules <= watts * elapsed


def test_without_a_sensor_that_is_said(tmp_path: Path) -> None:
    meter = EnergyMeter(["/sys/none"], tmp_path)
    assert meter.joules() is None
    assert meter.sensor.startswith("no ")


def test_one_artifact_alone_is_not_called_a_comparison(tmp_path: Path) -> None:
    bayer_artifact(tmp_path / "net")
    done = zoo(
        "bench",
        str(tmp_path / "net"),
        "--engine",
        "onnxruntime",
        "--rounds",
        "3",
        "--side",
        "32",
        "--frame",
        "64x64",
    )
    assert done.code == 0, done.err
    assert "not a comparison" in done.out
    assert "times as fast" not in done.out


def test_json_holds_every_figure(tmp_path: Path) -> None:
    for name in ("one", "two"):
        bayer_artifact(tmp_path / name)
    done = zoo(
        "bench", str(tmp_path / "two"), "--vs", str(tmp_path / "one"), "--engine", "onnxruntime", "--rounds", "3",
        "--side", "32", "--frame", "64x64", "--json", "--plot", str(tmp_path / "roof.png"),
    )  # fmt: skip
    found = json.loads(done.out)
    results = found["results"]
    assert {"peak_gmacs_per_s", "bandwidth_gb_per_s", "energy_sensor"} <= set(found)
    assert found["steps_of"] == "a made file of 64x64 pixels"
    assert (tmp_path / "roof.png").read_bytes().startswith(b"\x89PNG")
    assert [result["name"] for result in results] == ["one", "two"]
    assert {
        "median_ms", "quartiles_ms", "percentiles_ms", "load_ms", "first_ms", "peak_rss_mb", "steps_ms",
        "beside_inference", "macs", "bytes_moved", "share_of_peak", "joules_per_run",
    } <= set(results[1])  # fmt: skip


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--frame", "1024", "not a size"),
        ("--frame", "4x1024", "between 16"),
        ("--plot", "roof.pdf", "PNG files"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is_measured(
    tmp_path: Path, option: str, value: str, message: str
) -> None:
    bayer_artifact(tmp_path / "net")
    done = zoo("bench", str(tmp_path / "net"), option, value)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err


def test_steps_are_measured_on_a_file_that_is_given(tmp_path: Path) -> None:
    artifact = bayer_artifact(tmp_path / "net")
    shot = frame_file(artifact.manifest.input, 64, 48, tmp_path)
    profile = plugins.device("host")
    candidates = list_candidates({"net": artifact}, ["onnxruntime"], profile)
    bench = run_bench(candidates, profile, Workload(32, shot), rounds=3, threads=1)
    assert bench.file == str(shot)
    with pytest.raises(InputError, match="does not exist"):
        run_bench(candidates, profile, Workload(32, tmp_path / "none.dng"))
