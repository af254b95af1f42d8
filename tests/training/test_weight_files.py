"""Files of weights, as training scripts write them, go into a network whole, or are refused by what is wrong."""

from __future__ import annotations

import argparse
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import zoo
from zoo.contracts import Architecture, InputSpec
from zoo.errors import InputError, IntegrityError, UsageError, ZooError
from zoo.training.weight_loading import load_weight_file
from zoo.training.weights import load_start

OWN = """
from torch import nn
INPUT = "rgb:3x32x32"
def make():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
"""


class Net(Architecture):
    id = "net"
    input = InputSpec("rgb", 3, example=(32, 32))


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    )


def equal(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[key]) for key, value in one.state_dict().items())


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in net().state_dict().items()}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (net().state_dict(), "8 of 8 tensors matched"),
        ({"state_dict": prefixed("module."), "epoch": 3}, "entry 'state_dict'"),
        ({"model": prefixed("_orig_mod.module.")}, "prefix '_orig_mod.' removed, prefix 'module.' removed"),
        ({"model_state_dict": prefixed("backbone."), "args": argparse.Namespace(lr=0.1)}, "prefix 'backbone.' removed"),
        ({"params": prefixed("net."), "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}}, "entry 'params'"),
        ({"ema": {"module": prefixed("model.")}}, "entry 'ema.module'"),
        ({"n_averaged": torch.tensor(3), **prefixed("module.")}, "prefix 'module.' removed"),
        ({**net(2).state_dict(), "ema_model.step": torch.tensor(1), **prefixed("ema_model.")}, "entry 'ema_model'"),
        ({"state_dict": {**{f"net.{k}": v for k, v in net(2).state_dict().items()}, **prefixed("net_ema.module.")}},
         "entry 'state_dict.net_ema'"),
    ],
)  # fmt: skip
def test_what_training_scripts_save_is_recognised(content: Any, said: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pth")
    model = net(1)
    assert said in load_weight_file(model, Net(), tmp_path / "weights.pth")
    assert equal(model, net())


def test_a_moving_average_goes_first_and_the_other_set_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": net(2).state_dict(), "state_dict_ema": net().state_dict()}, path)
    model = net(1)
    assert "--weights-key state_dict" in load_weight_file(model, Net(), path)
    assert equal(model, net())
    load_weight_file(model, Net(), path, entry="state_dict")
    assert equal(model, net(2))
    with pytest.raises(UsageError, match="did you mean 'state_dict_ema'"):
        load_weight_file(model, Net(), path, entry="state_dict_emma")


def test_half_precision_is_widened_and_counters_are_optional(tmp_path: Path) -> None:
    halves = {k: v.bfloat16() for k, v in net().state_dict().items() if v.is_floating_point()}
    save_file(halves, tmp_path / "half.safetensors")
    model = net(1)
    assert "bfloat16" in load_weight_file(model, Net(), tmp_path / "half.safetensors")
    weight = model[0].weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight.detach(), net()[0].weight.detach().bfloat16().float())


def test_what_does_not_fit_is_named_and_kept_out_unless_asked_for(tmp_path: Path) -> None:
    state = net().state_dict()
    state["4.weight"], state["head.bias"] = torch.ones(7, 4), torch.ones(7)
    del state["4.bias"]
    torch.save(state, tmp_path / "other.pt")
    model, before = net(1), net(1)
    with pytest.raises(UsageError) as refused:
        load_weight_file(model, Net(), tmp_path / "other.pt")
    for part in (
        "6 of its 8",
        "missing in the file: 4.bias",
        "left over in the file: head.bias",
        "7x4 float32",
    ):
        assert part in refused.value.message
    assert equal(model, before)
    assert "loaded in part" in load_weight_file(model, Net(), tmp_path / "other.pt", partial=True)
    assert torch.equal(model[0].weight, net()[0].weight)
    assert torch.equal(model[4].weight, before[4].weight)


def test_a_file_that_matches_nothing_is_refused_even_in_part(tmp_path: Path) -> None:
    torch.save({"other": torch.ones(3)}, tmp_path / "other.pt")
    with pytest.raises(UsageError, match="0 of its 8"):
        load_weight_file(net(), Net(), tmp_path / "other.pt", partial=True)


class _Touches:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for name in ("zip.pth", "bare.pkl"):
        bad = {"state_dict": net().state_dict(), "x": _Touches(str(canary))}
        if name == "zip.pth":
            torch.save(bad, tmp_path / name)
        else:
            (tmp_path / name).write_bytes(pickle.dumps(bad["x"]))
        with pytest.raises(ZooError):
            load_weight_file(net(), Net(), tmp_path / name)
        assert not canary.exists()


def test_a_whole_module_is_refused_with_the_way_out(tmp_path: Path) -> None:
    torch.save(net(), tmp_path / "whole.pth")
    with pytest.raises(InputError, match="Sequential") as refused:
        load_weight_file(net(), Net(), tmp_path / "whole.pth")
    assert "weights_only=False" in str(refused.value.hint)
    torch.jit.trace(net().eval(), torch.rand(1, 3, 8, 8)).save(tmp_path / "traced.pt")
    with pytest.raises(InputError, match="TorchScript") as refused:
        load_weight_file(net(), Net(), tmp_path / "traced.pt")
    assert "state_dict()" in str(refused.value.hint)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_damaged_files_are_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights.{suffix}"
    save_file(net().state_dict(), path) if suffix == "safetensors" else torch.save(net().state_dict(), path)
    whole = path.read_bytes()
    for length in (0, 1, 8, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises((IntegrityError, InputError)):
            load_weight_file(net(), Net(), path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused_by_the_name_of_the_tensor(
    value: float, tmp_path: Path
) -> None:
    state = net().state_dict()
    state["1.running_var"][2] = value
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(IntegrityError, match=r"1 of the 4 .*'1\.running_var'"):
        load_weight_file(net(), Net(), tmp_path / "bad.pth")


def test_what_a_network_brings_itself_is_looked_at_too() -> None:
    class Masked(Net):
        trained = True

    own = net()
    own.register_buffer("mask", torch.full((4,), -torch.inf))
    assert load_start(own, Masked(), "auto").trained
    own[4].weight.data[1, 2] = torch.nan
    with pytest.raises(IntegrityError, match=r"The weights of net .*1 of the 20 .*'4\.weight'"):
        load_start(own, Masked(), "auto")


def test_a_network_can_be_named_with_its_weights(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(OWN)
    torch.save(net().state_dict(), tmp_path / "own.pth")
    for model in (
        zoo.create_model(f"{own}:make", weights=str(tmp_path / "own.pth")),
        zoo.create_model(f"{own}:make", weights=tmp_path / "own.pth"),
        zoo.create_model(f"{own}:make(weights={tmp_path / 'own.pth'})"),
    ):
        assert equal(model, net())
    with pytest.raises(UsageError, match=r"did you mean 'own\.pth'"):
        zoo.create_model(f"{own}:make", weights=str(tmp_path / "own.pt"))
    assert not equal(zoo.create_model(f"{own}:make", weights=None), net())


def test_a_teacher_can_be_named_with_its_weights(tmp_path: Path) -> None:
    from zoo.training.teachers import load_teacher

    own = tmp_path / "own.py"
    own.write_text(OWN)
    torch.save({"state_dict": net().state_dict()}, tmp_path / "own.pth")
    teacher = load_teacher(f"{own}:make(weights={tmp_path / 'own.pth'})")
    assert equal(teacher.net, net())
    with pytest.raises(UsageError, match="no trained weights"):
        load_teacher(f"{own}:make")
