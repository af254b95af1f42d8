"""The kit for device profiles passes a good one and fails each broken one at the promise that it breaks."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from support.conformance import fails, failures
from support.sample_plugins import BOARD
from zoo.contracts import DeviceProfile, KernelGap
from zoo.testing import device_checks

GAP = KernelGap("int8", "runs in float32", "measured", precision="int8")
_drawn = itertools.count()


def test_a_good_profile_passes_as_an_object_and_as_a_function() -> None:
    assert failures(device_checks(BOARD)) == []
    assert failures(device_checks(lambda: BOARD, module="support.sample_plugins")) == [
        "test_importing_it_is_cheap"  # the module of all sample plugins imports numpy
    ]


def test_a_function_that_returns_another_profile_each_time_fails() -> None:
    def wavering() -> DeviceProfile:
        return replace(BOARD, memory_mb=2048 + next(_drawn))

    assert fails(device_checks(wavering), "test_it_is_the_same_every_time")


@pytest.mark.parametrize(
    ("changes", "promise"),
    [
        ({"contract": 0}, "test_it_is_a_profile_of_this_contract"),
        ({"id": "My Board"}, "test_it_has_an_id_and_a_summary_of_one_line"),
        ({"summary": "two\nlines"}, "test_it_has_an_id_and_a_summary_of_one_line"),
        ({"memory_mb": 2}, "test_its_figures_are_possible"),
        ({"power_modes": (10, 5)}, "test_its_figures_are_possible"),
        ({"power_modes": (5000, 10000)}, "test_its_figures_are_possible"),
        ({"bandwidth_gbs": -1.0}, "test_its_figures_are_possible"),
        ({"precisions": ("int7",)}, "test_its_precisions_are_known"),
        ({"precisions": ("float32",), "int8_tops": 20.0}, "test_its_precisions_are_known"),
        ({"engines": ("onnxruntme",)}, "test_its_engines_are_known"),
        ({"engines": ()}, "test_its_engines_are_known"),
        ({"sources": {}}, "test_its_figures_have_sources"),
        ({"processor": "2 x Cortex-A55"}, "test_its_figures_have_sources"),
        ({"sources": {**BOARD.sources, "memory": "data sheet"}}, "test_its_figures_have_sources"),
        ({"power_sensors": ("sys/power",)}, "test_its_power_sensors_are_files"),
        ({"gaps": (replace(GAP, source=""),)}, "test_its_gaps_say_what_happens_and_who_says_so"),
        ({"gaps": (replace(GAP, operators=("tanh",)),)}, "test_its_gaps_say_what_happens_and_who_says_so"),
        ({"gaps": (replace(GAP, remedy="rellu"),)}, "test_its_gaps_say_what_happens_and_who_says_so"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_broken_profile_fails(changes: dict[str, object], promise: str) -> None:
    assert fails(device_checks(replace(BOARD, **changes)), promise)
