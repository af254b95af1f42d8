"""Timing the artifacts of a front together, so that what else the machine does affects all of them alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from zoo.search.search_result import TRIALS, read_front

if TYPE_CHECKING:
    from zoo.contracts import Reporter
    from zoo.search.search_request import SearchRequest
    from zoo.search.search_result import SearchResult

#: Files that are open at once; of a longer front, those with the lowest latencies so far.
_MOST = 12

#: Milliseconds by the fingerprint of the artifact.
Together = Mapping[str, float]


def time_front(request: SearchRequest, result: SearchResult, reporter: Reporter) -> Together:
    """Return the median latencies of a front's artifacts, measured in interleaved rounds on this machine.

    Nothing is measured where latency is no goal or comes from a model, or again for a front that was measured.
    """
    if "latency" not in request.goals or request.latency_model:
        return {}
    points = sorted(result.front, key=lambda point: point.values["latency"])[:_MOST]
    wanted = {point.outcome.fingerprint for point in points}
    kept = {
        str(row["fingerprint"]): float(row["latency_together"])
        for row in read_front(request.folder)
        if "latency_together" in row
    }
    if wanted <= kept.keys():
        return {fingerprint: kept[fingerprint] for fingerprint in wanted}
    return _measured(request, {p.outcome.fingerprint: p.folder_name for p in points}, reporter)


def _measured(request: SearchRequest, folders: Mapping[str, str], reporter: Reporter) -> Together:
    import numpy as np

    from zoo import plugins
    from zoo.artifacts import open_artifact
    from zoo.onnx.check import load_checked_model
    from zoo.runner.timing import ROUNDS, WARM_UP, measure_latency

    engine = plugins.engine("onnxruntime")
    generator = np.random.default_rng(0)
    sessions, inputs = {}, {}
    for fingerprint, name in folders.items():
        artifact = open_artifact(request.folder / TRIALS / name)
        spec = artifact.manifest.input
        threads = int(request.stated.get("threads", 0))
        sessions[fingerprint] = engine.open(load_checked_model(artifact), threads=threads)
        inputs[fingerprint] = generator.random((1, spec.channels, *spec.example), dtype=np.float32)
    reporter.start("time the front together", ROUNDS + WARM_UP, "rounds")
    found = measure_latency(sessions, inputs, after_round=reporter.advance)
    reporter.finish()
    return {fingerprint: latency.median for fingerprint, latency in found.items()}
