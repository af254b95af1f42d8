"""The kit for architectures passes a good one and fails each broken one at the promise that it breaks."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from support.conformance import fails, failures
from support.sample_plugins import SeveralInputs, Sketch
from zoo.contracts import InputSpec, OutputSpec
from zoo.testing import architecture_checks

_drawn = itertools.count()


def test_a_good_architecture_passes() -> None:
    assert failures(architecture_checks(Sketch)) == []


def test_an_architecture_with_several_inputs_passes() -> None:
    assert failures(architecture_checks(SeveralInputs, export=False)) == []


def test_of_a_tensor_only_the_first_two_axes_are_stated() -> None:
    promise = "test_outputs_have_the_shape_that_the_specs_state"
    for channels, wrong in ((1, False), (2, True)):
        made = stating(task="any", output=OutputSpec("tensor", channels))
        assert fails(architecture_checks(made, export=False), promise) is wrong


class Adds(nn.Module):
    """The sketch with something done to its output."""

    def __init__(self, change):
        super().__init__()
        self.net, self.change = Sketch().build(), change

    def forward(self, x):
        return self.change(self.net(x))


def doing(change):
    """An architecture whose network does `change` to its output."""
    return type("Broken", (Sketch,), {"contract": 1, "build": lambda self: Adds(change)})


def stating(**specs):
    """An architecture that states other specs."""
    return type("Broken", (Sketch,), {"contract": 1, **specs})


class Halves(Sketch):
    contract = 1

    def build(self):
        return super().build().half()


class Unseeded(Sketch):
    contract = 1

    def build(self):
        torch.manual_seed(next(_drawn))
        return super().build()


class Constant(Sketch):
    contract = 1

    def build(self):
        torch.manual_seed(0)
        return super().build()


class Deep(Sketch):
    """Pools by four, so it needs multiples of four."""

    contract = 1

    def build(self):
        return nn.Sequential(nn.Conv2d(1, 16, 4, stride=4), nn.PixelShuffle(4), nn.Sigmoid())


INPUT, OUTPUT = Sketch.input, Sketch.output


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (stating(contract=0), "test_it_states_the_contract_it_was_written_for"),
        (stating(id="Sketch!"), "test_it_has_an_id_and_a_summary_of_one_line"),
        (stating(task="raw-to-rgb"), "test_its_task_fits_its_output"),
        (stating(input=replace(INPUT, channels=3)), "test_its_input_can_be"),
        (stating(input=replace(INPUT, example=(31, 32))), "test_its_input_can_be"),
        (stating(input=InputSpec("packed-raw", 4, mosaic="xtrans")), "test_its_input_can_be"),
        (stating(output=OutputSpec("mask", 1)), "test_its_output_can_be"),
        (Halves, "test_it_builds_a_network_in_float32"),
        (Unseeded, "test_weights_follow_the_seed"),
        (Constant, "test_weights_follow_the_seed"),
        (stating(output=replace(OUTPUT, scale=2)), "test_outputs_have_the_shape_that_the_specs_state"),
        (stating(output=replace(OUTPUT, channels=2)), "test_outputs_have_the_shape_that_the_specs_state"),
        (Deep, "test_outputs_have_the_shape_that_the_specs_state"),
        (doing(lambda y: 2 * y), "test_outputs_have_the_shape_that_the_specs_state"),
        (doing(lambda y: y / 0), "test_outputs_have_the_shape_that_the_specs_state"),
        (doing(lambda y: y - y.mean(0)), "test_an_output_depends_on_its_own_input_alone"),
        (doing(lambda y: y + torch.rand(())), "test_an_output_depends_on_its_own_input_alone"),
        (stating(input=replace(INPUT, halo=0)), "test_nothing_beyond_the_halo_matters"),
        (doing(lambda y: y * y.mean()), "test_nothing_beyond_the_halo_matters"),
        (stating(stages=lambda self: ({"down": "encoder"},)), "test_its_stages_are_modules_of_the_network"),
        (
            doing(lambda y: y if y.sum().item() > 0 else -y),
            "test_it_trains_and_its_file_computes_what_it_computes",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_architecture_fails(broken: type[Sketch], promise: str) -> None:
    assert fails(architecture_checks(broken), promise)
