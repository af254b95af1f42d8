"""Artifacts on engines, timed interleaved on one machine."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import plugins
from zoo.artifacts.artifact import Artifact
from zoo.benchmarking.cold_start import ColdStart, measure_cold_start
from zoo.benchmarking.energy import EnergyMeter
from zoo.benchmarking.machine_peaks import Arithmetic, bandwidth_gbs, peak_gmacs
from zoo.benchmarking.op_counts import OpCounts, count_operations
from zoo.benchmarking.steps import Steps, frame_file, measure_steps, step_settings
from zoo.contracts import DeviceProfile, InputSpec, Reporter, SilentReporter
from zoo.contracts.random_inputs import random_inputs
from zoo.errors import MissingDependencyError, UsageError, ZooError
from zoo.onnx.check import load_checked_model
from zoo.runner.loading import load
from zoo.runner.runner import Runner, open_runner
from zoo.runner.timing import WARM_UP, Latency, latency_ratio, measure_latency
from zoo.storage.atomic import open_regular

if TYPE_CHECKING:
    from zoo.contracts import FloatArray, Session

#: Rounds of whole files: each takes several times as long as a run of the network.
_FILE_ROUNDS = 5


@dataclass(frozen=True)
class Candidate:
    """An artifact on an engine.

    Attributes:
        name: What tables call it.
    """

    name: str
    artifact: Artifact
    engine: str

    @property
    def arithmetic(self) -> Arithmetic:
        """Return the arithmetic whose peak it is held against; narrower integers are computed as int8."""
        return "int8" if self.artifact.manifest.precision.startswith("int") else "float32"


@dataclass(frozen=True)
class BenchResult:
    """The measurements of one candidate.

    Attributes:
        candidate: What was measured.
        shape: (channels, height, width) of its input.
        latency: Milliseconds of one run of the network.
        start: Loading and the first run, in a fresh process.
        ratio: Its latency divided by that of the first candidate, with quartiles over rounds.
        steps: Milliseconds of each step of `zoo run` on a whole file; none if a made one could not be run.
        counts: Operations of one run, counted in the file; None without ONNX Runtime.
        peak: 10^9 multiply-accumulates per second that the machine reaches in its arithmetic; None if unknown.
        joules: Energy of one run; None without a sensor.
        golden_psnr: In dB, of the engine's output against the golden output; None if the two are equal.
    """

    candidate: Candidate
    shape: tuple[int, int, int]
    latency: Latency
    start: ColdStart
    ratio: tuple[float, float, float]
    steps: Steps
    counts: OpCounts | None
    peak: float | None
    joules: float | None
    golden_psnr: float | None

    @property
    def gmacs_per_s(self) -> float | None:
        """Return the rate in 10^9 multiply-accumulates a second."""
        return self.counts.macs / self.latency.median / 1e6 if self.counts else None

    @property
    def share_of_peak(self) -> float | None:
        """Return the rate as a share of the peak, 0 to 1."""
        return self.gmacs_per_s / self.peak if self.gmacs_per_s and self.peak else None

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for `--json`."""
        latency, counts, share = self.latency, self.counts, self.share_of_peak
        return {
            "name": self.candidate.name,
            "engine": self.candidate.engine,
            "precision": self.candidate.artifact.manifest.precision,
            "input": list(self.shape),
            **latency.to_json(),
            "percentiles_ms": {str(p): round(latency.percentile(p), 3) for p in (5, 50, 90, 95, 99)},
            "rounds": len(latency.times),
            "load_ms": self.start.load_ms,
            "first_ms": self.start.first_ms,
            "peak_rss_mb": self.start.peak_rss_mb,
            "times_as_long": [round(value, 4) for value in self.ratio],
            **self.steps.to_json(),
            "macs": counts and counts.macs,
            "bytes_moved": counts and counts.bytes,
            "share_of_peak": share and round(share, 4),
            "joules_per_run": self.joules and round(self.joules, 4),
            "golden_psnr_db": self.golden_psnr,
        }


@dataclass(frozen=True)
class BenchReport:
    """All results of one bench, and the machine's limits.

    Attributes:
        peaks: 10^9 multiply-accumulates a second by arithmetic and engine.
        bandwidth: Of memory, 10^9 bytes a second.
        file: What the steps were measured on.
        sensor: Of energy, or why there is none.
    """

    results: tuple[BenchResult, ...]
    peaks: Mapping[Arithmetic, Mapping[str, float]]
    bandwidth: float
    file: str
    sensor: str

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for `--json`."""
        return {
            "results": [result.to_json() for result in self.results],
            "peak_gmacs_per_s": {
                arithmetic: {engine: round(value, 1) for engine, value in by_engine.items()}
                for arithmetic, by_engine in self.peaks.items()
            },
            "bandwidth_gb_per_s": round(self.bandwidth, 2),
            "steps_of": self.file,
            "energy_sensor": self.sensor,
        }


@dataclass(frozen=True)
class Workload:
    """What to measure on.

    Attributes:
        side: Of a square input, in input-tensor pixels; 0 for each network's example size.
        file: For the steps of `zoo run`; None for a synthetic one.
        frame: Size of the synthetic file, (width, height) in pixels.
    """

    side: int = 0
    file: Path | None = None
    frame: tuple[int, int] = (1024, 1024)

    def __str__(self) -> str:
        width, height = self.frame
        return str(self.file) if self.file else f"a made file of {width}x{height} pixels"


def list_candidates(
    artifacts: Mapping[str, Artifact], engines: Sequence[str], profile: DeviceProfile
) -> list[Candidate]:
    """Return each artifact on each engine; without engines, on the one that `zoo run` takes.

    Raises:
        UnknownIdError: An engine does not exist.
        UsageError: A named engine cannot run here.
        PluginError: No engine can run here.
        IntegrityError: No engine computes the artifact rightly.
    """
    for name in engines:
        obstacle = plugins.engine(name).available()
        if obstacle is not None:
            raise UsageError(f"The engine {name} cannot run here: {obstacle}", hint="See:  zoo doctor")
    found = {name: engines or [load(artifact, profile).engine] for name, artifact in artifacts.items()}
    several = len(set().union(*found.values())) > 1
    return [
        Candidate(f"{name} ({engine})" if several else name, artifact, engine)
        for name, artifact in artifacts.items()
        for engine in found[name]
    ]


def run_bench(
    candidates: Sequence[Candidate],
    profile: DeviceProfile,
    workload: Workload | None = None,
    *,
    rounds: int = 15,
    threads: int = 0,
    report: Reporter | None = None,
) -> BenchReport:
    """Measure each candidate in a process of its own, then all interleaved in this one, then whole files.

    An engine's `run` returns its result as an array of this process, so work on a GPU is done when it returns.

    Raises:
        UsageError: A network does not take such a side or frame.
        IntegrityError: An engine fails the golden check.
        ZooError: The file of the workload cannot be run.
    """

    workload, report = workload or Workload(), report or SilentReporter()
    if workload.file is not None:
        open_regular(workload.file).close()
    threads = threads or profile.threads
    shapes = [_shape(each.artifact.manifest.input, workload.side) for each in candidates]
    report.start("load", len(candidates), "files")
    starts, counted = [], []
    runners: dict[str, Runner] = {}
    files: dict[str, Path] = {}
    inputs: dict[str, FloatArray] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for each, shape in zip(candidates, shapes, strict=True):
            spec = each.artifact.manifest.input
            starts.append(measure_cold_start(each.artifact.path, each.engine, profile.id, threads, shape))
            file = files[each.name] = workload.file or frame_file(spec, *workload.frame, folder)
            # Decoding ahead would disturb what is measured next.
            runner = open_runner(
                each.artifact, profile, step_settings(each.artifact.manifest),
                engine=each.engine, threads=threads, files=[file], decode_ahead=False,
            )  # fmt: skip
            runners[each.name] = stack.enter_context(runner)
            inputs[each.name] = random_inputs(spec, 1, shape[1:])
            counted.append(_counts(each, shape))
            report.advance()
        report.start("measure the machine", None)
        peaks = _peaks(candidates, profile, threads, report)
        bandwidth = bandwidth_gbs(profile, threads)
        latencies, joules, sensor = _timed(runners, inputs, rounds, profile, report)
        few = min(rounds, _FILE_ROUNDS)
        report.start("run files, interleaved", few + 1, "rounds")
        # A made file may be more than a network computes in the memory allowed; its own time is known all the same.
        given = workload.file is not None
        steps = measure_steps(runners, files, rounds=few, strict=given, after_round=report.advance)
        report.finish()
    first = latencies[candidates[0].name]
    results = [
        BenchResult(
            candidate=each,
            shape=shape,
            latency=latencies[each.name],
            start=start,
            ratio=latency_ratio(latencies[each.name], first),
            steps=steps[each.name],
            counts=counts,
            peak=max(peaks[each.arithmetic].values(), default=None),
            joules=joules[each.name],
            golden_psnr=runners[each.name].loaded.golden_psnr,
        )
        for each, shape, start, counts in zip(candidates, shapes, starts, counted, strict=True)
    ]
    return BenchReport(tuple(results), peaks, bandwidth, str(workload), sensor)


def _counts(candidate: Candidate, shape: tuple[int, int, int]) -> OpCounts | None:
    try:
        return count_operations(load_checked_model(candidate.artifact), (1, *shape))
    except MissingDependencyError:
        return None


def _peaks(
    candidates: Sequence[Candidate], profile: DeviceProfile, threads: int, report: Reporter
) -> dict[Arithmetic, dict[str, float]]:
    """Of each engine that runs the matrix products; the others are noted."""
    peaks: dict[Arithmetic, dict[str, float]] = {each.arithmetic: {} for each in candidates}
    for arithmetic, by_engine in peaks.items():
        for name in dict.fromkeys(each.engine for each in candidates):
            try:
                by_engine[name] = peak_gmacs(plugins.engine(name), arithmetic, profile, threads)
            except ZooError as error:
                report.note(f"The peak of {name} in {arithmetic} could not be measured: {error.message}")
    return peaks


class _Metered:
    """A session whose runs are counted in joules."""

    def __init__(self, session: Session, meter: EnergyMeter) -> None:
        self._session, self._meter = session, meter
        self._used, self._runs = 0.0, 0

    def run(self, inputs: FloatArray) -> FloatArray:
        before = self._meter.joules()
        outputs = self._session.run(inputs)
        after = self._meter.joules()
        if before is not None and after is not None:
            self._used, self._runs = self._used + after - before, self._runs + 1
        return outputs

    @property
    def joules(self) -> float | None:
        """Of one run, warm-up included; None without a sensor."""
        return self._used / self._runs if self._runs else None


def _timed(
    runners: Mapping[str, Runner],
    inputs: Mapping[str, FloatArray],
    rounds: int,
    profile: DeviceProfile,
    report: Reporter,
) -> tuple[dict[str, Latency], dict[str, float | None], str]:
    report.start("measure, interleaved", rounds + WARM_UP, "rounds")
    meter = EnergyMeter(profile.power_sensors)
    try:
        sessions = {name: _Metered(each.loaded.session, meter) for name, each in runners.items()}
        found = measure_latency(sessions, inputs, rounds=rounds, warm_up=WARM_UP, after_round=report.advance)
    finally:
        meter.close()
    return found, {name: session.joules for name, session in sessions.items()}, meter.sensor


def _shape(spec: InputSpec, side: int) -> tuple[int, int, int]:
    if not side:
        return (spec.channels, *spec.example)
    if spec.fixed_size and (side, side) != spec.example:
        raise UsageError(
            f"This network accepts only inputs of {spec.example[1]}x{spec.example[0]}.",
            hint="Omit --side.",
        )
    if side % spec.multiple_of:
        raise UsageError(
            f"The side must be a multiple of {spec.multiple_of}, not {side}.",
            hint=f"Try --side {side - side % spec.multiple_of or spec.multiple_of}",
        )
    return spec.channels, side, side


def open_artifacts(names: Sequence[str], locate: Any) -> dict[str, Artifact]:
    """Return the artifacts called `names`, by the last part of their names.

    Raises:
        UsageError: One is named twice.
    """
    found: dict[str, Artifact] = {}
    for name in names:
        shown = Path(name).name
        if shown in found:
            raise UsageError(
                f"{shown} is named twice.",
                hint="Name each artifact once; --engine runs all of them on each engine.",
            )
        found[shown] = locate(name)
    return found
