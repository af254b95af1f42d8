"""A search on a real Ray cluster: a machine that is lost in the middle changes nothing about what is found."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.searching import front, request, run, small_formula
from zoo.errors import InputError
from zoo.search.candidate_run import CandidateRun
from zoo.search.outcome import Outcome
from zoo.search.ray_workers import RayWorkers

pytest.importorskip("optuna")
pytest.importorskip("ray")
pytestmark = [pytest.mark.usefixtures("third_party"), pytest.mark.xdist_group("search"), pytest.mark.slow]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head and a second node, with one processor each."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    nodes = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": 1 << 27, "include_dashboard": False},
    )
    yield nodes
    nodes.shutdown()


def test_a_node_that_is_killed_in_the_middle_costs_its_candidate_only_time(
    cluster: Any, tmp_path: Path
) -> None:
    node = cluster.add_node(num_cpus=1, object_store_memory=1 << 27)
    compute = small_formula()

    def slowly(each: CandidateRun) -> Outcome:
        time.sleep(0.3)
        return compute(each)

    workers = RayWorkers(cluster.address, slowly)
    try:
        assert workers.count == 2
        kill = threading.Timer(2.0, cluster.remove_node, (node,), {"allow_graceful": False})
        kill.start()
        result = run(request(tmp_path / "cluster", trials=12), workers)
        kill.join()
    finally:
        workers.close()
    alone = run(request(tmp_path / "alone", trials=12))
    assert front(result) == front(alone)
    assert not [each for each in result.failed if "lost" in next(iter(each.outcomes.values())).error]


def test_without_a_cluster_the_next_command_is_named() -> None:
    with pytest.raises(InputError, match=r"There is no Ray cluster at ray://127\.0\.0\.1:1") as refused:
        RayWorkers("ray://127.0.0.1:1")
    assert "ray start --head" in str(refused.value)
