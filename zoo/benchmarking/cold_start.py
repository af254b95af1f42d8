"""Loading a network in a process of its own: how long it takes, the first run, and the memory it peaks at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from zoo import plugins
from zoo.artifacts.manifest import MODEL_NAME
from zoo.contracts.random_inputs import random_inputs
from zoo.engines.patience import seconds_to_open, seconds_to_run
from zoo.errors import IntegrityError, ZooError
from zoo.processes.child_limits import Ceiling, prepare_child
from zoo.processes.launch import start_python

_TARGET = "zoo.benchmarking.cold_start:measure_in_child"


@dataclass(frozen=True)
class ColdStart:
    """What the first run of a fresh process costs.

    Attributes:
        load_ms: Milliseconds to import the engine and load the model.
        first_ms: Milliseconds of the first run.
        peak_rss_mb: Peak resident memory of the whole process, in MB.
    """

    load_ms: float
    first_ms: float
    peak_rss_mb: float


def measure_cold_start(
    artifact: Path, engine: str, device: str, threads: int, shape: tuple[int, int, int]
) -> ColdStart:
    """Measure the first run in a fresh process.

    Args:
        artifact: Folder of the artifact.
        engine: Id of the engine.
        device: Id of the device profile.
        threads: Threads of the engine; 0 for those of the profile.
        shape: (channels, height, width) of the input.

    Raises:
        IntegrityError: It takes too long.
        ZooError: The fresh process fails.
    """
    numbers = (str(number) for number in (threads, *shape))
    size = (artifact / MODEL_NAME).stat().st_size
    limit = seconds_to_open(size, plugins.engine(engine).load_seconds) + seconds_to_run(shape)
    child = start_python(
        _TARGET, str(os.getpid()), str(artifact), engine, device, *numbers,
        site=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = child.communicate(timeout=limit)
    except subprocess.TimeoutExpired as error:
        raise IntegrityError(f"{engine} did not load and run {artifact} within {limit:.0f} s.") from error
    finally:
        child.kill()
        child.wait()
    if child.returncode:
        said = err.decode(errors="replace").strip()
        reason = said.splitlines()[-1] if said else f"exit code {child.returncode}"
        raise ZooError(f"{engine} failed on {artifact} in a fresh process: {reason}")
    return ColdStart(**json.loads(out))


def measure_in_child(parent: str, path: str, engine: str, device: str, threads: str, *sides: str) -> None:
    """Write to standard output, as JSON, what the first run costs in this process; the child's side."""
    prepare_child(int(parent))
    import numpy as np

    from zoo.artifacts import open_artifact
    from zoo.engines.opening import open_session_for
    from zoo.machine.memory import peak_rss_mb
    from zoo.onnx.check import load_checked_model
    from zoo.runner.budget import board_limit

    opened = open_artifact(Path(path), subset=True)
    model, spec, profile = load_checked_model(opened), opened.manifest.input, plugins.device(device)
    inputs = random_inputs(spec) if spec.parts else np.zeros((1, *map(int, sides)), np.float32)
    Ceiling().limit_memory(board_limit(profile))
    started = time.perf_counter()
    session = open_session_for(plugins.engine(engine), model, profile, threads=int(threads), spec=spec)
    del model
    loaded = time.perf_counter()
    session.run(inputs)
    ran = time.perf_counter()
    sys.stdout.write(
        json.dumps(
            {
                "load_ms": round((loaded - started) * 1000, 2),
                "first_ms": round((ran - loaded) * 1000, 2),
                "peak_rss_mb": round(peak_rss_mb(), 1),
            }
        )
    )
