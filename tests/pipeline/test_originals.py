"""What runs on one network share: its file and its score, as long as nothing that they depend on differs."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.small_net import request
from zoo.contracts import SilentReporter
from zoo.pipeline.api import apply_request
from zoo.pipeline.originals import Originals
from zoo.pipeline.result import Result


class Exports(SilentReporter):
    """Counts the files that are exported."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def start(self, task: str, total: float | None, unit: str = "steps") -> None:
        self.count += task.startswith("export for")


def applied(recipe: str, out: Path, originals: Originals, **options) -> tuple[Result, int]:
    reporter = Exports()
    result = apply_request(request(recipe, out, max_loss=None, **options), reporter, originals)
    assert result is not None
    return result, reporter.count


@pytest.mark.usefixtures("third_party")
def test_a_second_recipe_exports_and_scores_the_network_no_more_and_measures_the_same(tmp_path: Path) -> None:
    shared = Originals()
    first, exports = applied("relu", tmp_path / "first", shared)
    assert exports == 2
    second, exports = applied("ptq(observer=minmax)", tmp_path / "second", shared)
    assert exports == 1
    alone, _ = applied("ptq(observer=minmax)", tmp_path / "alone", Originals())
    assert second.files[0].quality is first.files[0].quality
    for mine, other in zip(second.files, alone.files, strict=True):
        assert (mine.quality, mine.file_bytes, mine.macs) == (other.quality, other.file_bytes, other.macs)
    assert (second.artifact / "model.onnx").read_bytes() == (alone.artifact / "model.onnx").read_bytes()

    _, exports = applied("relu", tmp_path / "other", shared, seed=1)
    assert exports == 2, "other weights are another network"
    fewer, exports = applied("relu", tmp_path / "fewer", shared, images=1)
    assert exports == 1
    assert fewer.files[0].quality.images == 1, "the file is the same, but not what it is scored on"


def test_the_latest_are_kept_and_what_failed_is_tried_again() -> None:
    found: list[int] = []
    originals = Originals()

    def find(number: int) -> int:
        found.append(number)
        if number == 13:
            raise ValueError(number)
        return number

    once = originals.about("net")
    for number in [*range(9), 8, 1, 0]:
        assert once(number, lambda number=number: find(number)) == number
    assert found == [*range(9), 0], "of nine the first is forgotten"
    assert originals.about("other")(8, lambda: find(8)) == 8
    for _ in range(2):
        with pytest.raises(ValueError, match="13"):
            once(13, lambda: find(13))
    assert found[-3:] == [8, 13, 13]
