"""What is kept of a training: the network after it, or before it where that was better."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from support.small_net import request
from zoo.contracts import SilentReporter
from zoo.pipeline.api import apply_request
from zoo.pipeline.result import Result
from zoo.training.schedule import Budget

pytestmark = pytest.mark.usefixtures("third_party")


def applied(recipe: str | None, out: Path, **options) -> tuple[Result, list[str]]:
    """What a recipe made, and the notes about what was kept."""
    reporter = SilentReporter()
    result = apply_request(request(recipe, out, **options), reporter)
    assert result is not None
    return result, [note for note in reporter.notes if "kept as it was" in note]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, third_party: None) -> Path:
    """A net that is trained far enough for a rough training to make it worse."""
    out = tmp_path_factory.mktemp("trained") / "out"
    result, notes = applied(None, out, budgets=(Budget(steps=60),), learning_rate=1e-2)
    before, after = result.trainings[0].held_out
    assert after < 0.8 * before
    assert notes == []
    return out


def test_a_training_that_makes_a_network_worse_leaves_it_as_it_was(trained: Path, tmp_path: Path) -> None:
    result, notes = applied(None, tmp_path / "out", weights=str(trained), learning_rate=0.3)
    before, after = result.trainings[0].held_out
    assert before < after
    assert len(notes) == 1
    assert "since 6 steps took its loss on other crops from" in notes[0]
    start, end = (load_file(each / "model.safetensors") for each in (trained, result.artifact))
    assert all(start[name].equal(end[name]) for name in start)


def test_what_is_compared_is_what_the_file_computes(trained: Path, tmp_path: Path) -> None:
    """The loss at the start of QAT is that of rounded weights, not of those that training changes."""
    kept, _ = applied("qat", tmp_path / "kept", weights=str(trained), learning_rate=1e-9)
    rough, notes = applied("qat(bits=2)", tmp_path / "rough", weights=str(trained), learning_rate=1e-9)
    assert notes == [] or "train qat" in notes[0]
    assert rough.trainings[0].held_out[0] > 1.05 * kept.trainings[0].held_out[0]


def test_a_training_with_an_aim_of_its_own_is_not_judged_by_the_loss_of_the_task(
    trained: Path, tmp_path: Path
) -> None:
    result, notes = applied("distill", tmp_path / "out", weights=str(trained), learning_rate=1e-6)
    assert result.trainings[0].held_out == []
    assert notes == []
