"""The kit for datasets passes a good one and fails each broken one at the promise that it breaks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from support.conformance import fails, failures
from support.sample_plugins import Dots, SeveralInputs
from zoo.contracts import Sample
from zoo.testing import DatasetChecks, dataset_checks

_drawn = itertools.count()


def test_a_good_dataset_passes() -> None:
    assert failures(dataset_checks(Dots)) == []


class Guided(Dots):
    """Three inputs, of which one is a number up to 5."""

    contract = 1
    tasks = frozenset({"image-to-image"})

    def sample(self, scene, number, size, rng):
        images = [rng.random((1, channels, size, size), dtype=np.float32) for channels in (3, 1)]
        given = [*images, np.array([rng.integers(1, 6)])]
        return Sample(f"{scene}#{number}", scene, SeveralInputs().input.pack(given)[0], None)


def test_samples_of_several_inputs_are_looked_at_one_by_one() -> None:
    checks = dataset_checks(Guided, architecture=SeveralInputs())
    for promise in ("crops_are_what_the_network_takes_and_gives", "frames_belong_to_their_split"):
        assert not fails(checks, f"test_{promise}")


class Bright(Guided):
    """An image among its inputs is not in [0, 1]."""

    contract = 1

    def sample(self, scene, number, size, rng):
        made = super().sample(scene, number, size, rng)
        return Sample(made.name, made.scene, made.inputs * np.float32(2), None)


def test_an_image_among_several_inputs_is_in_0_to_1() -> None:
    checks = dataset_checks(Bright, architecture=SeveralInputs())
    assert fails(checks, "test_crops_are_what_the_network_takes_and_gives")


class Unstated(Dots):
    contract = 0


class Shares(Dots):
    def scenes(self, split):
        return ["the-same"]


class Forgets(Dots):
    """Its scenes follow the order of a set of texts, which differs from process to process."""

    def scenes(self, split):
        return list({f"{split}-{number}" for number in range(50)})


class Counts(Dots):
    def identity(self):
        return f"dots {next(_drawn)}"


class Doubles(Dots):
    def sample(self, scene, number, size, rng):
        made = super().sample(scene, number, size, rng)
        return Sample(made.name, made.scene, made.inputs.astype(np.float64), made.target)


class Bytes(Dots):
    def sample(self, scene, number, size, rng):
        made = super().sample(scene, number, size, rng)
        return Sample(made.name, made.scene, made.inputs * np.float32(255), made.target)


class Large(Dots):
    def sample(self, scene, number, size, rng):
        return super().sample(scene, number, size + 2, rng)


class Ends(Dots):
    def crops(self, architecture, size, seed, start=0):
        yield from itertools.islice(super().crops(architecture, size, seed, start), 3)


class Peeks(Dots):
    """Trains on what is held out."""

    def crops(self, architecture, size, seed, start=0):
        for crop in super().crops(architecture, size, seed, start):
            yield Sample(crop.name, "test-0", crop.inputs, crop.target)


class Continues(Dots):
    """One generator runs through all crops: number k depends on those before it."""

    def crops(self, architecture, size, seed, start=0):
        rng = np.random.default_rng((seed, start))
        for number in itertools.count(start):
            yield self.sample(f"train-{number % 3}", number, size, rng)


class Draws(Dots):
    """Draws from the global generator."""

    def crops(self, architecture, size, seed, start=0):
        for number in itertools.count(start):
            rng = np.random.default_rng((seed, number, next(_drawn)))
            yield self.sample(f"train-{number % 3}", number, size, rng)


class Unseeded(Dots):
    def crops(self, architecture, size, seed, start=0):
        return super().crops(architecture, size, 0, start)


class Hoards(Dots):
    def crops(self, architecture, size, seed, start=0):
        kept = []
        for crop in super().crops(architecture, size, seed, start):
            kept.append(crop)
            yield crop


class Loads(Dots):
    def frames(self, architecture, split, seed=0):
        return iter(list(super().frames(architecture, split, seed)))


class Strays(Dots):
    def frames(self, architecture, split, seed=0):
        return super().frames(architecture, "train", seed)


class Wavers(Dots):
    def frames(self, architecture, split, seed=0):
        return super().frames(architecture, split, next(_drawn))


class Breaks(Dots):
    def crops(self, architecture, size, seed, start=0):
        return {"gray": super().crops}[architecture.input.kind](architecture, size, seed, start)


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (Unstated, "test_it_states_the_contract_it_was_written_for"),
        (Shares, "test_the_splits_are_disjoint"),
        (Forgets, "test_another_process_gets_the_same_data"),
        (Counts, "test_two_instances_agree"),
        (Doubles, "test_crops_are_what_the_network_takes_and_gives"),
        (Bytes, "test_crops_are_what_the_network_takes_and_gives"),
        (Large, "test_crops_are_what_the_network_takes_and_gives"),
        (Ends, "test_crops_do_not_end"),
        (Peeks, "test_crops_come_from_the_training_split"),
        (Continues, "test_a_crop_depends_on_the_seed_and_its_number_alone"),
        (Draws, "test_a_crop_depends_on_the_seed_and_its_number_alone"),
        (Unseeded, "test_crops_of_another_seed_differ"),
        (Hoards, "test_crops_stream"),
        (Loads, "test_frames_stream"),
        (Strays, "test_frames_belong_to_their_split"),
        (Wavers, "test_frames_are_deterministic"),
        (Breaks, "test_a_network_that_it_does_not_fit_is_refused_properly"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_broken_dataset_fails(broken: type[Dots], promise: str) -> None:
    assert fails(dataset_checks(broken), promise)


def test_the_kit_needs_neither_torch_nor_onnx() -> None:
    from zoo.extras import COMPRESS_PACKAGES
    from zoo.testing.declarations import loaded_by

    names = "dataset_checks, device_checks, engine_checks"
    assert loaded_by(f"from zoo.testing import {names}", COMPRESS_PACKAGES) == []
    assert issubclass(dataset_checks(Dots), DatasetChecks)
