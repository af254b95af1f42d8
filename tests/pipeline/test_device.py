"""`zoo apply --device`: what the recipe takes from a board's profile, and what it is told will not pay there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from support.small_net import request
from zoo import plugins
from zoo.artifacts.artifact import open_artifact
from zoo.contracts import InputSpec, SilentReporter
from zoo.errors import UnknownIdError
from zoo.pipeline.device_target import Specialized, Target, advise, specialize_for_device
from zoo.pipeline.layer_kinds import Layers, layers_of
from zoo.pipeline.plan import plan
from zoo.pipeline.recipe_file import recipe_text
from zoo.pipeline.request import make_request
from zoo.recipes import recipe_toml
from zoo.recipes.canonical import load, resolve
from zoo_cli.main import main


class Net(nn.Module):
    """A depthwise and a dense convolution, a transposed one, SiLU as a module, LeakyReLU and a concat as calls."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 24, 3, padding=1)
        self.depthwise = nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.act = nn.SiLU()
        self.up = nn.ConvTranspose2d(24, 16, 2, stride=2)
        self.last = nn.Conv2d(32, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(self.act(self.depthwise(nn.functional.leaky_relu(self.first(x)))))
        return self.last(torch.cat([x, x], 1))


def test_layers_are_seen_as_the_net_computes_them_whatever_its_code_looks_like() -> None:
    net = Net().train()
    layers = layers_of(net, InputSpec("packed-raw", 4, multiple_of=2))
    everything = {"concat", "conv", "depthwise", "grouped", "leaky-relu", "silu", "transposed"}
    assert layers.kinds == everything
    assert layers.channels == ((4, 24), (24, 16), (32, 3))
    assert net.training
    # the net's own 4 and 3 channels are nobody's choice
    assert [layers.odd(multiple) for multiple in (8, 16, 32)] == [0, 2, 2]
    assert Layers(frozenset(), ()).odd(8) == 0


# ------------------------------------------------------------------------------------ what the recipe takes


def specialized(recipe: str | None, device: str) -> Specialized:
    return specialize_for_device(load(recipe) if recipe else None, device, half_weights=False)


@pytest.mark.parametrize(
    ("device", "recipe", "half"),
    [
        ("jetson-nano", "depthwise", True),
        ("jetson-nano", None, True),
        ("jetson-nano", "depthwise+qat", False),
        ("jetson-orin-nano", "depthwise", True),
        ("x86-cpu", "depthwise", False),
        ("", "depthwise", False),
    ],
)
def test_weights_take_16_bits_where_the_board_computes_float16_and_the_recipe_leaves_them_floats(
    device: str, recipe: str | None, half: bool
) -> None:
    found = specialized(recipe, device)
    target = found.target
    assert found.half_weights == half
    assert (target is None) == (not device)
    if target is not None:
        assert any("16 bits" in change for change in target.changes) == half


@pytest.mark.parametrize(
    ("device", "recipe", "expected"),
    [
        ("jetson-orin-nano", "channel-prune", "channel-prune(round_to=8)"),
        ("jetson-orin-nano", "channel-prune(macs=0.5)+qat", "channel-prune(macs=0.5,round_to=16)+qat"),
        ("jetson-orin-nano", "channel-prune(round_to=2)+qat", "channel-prune(round_to=2)+qat"),
        ("jetson-nano", "channel-prune+qat", "channel-prune+qat"),
    ],
)
def test_channels_are_rounded_to_what_the_boards_kernels_take(
    device: str, recipe: str, expected: str
) -> None:
    found = specialized(recipe, device)
    assert found.recipe is not None
    assert str(found.recipe.recipe) == expected
    assert found.target is not None
    assert any("round_to" in change for change in found.target.changes) == (expected != recipe)


def test_a_board_that_does_not_exist_is_refused_before_any_work() -> None:
    with pytest.raises(UnknownIdError, match="did you mean 'jetson-nano'"):
        specialized("depthwise", "jetson-nona")


# ------------------------------------------------------------------------------------- what will not pay

SEPARABLE = Layers(frozenset({"conv", "depthwise", "grouped", "silu"}), ((4, 20), (20, 16), (16, 12)))


def advice(device: str, recipe: str, layers: Layers) -> dict[str, str]:
    """What will not pay, with the remedy."""
    target = advise(Target(plugins.device(device)), resolve(recipe), layers)
    assert all(each.source and each.effect for each in target.advice)
    return {each.what: each.remedy for each in target.advice}


def test_depthwise_int8_with_silu_on_an_orin_is_advised_to_take_relu_first() -> None:
    found = advice("jetson-orin-nano", "depthwise+qat", SEPARABLE)
    assert found["int8 depthwise convolution with SiLU (Swish)"] == "Better:  depthwise+relu+qat"
    assert found["channels that are not a multiple of 16 in int8 (2 of 3 convolutions here)"] == ""
    assert not any("LeakyReLU" in what or "concat" in what for what in found)
    leaky = replace(
        SEPARABLE, kinds=frozenset({"conv", "leaky-relu", "concat"}), channels=((4, 16), (16, 12))
    )
    found = advice("jetson-orin-nano", "stage-prune+distill(teacher=unet)+ptq", leaky)
    assert found["int8 convolution with LeakyReLU"] == "Better:  stage-prune+relu+distill(teacher=unet)+ptq"
    assert "explicit int8 around a concatenation of skip connections" in found
    assert not any("channels" in what for what in found)


def test_what_concerns_int8_is_not_said_of_a_float_recipe_and_no_remedy_twice() -> None:
    assert not any("int8" in what for what in advice("jetson-orin-nano", "depthwise", SEPARABLE))
    assert set(advice("jetson-orin-nano", "depthwise+relu+qat", SEPARABLE).values()) == {""}
    assert advice("raspberry-pi-5", "depthwise+qat", SEPARABLE) == {}


def test_a_board_without_int8_says_that_the_net_runs_in_float16_there() -> None:
    (only,) = advise(Target(plugins.device("jetson-nano")), resolve("qat"), SEPARABLE).advice
    assert "runs in float16" in str(only)
    assert str(only).startswith("On jetson-nano, int8 on the GPU: ")


# --------------------------------------------------------------------------------------------- the command


@pytest.mark.usefixtures("third_party")
def test_the_recipe_file_makes_the_same_without_the_device(tmp_path: Path) -> None:
    planned = plan(request("depthwise", tmp_path / "net", device="jetson-nano"), SilentReporter())
    form = recipe_toml.loads(recipe_text(planned, []))
    assert form.half_weights is True
    assert make_request(form).half_weights


#: The quickest to make an int8 file with.
RECIPE = "ptq(observer=minmax,bias_correction=false)"


@pytest.mark.usefixtures("third_party")
def test_the_command_tells_adapts_and_records_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = ["--crop", "32", "--images", "1", "--max-loss", "60", "--device", "jetson-orin-nano", "--json"]
    assert main(["apply", RECIPE, "small-unet", *options, "--out", str(tmp_path / "net")]) == 0
    printed = capfd.readouterr()
    told = json.loads(printed.out)["device"]
    assert told["id"] == "jetson-orin-nano"
    remedies = {each["what"]: each["remedy"] for each in told["advice"]}
    assert remedies["int8 convolution with LeakyReLU"] == f"Better:  relu+{RECIPE}"
    assert f"Better:  relu+{RECIPE}" in printed.err
    artifact = open_artifact(tmp_path / "net")
    assert artifact.metrics()["device"] == told
    assert f"Better:  relu+{RECIPE}" in (artifact.path / "README.md").read_text()
