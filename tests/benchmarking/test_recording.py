"""What a bench measured is kept in artifacts and registries, and lists are sorted by it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from zoo import plugins
from zoo.artifacts.artifact import Artifact, open_artifact
from zoo.artifacts.performance import fastest_on, performance_of
from zoo.benchmarking import machine_peaks
from zoo.benchmarking.comparison import BenchReport, Workload, list_candidates, run_bench
from zoo.benchmarking.recording import Recording
from zoo.checkpoints.resolver import locate_artifact
from zoo.errors import UsageError
from zoo.publishing.register import registered
from zoo.registry import entry_for, shipped_folder
from zoo.registry.installed import registry_file
from zoo_cli.main import main

PROFILE = plugins.device("x86-cpu")
NAME = "resnet20-int8"
KEY = "x86-cpu onnxruntime"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, BenchReport]:
    """A checkpoint in a folder of its own, and what was measured of it."""
    folder = tmp_path_factory.mktemp("bench") / NAME
    shutil.copytree(shipped_folder(NAME), folder)
    candidates = list_candidates({NAME: open_artifact(folder)}, ["onnxruntime"], PROFILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine_peaks, "LONGEST_SECONDS", 0.1)
        report = run_bench(candidates, PROFILE, Workload(frame=(64, 64)), rounds=3, threads=1)
    return candidates[0].artifact, report


def test_rows_go_into_a_registry_beside_those_of_other_devices_and_sort_its_list(
    bench: tuple[Artifact, BenchReport], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact, report = bench
    registry = tmp_path / "registry.toml"
    registry.write_text(f"# mine\n{registry_file().read_text()}")
    before = registered(registry)
    for device in ("jetson-nano", "x86-cpu"):
        recording = Recording.of(str(registry), {NAME: artifact}, plugins.device(device))
        assert recording.keep(report, 1) == [str(registry)]
    after = registered(registry)
    assert after[NAME].performance.keys() == {"jetson-nano onnxruntime", KEY}
    assert after[NAME].files == before[NAME].files
    assert {**after, NAME: None} == {**before, NAME: None}
    assert registry.read_text().startswith("# mine\n")
    assert main(["list", "checkpoints", "--registry", str(registry), "--device", "x86-cpu", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["checkpoints"]
    medians = [after[each["id"]].performance[KEY].median_ms for each in listed]
    assert (medians, len(listed)) == (sorted(medians), len(before))
    assert main(["list", "checkpoints", "--registry", str(registry), "--device", "jetson-nano"]) == 0
    assert "ms (onnxruntime)" in capsys.readouterr().out


def test_rows_go_into_the_artifact_its_card_and_its_entry(
    bench: tuple[Artifact, BenchReport], tmp_path: Path
) -> None:
    artifact, report = bench
    assert Recording.of("artifact", {NAME: artifact}, PROFILE).keep(report, 1) == [str(artifact.path)]
    again = open_artifact(artifact.path)
    again.verify()
    row = performance_of(again.metrics())[KEY]
    assert row.median_ms == round(report.results[0].latency.median, 3)
    assert row.peak_mb == round(report.results[0].start.peak_rss_mb, 1)
    assert (row.input, row.threads) == ("1x3x32x32", 1)
    assert f"{row.peak_mb:.0f} MB |" in again.read("README.md").decode()
    assert json.loads(again.read("config.json"))["precision"] == "int8"
    registry = tmp_path / "registry.toml"
    registry.write_text(f"format = 1\n{entry_for(again, 'mine')}")
    assert registered(registry)["mine"].performance == {KEY: row}


def test_what_may_not_be_changed_is_refused_before_the_measurement() -> None:
    artifact = locate_artifact(NAME)
    with pytest.raises(UsageError, match="a registry pins its bytes"):
        Recording.of("artifact", {NAME: artifact}, PROFILE)
    with pytest.raises(UsageError, match="lists no checkpoint 'other'"):
        Recording.of(str(registry_file()), {"other": artifact}, PROFILE)
    with pytest.raises(UsageError, match="pins other bytes"):
        Recording.of(str(registry_file()), {"resnet20": artifact}, PROFILE)


def test_the_fastest_engine_on_a_device_counts() -> None:
    row = {"version": "1", "input": "1x3x32x32", "threads": 1, "machine": "m", "p95_ms": 9.0, "peak_mb": 1.0}
    rows = performance_of(
        {
            "performance": {
                "x86-cpu onnxruntime": {**row, "median_ms": 3.0},
                "x86-cpu openvino": {**row, "median_ms": 2.0},
                "jetson-nano tensorrt": {**row, "median_ms": 1.0},
            }
        }
    )
    assert fastest_on(rows, "x86-cpu") == ("openvino", rows["x86-cpu openvino"])
    assert fastest_on(rows, "jetson-tx2") is None
