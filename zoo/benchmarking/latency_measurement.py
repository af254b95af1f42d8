"""Measuring artifacts so that a latency model can be fitted: each as a whole, and operator by operator."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from typing import TYPE_CHECKING

from zoo import plugins
from zoo.benchmarking.latency_model import LatencyModel, MeasuredNetwork, fit_latency
from zoo.benchmarking.op_counts import run_operators
from zoo.devices import board_of
from zoo.engines.opening import open_session_for
from zoo.machine.processors import thread_count
from zoo.onnx.check import load_checked_model
from zoo.runner.timing import measure_latency

if TYPE_CHECKING:
    from zoo.artifacts.artifact import Artifact
    from zoo.contracts import DeviceProfile, Reporter

#: Runs of each network under the profiler.
_RUNS = 12


def measure_latency_model(
    artifacts: Iterable[Artifact], profile: DeviceProfile, *, rounds: int, threads: int, report: Reporter
) -> LatencyModel:
    """Measure artifacts with ONNX Runtime on this machine and fit a model of its latencies.

    Args:
        artifacts: Networks of the kind that will be predicted, at least four.
        profile: Of this machine.
        rounds: Timed rounds of each network.
        threads: Of the engine; 0 for those of the profile.
        report: Shows progress.

    Raises:
        ZooError: An artifact does not run, or they are too few.
    """
    import numpy as np

    engine = plugins.engine("onnxruntime")
    count = thread_count(threads, profile)
    models = [(load_checked_model(each), each.manifest.input) for each in artifacts]
    shapes = [(1, spec.channels, *spec.example) for _, spec in models]
    report.start("profile operators", len(models), "networks")
    operators = []
    for (model, _), shape in zip(models, shapes, strict=True):
        operators.append(run_operators(model, shape, runs=_RUNS, threads=count))
        report.advance()
    report.finish()
    report.start("measure latency", rounds, "rounds")
    generator = np.random.default_rng(0)
    latencies = measure_latency(
        {str(n): open_session_for(engine, model, profile, threads=count) for n, (model, _) in enumerate(models)},
        {str(n): generator.random(shape, dtype=np.float32) for n, shape in enumerate(shapes)},
        rounds=rounds, warm_up=2, after_round=report.advance,
    )  # fmt: skip
    report.finish()
    networks = [MeasuredNetwork(each, latencies[str(n)].median) for n, each in enumerate(operators)]
    machine = (
        f"{platform.machine()}, {len(os.sched_getaffinity(0))} processors, {count} threads, ONNX Runtime"
    )
    return fit_latency(networks, machine, board_of() or profile.id, count)
