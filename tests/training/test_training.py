"""The training loop: reproducible, resumable, and exact about its budget."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import textwrap
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from support.random_networks import Case
from zoo.architectures.unet import UNetArchitecture
from zoo.contracts import LossTerm, SilentReporter
from zoo.data.darkroom import Darkroom
from zoo.errors import IntegrityError, UsageError, ZooError
from zoo.testing import attempt
from zoo.training.feed import Feed
from zoo.training.loop import TrainingSettings, train
from zoo.training.schedule import Budget, Schedule

ARCHITECTURE = UNetArchitecture()


class Tiny(nn.Module):
    """A net of a few hundred weights with the U-Net's input and output."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 1))
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shuffle(self.body(x))


def tiny() -> Tiny:
    torch.manual_seed(1)
    return Tiny()


def settings(steps: int | None = 20, **options) -> TrainingSettings:
    budget = Budget(steps=steps) if steps is not None else Budget(minutes=options.pop("minutes"))
    return TrainingSettings(budget, batch=2, crop=16, learning_rate=1e-2, precision="float32", **options)


def run(model: nn.Module, plan: TrainingSettings, **options):
    return train(
        model,
        architecture=ARCHITECTURE,
        dataset=Darkroom(),
        settings=plan,
        reporter=SilentReporter(),
        **options,
    )


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_training_lowers_the_loss() -> None:
    _, result = run(tiny(), settings(200))
    assert result.steps == 200
    assert result.losses[-1][1] < 0.7 * result.losses[0][1]


class WithAuxiliaryHead(Tiny):
    """Returns a second output while it is trained."""

    def forward(self, x: torch.Tensor) -> object:
        return (super().forward(x), x.mean()) if self.training else super().forward(x)


def test_a_net_with_an_auxiliary_head_is_trained_on_its_first_output_and_that_is_said() -> None:
    reporter = SilentReporter()
    torch.manual_seed(1)
    trained, _ = train(
        WithAuxiliaryHead(),
        architecture=ARCHITECTURE,
        dataset=Darkroom(),
        settings=settings(5),
        reporter=reporter,
    )
    plain, _ = run(tiny(), settings(5))
    assert equal(trained, plain)
    assert reporter.notes == ["train: in training the network returns 2 outputs; only the first is used."]


class WithUnfitHead(Tiny):
    """Has a head for training whose input has other channels than a recipe left."""

    def __init__(self, works: bool) -> None:
        super().__init__()
        self.works = works
        self.drop = nn.Dropout()
        self.head = nn.Conv2d(16, 4, 1).requires_grad_(False)

    def forward(self, x: torch.Tensor) -> object:
        assert self.drop.training or not torch.is_grad_enabled()
        if self.training or not self.works:
            self.head(x)
        return super().forward(x)


def test_what_a_network_does_in_training_alone_is_left_out_where_it_does_not_run() -> None:
    reporter = SilentReporter()
    torch.manual_seed(1)
    options = {"architecture": ARCHITECTURE, "dataset": Darkroom(), "settings": settings(2)}
    train(WithUnfitHead(True), reporter=reporter, **options)
    assert "train: what the network computes in training alone is left out" in reporter.notes[0]
    with pytest.raises(ZooError, match=r"does not run in training mode: RuntimeError: .*16"):
        train(WithUnfitHead(False), reporter=reporter, **options)


def test_the_same_seed_gives_the_same_weights_bit_for_bit() -> None:
    one, _ = run(tiny(), settings())
    two, _ = run(tiny(), settings())
    other, _ = run(tiny(), settings(seed=3))
    assert equal(one, two)
    assert not equal(one, other)


class Interrupting(SilentReporter):
    """Presses Ctrl-C once `after` steps have been shown."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def advance(self, amount: float = 1, **figures: float | str) -> None:
        self.left -= int(amount)
        if self.left <= 0:
            raise KeyboardInterrupt


def test_ctrl_c_saves_and_the_resumed_run_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    whole, _ = run(tiny(), settings(40))
    state = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(
            tiny(), architecture=ARCHITECTURE, dataset=Darkroom(), settings=settings(40),
            reporter=Interrupting(20), state=state, key="k",
        )  # fmt: skip
    assert state.is_file()
    resumed, result = run(tiny(), settings(40), state=state, key="k")
    assert result.steps == 40
    assert equal(whole, resumed)


def test_a_state_of_another_run_is_not_resumed(tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    run(tiny(), settings(10), state=state, key="one")
    fresh, _ = run(tiny(), settings(20), state=state, key="two")
    whole, _ = run(tiny(), settings(20))
    assert equal(fresh, whole)


def test_kill_9_leaves_a_state_that_resumes(tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    program = textwrap.dedent(f"""
        import sys; sys.path[:0] = {[str(folder) for folder in Path(__file__).parents[:2]]!r}
        import zoo.training.loop as loop
        loop._SAVE_SECONDS = 0.0
        from pathlib import Path
        from test_training import run, settings, tiny
        run(tiny(), settings(100_000), state=Path({str(state)!r}), key="k")
    """)
    child = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + 120
        while not state.is_file():
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.3)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    _, result = run(tiny(), settings(0), state=state, key="k")
    assert result.steps > 0


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_a_damaged_state_is_refused_by_name(tmp_path: Path, cut: int) -> None:
    state = tmp_path / "state.safetensors"
    run(tiny(), settings(3), state=state, key="k")
    state.write_bytes(state.read_bytes()[:cut])
    with pytest.raises(IntegrityError, match=r"state\.safetensors"):
        run(tiny(), settings(3), state=state, key="k")


class Ticking(Tiny):
    """Moves a clock of its own forward in each step, by a second, or by `later` seconds after 100 steps."""

    def __init__(self, later: float = 1.0) -> None:
        super().__init__()
        self.now, self.calls, self.later = 0.0, 0, later

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.now += 1.0 if self.calls <= 100 else self.later
        return super().forward(x)


def ticking(later: float = 1.0) -> Ticking:
    torch.manual_seed(1)
    return Ticking(later)


def test_minutes_are_used_and_not_exceeded() -> None:
    model = ticking()
    _, result = run(model, settings(None, minutes=2), clock=lambda: model.now)
    assert 110 <= result.steps <= 120
    assert result.seconds == result.steps


@pytest.mark.parametrize("later", [3.0, 10.0, 1000.0])
def test_minutes_are_a_limit_when_the_machine_becomes_slower(later: float) -> None:
    model = ticking(later)
    _, result = run(model, settings(None, minutes=3), clock=lambda: model.now)
    assert 100 < result.steps < 175
    assert result.seconds <= 180 + later, "at most the step under way exceeds the limit"


def test_a_first_step_that_takes_all_the_time_is_the_only_one() -> None:
    model = ticking()
    _, result = run(model, settings(None, minutes=1 / 60), clock=lambda: model.now)
    assert result.steps == 1


def test_a_timed_run_is_reproduced_by_its_number_of_steps() -> None:
    model = ticking()
    timed, result = run(model, settings(None, minutes=2), clock=lambda: model.now)
    counted, _ = run(tiny(), settings(result.steps))
    assert equal(timed, counted)


def test_the_rate_does_not_depend_on_a_total_that_is_not_planned_yet() -> None:
    known, unknown = Schedule(Budget(steps=1000)), Schedule(Budget(minutes=10))
    assert [known.factor(step) for step in range(500)] == [unknown.factor(step) for step in range(500)]
    assert known.factor(999) < 0.02


def test_an_objective_of_a_technique_is_minimised_too() -> None:
    def size(inputs, outputs, targets, model):
        return model.body[0].weight.square().sum()

    plain, _ = run(tiny(), settings(60))
    pulled, _ = run(tiny(), settings(60), terms=[LossTerm("size", 1.0, size)])
    assert pulled.body[0].weight.square().sum() < 0.5 * plain.body[0].weight.square().sum()


def test_a_term_can_weigh_the_tasks_own_loss() -> None:
    def never(inputs, outputs, targets, net):
        raise AssertionError("the training knows the loss of the task")

    _, whole = run(tiny(), settings(1))
    _, quarter = run(tiny(), settings(1), terms=[LossTerm("task", -0.75, never, scales_task=True)])
    assert quarter.losses[0][1] == pytest.approx(whole.losses[0][1] / 4, abs=1e-6)  # losses are rounded


class Windowed(Tiny):
    """Holds a table of five dimensions, as attention in windows does, and one of two."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1, 12, 1, 1, 1))
        self.register_buffer("table", torch.zeros(3, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shuffle(self.body(x) * self.gain[..., 0])


def test_a_net_with_weights_of_any_number_of_dimensions_trains() -> None:
    torch.manual_seed(1)
    model = Windowed()
    run(model, settings(3), teacher=copy.deepcopy(model))
    assert not torch.equal(model.gain, torch.ones(1, 12, 1, 1, 1))


def test_frozen_batch_norms_keep_their_statistics() -> None:
    model = nn.Sequential(nn.BatchNorm2d(4), tiny())
    before = copy.deepcopy(model[0].state_dict())
    trained, _ = run(model, settings(5), freeze_norm=True)
    assert torch.equal(trained[0].running_mean, before["running_mean"])
    assert not torch.equal(trained[0].weight, before["weight"])


def test_divergence_is_an_error_with_a_remedy() -> None:
    model = tiny()
    with torch.no_grad():
        model.body[0].weight.fill_(float("inf"))
    with pytest.raises(ZooError, match="diverged") as caught:
        run(model, settings(20))
    assert "--learning-rate" in (caught.value.hint or "")


def test_two_processes_share_each_batch_of_one() -> None:
    def inputs(world: int, rank: int) -> list[np.ndarray]:
        feed = Feed(
            Darkroom(), ARCHITECTURE, size=16, batch=4, seed=0, start=3, rank=rank, world=world
        )  # fmt: skip
        batches = [batch.inputs.numpy() for batch in islice(feed, 2)]
        feed.close()
        return batches

    whole, first, second = inputs(1, 0), inputs(2, 0), inputs(2, 1)
    for batch, one, two in zip(whole, first, second, strict=True):
        assert np.array_equal(batch, np.concatenate([one, two]))


def test_an_error_in_the_data_reaches_the_caller() -> None:
    class Broken(Darkroom):
        def crops(self, *args, **options):
            raise UsageError("no data today")

    with pytest.raises(UsageError, match="no data today"):
        train(
            tiny(), architecture=ARCHITECTURE, dataset=Broken(), settings=settings(5), reporter=SilentReporter()
        )  # fmt: skip


def test_a_network_of_which_nothing_can_be_trained_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="unet has no parameters") as refused:
        run(nn.Identity(), settings())
    assert "nn.ModuleList" in str(refused.value.hint)
    with pytest.raises(UsageError, match=r"All 404 parameters of unet are frozen") as refused:
        run(tiny().requires_grad_(False), settings())
    assert "requires_grad" in str(refused.value.hint)


@pytest.mark.parametrize(
    "wrong", [{}, {"steps": 1, "minutes": 1.0}, {"steps": -1}, {"minutes": float("nan")}]
)
def test_impossible_budgets_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError):
        Budget(**wrong)


def test_a_network_that_changes_what_gradients_need_is_refused() -> None:
    with pytest.raises(ZooError, match="cannot be trained, since it changes tensors in place") as caught:
        attempt([], Case((("sigmoid", "relu in place"),), "").architecture())
    assert "ptq" in (caught.value.hint or "")
