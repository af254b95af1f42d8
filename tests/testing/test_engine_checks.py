"""The kit for engines passes a good one and fails each broken one at the promise that it breaks."""

from __future__ import annotations

import numpy as np
import pytest

from support.conformance import fails, failures
from support.sample_plugins import Plain, PlainSession
from zoo.onnx.check import read_model_bytes
from zoo.testing import engine_checks


def test_a_good_engine_passes() -> None:
    assert failures(engine_checks(Plain, package="onnxruntime")) == []


def test_an_engine_that_cannot_run_here_is_not_held_against_it() -> None:
    class Elsewhere(Plain):
        def available(self):
            return "It needs another machine."

        def open(self, model, *, threads=0, profile=None):
            raise NotImplementedError

    assert not fails(engine_checks(Elsewhere), "test_it_computes_what_numpy_computes")


def changed(change):
    """An engine whose outputs are changed."""

    class Session(PlainSession):
        def run(self, inputs):
            return change(self, super().run(inputs), inputs)

    class Changed(Plain):
        def session(self, data, threads):
            return Session(data, threads)

    return Changed


@changed
def noisy(session, outputs, inputs):
    return outputs + np.float32(0.1)


@changed
def doubles(session, outputs, inputs):
    return outputs.astype(np.float64)


@changed
def reuses(session, outputs, inputs):
    session.buffer = getattr(session, "buffer", np.empty_like(outputs))
    session.buffer[:] = outputs
    return session.buffer


@changed
def scribbles(session, outputs, inputs):
    inputs *= 0
    return outputs


@changed
def first_only(session, outputs, inputs):
    return outputs[:1]


class Trusts(Plain):
    """Opens what it is given."""

    def open(self, model, *, threads=0, profile=None):
        return PlainSession(read_model_bytes(model), 1)


class Greedy(Plain):
    def session(self, data, threads):
        return super().session(data, 2)


class Silent(Plain):
    def available(self):
        return ""


class Nameless(Plain):
    def version(self):
        return None


class BytesOnly(Plain):
    def open(self, model, *, threads=0, profile=None):
        return super().open(bytes(model), threads=threads, profile=profile)


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (noisy, "test_it_computes_what_numpy_computes"),
        (noisy, "test_it_computes_checkpoints_in_float_and_in_int8_as_their_makers_did"),
        (doubles, "test_outputs_are_float32_and_the_callers_to_keep"),
        (reuses, "test_outputs_are_float32_and_the_callers_to_keep"),
        (scribbles, "test_inputs_stay_as_they_are_however_they_lie_in_memory"),
        (first_only, "test_one_session_takes_inputs_of_several_sizes_and_batches"),
        (BytesOnly, "test_a_file_and_its_bytes_are_the_same_to_it"),
        (Trusts, "test_what_is_not_a_model_is_refused"),
        (Trusts, "test_a_model_that_is_not_whole_in_itself_or_not_standard_is_refused"),
        (Greedy, "test_it_starts_no_more_threads_than_it_is_told"),
        (Silent, "test_it_says_whether_it_can_run_here"),
        (Nameless, "test_it_states_a_version"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_engine_fails(broken: type[Plain], promise: str) -> None:
    from zoo.machine.processors import usable_processors

    if broken is Greedy and usable_processors() < 2:
        pytest.skip("needs two processors")
    assert fails(engine_checks(broken), promise)
