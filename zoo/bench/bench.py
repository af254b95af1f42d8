"""Artifacts on engines, timed in turns on one machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import plugins
from zoo.artifacts.artifact import Artifact
from zoo.bench.energy import Energy, Meter
from zoo.bench.fresh import Start, start_of
from zoo.bench.peaks import peak_gmacs
from zoo.bench.timing import Latency, measure, ratio
from zoo.contracts import DeviceProfile, InputSpec, Reporter, SilentReporter
from zoo.errors import UsageError, ZooError
from zoo.runner.loading import load

if TYPE_CHECKING:
    from zoo.contracts import Session

_WARM_UP = 2


@dataclass(frozen=True)
class Contender:
    """An artifact on an engine. name: how tables call it."""

    name: str
    artifact: Artifact
    engine: str


@dataclass(frozen=True)
class Result:
    """What was measured of a contender.

    shape: (channels, height, width) of its input. ratios: how many times as long as the first contender of the bench it
    takes, with quartiles over rounds. gmacs: of one run, from the artifact's metrics; None if they do not say.
    share_of_peak: of the machine's measured rate for its precision. golden_psnr: dB.
    """

    contender: Contender
    shape: tuple[int, int, int]
    latency: Latency
    start: Start
    ratio: tuple[float, float, float]
    gmacs: float | None
    share_of_peak: float | None
    golden_psnr: float | None

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for `--json`."""
        latency = self.latency
        return {
            "name": self.contender.name,
            "engine": self.contender.engine,
            "precision": self.contender.artifact.manifest.precision,
            "input": list(self.shape),
            **latency.to_json(),
            "percentiles_ms": {str(p): round(latency.percentile(p), 3) for p in (5, 50, 90, 95, 99)},
            "rounds": len(latency.times),
            "load_ms": self.start.load_ms,
            "first_ms": self.start.first_ms,
            "peak_rss_mb": self.start.peak_rss_mb,
            "times_as_long": [round(value, 4) for value in self.ratio],
            "gmacs": self.gmacs,
            "share_of_peak": self.share_of_peak,
            "golden_psnr_db": self.golden_psnr,
        }


@dataclass(frozen=True)
class Bench:
    """All results of one bench, the machine's peaks in GMAC/s by precision, and the energy of all timed rounds."""

    results: tuple[Result, ...]
    peaks: Mapping[str, float]
    energy: Energy

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for `--json`."""
        return {
            "results": [result.to_json() for result in self.results],
            "peak_gmacs_per_s": {name: round(value, 1) for name, value in self.peaks.items()},
            "energy_j": None if self.energy.joules is None else round(self.energy.joules, 3),
            "energy_sensor": self.energy.sensor,
        }


def contenders_of(
    artifacts: Mapping[str, Artifact], engines: Sequence[str], profile: DeviceProfile
) -> list[Contender]:
    """Each artifact on each engine; without engines, on the first of the profile's that can run here.

    Raises UnknownIdError for an engine that does not exist, UsageError for one that cannot run here.
    """
    named = list(engines) or [_preferred(profile)]
    for name in engines:
        obstacle = plugins.engine(name).available()
        if obstacle is not None:
            raise UsageError(f"The engine {name} cannot run here: {obstacle}", hint="See:  zoo doctor")
    return [
        Contender(f"{name} ({engine})" if len(named) > 1 else name, artifact, engine)
        for name, artifact in artifacts.items()
        for engine in named
    ]


def _preferred(profile: DeviceProfile) -> str:
    for name in profile.engines:
        try:
            if plugins.engine(name).available() is None:
                return name
        except ZooError:
            continue
    raise UsageError(f"None of the engines of {profile.id} can run here.", hint="See:  zoo doctor")


def run_bench(
    contenders: Sequence[Contender],
    profile: DeviceProfile,
    *,
    side: int = 0,
    rounds: int = 15,
    threads: int = 0,
    report: Reporter | None = None,
) -> Bench:
    """Measure: first each in a process of its own, then all in turns in this one.

    side: of a square input, in input-tensor pixels; 0 for each network's example size. Raises UsageError for a side a
    network does not take, IntegrityError if an engine fails the golden check.
    """
    import numpy as np

    report = report or SilentReporter()
    threads = threads or profile.threads
    shapes = [_shape(each.artifact.manifest.input, side) for each in contenders]
    report.start("load", len(contenders), "files")
    starts, sessions, inputs, golden = [], {}, {}, {}
    for each, shape in zip(contenders, shapes, strict=True):
        starts.append(start_of(each.artifact.path, each.engine, profile.id, threads, shape))
        loaded = load(each.artifact, profile, engine=each.engine, threads=threads)
        sessions[each.name], golden[each.name] = loaded.session, loaded.golden_psnr
        inputs[each.name] = np.random.default_rng(0).random((1, *shape), dtype=np.float32)
        report.advance()
    kinds = {_kind(each) for each in contenders}
    peaks = {kind: peak_gmacs(kind, threads) for kind in sorted(kinds)}
    report.start("measure in turns", rounds + _WARM_UP, "rounds")
    latencies, energy = _timed(sessions, inputs, rounds, profile, report)
    report.finish()
    first = latencies[contenders[0].name]
    results = []
    for each, shape, start in zip(contenders, shapes, starts, strict=True):
        latency = latencies[each.name]
        gmacs = _gmacs(each.artifact, shape)
        share = gmacs / latency.median * 1000 / peaks[_kind(each)] if gmacs else None
        results.append(
            Result(
                each, shape, latency, start, ratio(latency, first), gmacs, share and round(share, 4), golden[each.name]
            )
        )  # fmt: skip
    return Bench(tuple(results), peaks, energy)


def _timed(
    sessions: Mapping[str, Session],
    inputs: Mapping[str, Any],
    rounds: int,
    profile: DeviceProfile,
    report: Reporter,
) -> tuple[dict[str, Latency], Energy]:
    meter = Meter(profile.power_sensors)
    latencies = measure(sessions, inputs, rounds=rounds, warm_up=_WARM_UP, after_round=report.advance)
    return latencies, meter.stop()


def _shape(spec: InputSpec, side: int) -> tuple[int, int, int]:
    if not side:
        return (spec.channels, *spec.example)
    if spec.fixed_size and (side, side) != spec.example:
        raise UsageError(
            f"This network takes inputs of {spec.example[1]}x{spec.example[0]} only.",
            hint="Leave --side out.",
        )
    if side % spec.multiple_of:
        raise UsageError(
            f"The side must be a multiple of {spec.multiple_of}, not {side}.",
            hint=f"Try --side {side - side % spec.multiple_of or spec.multiple_of}",
        )
    return spec.channels, side, side


def _gmacs(artifact: Artifact, shape: tuple[int, int, int]) -> float | None:
    """GMACs at this size: those stated for the example size, in proportion to the pixels."""
    files = artifact.metrics().get("files")
    macs = (
        files[-1].get("macs") if isinstance(files, list) and files and isinstance(files[-1], dict) else None
    )
    if not isinstance(macs, int):
        return None
    height, width = artifact.manifest.input.example
    return macs / 1e9 * shape[1] * shape[2] / (height * width)


def _kind(contender: Contender) -> str:
    return "int8" if contender.artifact.manifest.precision == "int8" else "float32"


def open_all(names: Sequence[str], locate: Any) -> dict[str, Artifact]:
    """The artifacts called `names`, each by a name that is its own. Raises UsageError for one named twice."""
    found: dict[str, Artifact] = {}
    for name in names:
        shown = Path(name).name
        if shown in found:
            raise UsageError(
                f"{shown} is named twice.", hint="Name each artifact once; engines multiply by --engine."
            )
        found[shown] = locate(name)
    return found
