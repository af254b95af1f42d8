"""What type checkers see of the front door. Read by mypy only, with the sources, never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt
import torch

import zoo
from zoo.artifacts import Artifact
from zoo.checkpoints import CachedCheckpoint, cached_checkpoints, locate_artifact
from zoo.download import Pulled
from zoo.pipeline.result import Result
from zoo.publishing import Published
from zoo.runner import FileResult, Runner

artifact = zoo.open_artifact("out/small")
assert_type(artifact, Artifact)
assert_type(zoo.pull("unet", Path("here"), device="jetson-nano"), Pulled)
assert_type(zoo.run(artifact, ["a.dng", Path("b.dng")], out="pictures", memory="512MB"), list[FileResult])
with zoo.load("unet") as runner:
    assert_type(runner, Runner)
    assert_type(runner.develop("a.dng"), npt.NDArray[Any])
    assert_type(runner.develop("a.dng", "a.png"), FileResult)
    assert_type(runner(np.zeros((1, 4, 32, 32), np.float32)), npt.NDArray[np.float32])
assert_type(zoo.apply("unet", "depthwise+qat", out="out/small", minutes=1.0), Result)
assert_type(zoo.publish("out/small", "me/small", dry_run=True), Published)
assert_type(zoo.Recipe.parse("depthwise+qat"), zoo.Recipe)
assert_type(zoo.list_architectures(), list[str])
assert_type(zoo.list_techniques(), list[str])
assert_type(zoo.list_checkpoints(), list[str])
assert_type(zoo.__version__, str)
assert_type(cached_checkpoints(), list[CachedCheckpoint])
assert_type(locate_artifact("unet"), Artifact)
zoo.create_model("unet", weights="auto").eval()
_ = zoo.nothing  # type: ignore[attr-defined]
zoo.run("unet", "a.dng", out="pictures", format="jpeg")  # type: ignore[arg-type]
try:
    zoo.load("unet")
except zoo.ZooError as error:
    assert_type(error.hint, str | None)

compressed = zoo.apply(
    torch.nn.ReLU(),
    "ptq",
    data=[torch.rand(1, 1, 8, 8)],
    metric={"a": lambda outputs, targets: 1.0},
    out="out/x",
)
assert_type(compressed.model, torch.nn.Module | None)
assert_type(compressed.metrics, dict[str, dict[str, float | None]])
