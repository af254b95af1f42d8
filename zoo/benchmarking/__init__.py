"""How fast artifacts are, against each other on one machine: for `zoo bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from zoo.benchmarking.comparison import (
        BenchReport,
        BenchResult,
        Candidate,
        Workload,
        list_candidates,
        open_artifacts,
        run_bench,
    )
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "zoo.benchmarking.comparison": (
                "BenchReport",
                "BenchResult",
                "Candidate",
                "Workload",
                "list_candidates",
                "open_artifacts",
                "run_bench",
            ),
        },
    )

__all__ = [
    "BenchReport",
    "BenchResult",
    "Candidate",
    "Workload",
    "list_candidates",
    "open_artifacts",
    "run_bench",
]
