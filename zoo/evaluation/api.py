"""Measuring an artifact from Python, as :mod:`zoo` offers it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo.contracts import Dataset, SilentReporter
from zoo.extras import require

if TYPE_CHECKING:
    from zoo.contracts import Reporter
    from zoo.evaluation.evaluator import Evaluation


def evaluate(
    artifact: str | os.PathLike[str],
    data: Any = "",
    *,
    photos: Sequence[str | Path] = (),
    split: Literal["train", "val", "test", "all"] = "test",
    against: str | os.PathLike[str] | None = None,
    images: int | None = None,
    engine: str = "onnxruntime",
    threads: int = 0,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> Evaluation:
    """Measure the quality of an artifact, as the engine runs it.

    Args:
        artifact: Its folder, or the id of a checkpoint.
        data: The name of a dataset with its options, "" for the task's default; or batches, arrays or a dataset, all of
            which are measured on (see :func:`zoo.data.batches.read_data`).
        photos: Folders of photographs to add to a dataset that is named.
        split: Which images; "all" includes training images, which flatters.
        against: Where the data has no labels: the artifact to compare with.
        images: At most this many images.
        engine: Id of the engine.
        threads: Of the engine; 0 for all that this process may use.
        seed: Of simulated noise.
        reporter: Where progress is reported; by default nowhere.

    Returns:
        The values of the task's measures, in `quality.values`.

    Raises:
        ZooError: The artifact, the data or the engine cannot be used.
    """
    require("skimage", "Measuring quality")
    from zoo.evaluation.evaluator import evaluate_artifact

    if not isinstance(data, (str, Dataset)):
        from zoo.data.program_data import ProgramData

        data = ProgramData(data, test=data)
    return evaluate_artifact(
        os.fspath(artifact), reporter=reporter or SilentReporter(), data=data, photos=[Path(each) for each in photos],
        split=split, against=None if against is None else os.fspath(against), images=images, engine=engine,
        threads=threads, seed=seed,
    )  # fmt: skip
