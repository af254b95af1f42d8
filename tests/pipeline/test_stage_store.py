"""Results of trained stages: kept, found again by a recipe with the same beginning, and never trusted blindly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from support.small_net import request
from zoo.contracts import SilentReporter
from zoo.pipeline.api import apply_request
from zoo.pipeline.plan import plan
from zoo.pipeline.result import Result
from zoo.pipeline.stage_store import StageStore
from zoo.pipeline.stages import TrainingStage
from zoo.training.loop import TrainingResult
from zoo.training.schedule import Budget

pytestmark = pytest.mark.usefixtures("third_party")

STEPS = (Budget(steps=3), Budget(steps=2))
RESULT = TrainingResult(3, 1.5, "float32", [[3, 0.25]])


# ------------------------------------------------------------------------------------------ between two recipes


def applied(recipe: str, out: Path, **options) -> tuple[Result, list[str]]:
    """What a recipe made, and the notes on the way."""
    reporter = SilentReporter()
    result = apply_request(request(recipe, out, **options), reporter)
    assert result is not None
    return result, reporter.notes


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, third_party: None) -> Path:
    """The folder in which a run of the first stage alone left its result."""
    folder = tmp_path_factory.mktemp("kept")
    result, _ = applied("depthwise", folder / "out", budgets=STEPS[:1], keep_stages=folder / "stages")
    assert result.reused == ()
    return folder / "stages"


def test_a_longer_recipe_starts_from_the_kept_stage_and_makes_the_same_file(
    kept: Path, tmp_path: Path
) -> None:
    stages = shutil.copytree(kept, tmp_path / "stages")
    plain, _ = applied("depthwise+qat", tmp_path / "plain", budgets=STEPS)
    reused, notes = applied("depthwise+qat", tmp_path / "reused", budgets=STEPS, keep_stages=stages)
    assert reused.reused == ("depthwise",)
    assert reused.to_json()["reused_stages"] == ["depthwise"]
    assert [note for note in notes if note.startswith("depthwise is not trained: its result is kept in")]
    for name in ("model.onnx", "model.safetensors", "golden.safetensors", "recipe.toml"):
        assert (reused.artifact / name).read_bytes() == (plain.artifact / name).read_bytes(), name
    assert reused.fingerprint == plain.fingerprint
    assert len(list(stages.iterdir())) == 2, "the second stage is kept, too"


def test_the_key_of_a_stage_covers_what_its_result_depends_on_and_no_more(tmp_path: Path) -> None:
    def key(recipe: str = "depthwise", **options) -> str:
        wanted = request(recipe, tmp_path / "out", **{"budgets": STEPS[:1], **options})
        return plan(wanted, SilentReporter()).stages.stage_keys[0]

    first = key()
    assert key("depthwise+ptq", max_loss=None, half_weights=True, threads=1) == first
    others = [
        {"seed": 1},
        {"budgets": STEPS[1:]},
        {"batch": 1},
        {"crop": 48},
        {"recipe": "depthwise(which=second)"},
    ]
    assert len({first, *(key(**other) for other in others)}) == 1 + len(others)


# ------------------------------------------------------------------------------------------------- one file


def network(seed: int) -> nn.ModuleList:
    """A network with what is trained in addition to it."""
    torch.manual_seed(seed)
    return nn.ModuleList(
        [nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8)), nn.ModuleList([nn.Conv2d(8, 4, 1)])]
    )


STAGE = TrainingStage(())


def test_weights_numbers_and_random_state_come_back(tmp_path: Path) -> None:
    store, trained, rebuilt = StageStore(tmp_path / "new", SilentReporter()), network(0), network(1)
    assert store.load(STAGE, "key", rebuilt) is None
    store.save(STAGE, "key", trained, RESULT)
    following = torch.rand(3)
    torch.manual_seed(7)
    assert store.load(STAGE, "key", rebuilt) == RESULT
    assert torch.equal(torch.rand(3), following)
    for name, tensor in trained.state_dict().items():
        assert torch.equal(rebuilt.state_dict()[name], tensor), name


def test_a_damaged_file_is_reported_not_used_and_replaced(tmp_path: Path) -> None:
    reporter = SilentReporter()
    store = StageStore(tmp_path, reporter)
    store.save(STAGE, "key", network(0), RESULT)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    damages = {
        "a bit of a weight": flipped(whole, header + 100),
        "a number of the training": whole.replace(b"0.25", b"0.35"),
        "the end": whole[:-1],
        "the header": flipped(whole, 20),
        "all of it": b"",
        "not safetensors": b"PK\x03\x04" + bytes(100),
    }
    for damage, content in damages.items():
        assert content != whole, damage
        path.write_bytes(content)
        net = network(1)
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        reporter.notes.clear()
        assert store.load(STAGE, "key", net) is None, damage
        assert len(reporter.notes) == 1, damage
        assert reporter.notes[0].endswith("train is trained again."), damage
        assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in before.items()), damage
    store.save(STAGE, "key", network(0), RESULT)
    assert store.load(STAGE, "key", network(1)) == RESULT


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_a_file_of_another_stage_or_network_is_not_used(tmp_path: Path) -> None:
    reporter = SilentReporter()
    store = StageStore(tmp_path, reporter)
    store.save(STAGE, "first", network(0), RESULT)
    (first,) = tmp_path.iterdir()
    store.save(STAGE, "second", nn.ModuleList([nn.Conv2d(4, 8, 3)]), RESULT)
    (second,) = set(tmp_path.iterdir()) - {first}
    assert store.load(STAGE, "second", network(0)) is None
    assert "its tensors are not those of the network" in reporter.notes[-1]
    shutil.copy(first, second)
    assert store.load(STAGE, "second", network(0)) is None
    assert "the result of another stage" in reporter.notes[-1]
    other = {"weight": torch.zeros(3)}
    second.write_bytes(save(other, metadata={"format": "pt"}))
    assert store.load(STAGE, "second", network(0)) is None


def test_a_file_holds_nothing_but_tensors_and_numbers(tmp_path: Path) -> None:
    StageStore(tmp_path, SilentReporter()).save(STAGE, "key", network(0), RESULT)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    described = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    assert json.loads(described["stage"])["training"]["losses"] == [[3, 0.25]]
    assert load(content).keys() == {*network(0).state_dict(), "random"}
