"""The promises of the dataset contract, one test each."""

from __future__ import annotations

import gc
import itertools
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, get_args

import numpy as np

from zoo import plugins
from zoo.contracts import (
    Architecture,
    Dataset,
    InputSpec,
    OutputSpec,
    Sample,
    Split,
    crop_size,
    sides_of,
)
from zoo.errors import ZooError
from zoo.tasks.mask_scores import IGNORED
from zoo.testing.declarations import OptionChecks, as_text, in_another_process, refusal_of

if TYPE_CHECKING:
    from zoo.contracts import CropSize, FloatArray, TargetArray

_SPLITS: tuple[Split, ...] = get_args(Split)
_SIZE = 32
_MOST_FRAMES = 4
#: samples that may be alive at once: the current one, and one that is being prepared
_ALIVE = 2

#: What the datasets of each task are tried on; nothing of it is built.
_NETWORKS: dict[str, tuple[InputSpec, OutputSpec]] = {
    "raw-to-rgb": (
        InputSpec("packed-raw", 4, multiple_of=4, example=(64, 64), mosaic="bayer", white_balance=True),
        OutputSpec("rgb", 3, scale=2),
    ),
    "segmentation": (InputSpec("gray", 1, multiple_of=4, example=(64, 64)), OutputSpec("mask", 1, scale=1)),
    "classification": (InputSpec("rgb", 3, example=(48, 64), fixed_size=True), OutputSpec("logits", 10)),
    "image-to-image": (InputSpec("rgb", 3, multiple_of=4, example=(64, 64)), OutputSpec("rgb", 3, scale=1)),
    "detection": (InputSpec("rgb", 3, multiple_of=4, example=(64, 64)), OutputSpec("boxes", 80)),
    "any": (InputSpec("rgb", 3, multiple_of=4, example=(64, 64)), OutputSpec("tensor", 1)),
}


def first_task(dataset: type[Dataset] | Dataset) -> str:
    """Return the task of the plain network that a dataset is tried on: the first built-in one that it is for."""
    return next((task for task in _NETWORKS if task in dataset.tasks), "any")


def network_for(task: str) -> Architecture:
    """Return the plain network that the datasets of a task are tried on. It has specs only and cannot be built."""
    return _Network(task)


class _Network(Architecture):
    """Specs to try a dataset on; it is never built."""

    id = "probe"
    summary = "specs without a network"

    def __init__(self, task: str) -> None:
        super().__init__()
        self.task = task
        self.input, self.output = _NETWORKS[task]


def dataset_checks(
    dataset: type[Dataset],
    *,
    options: Mapping[str, Any] | None = None,
    architecture: Architecture | None = None,
) -> type[DatasetChecks]:
    """Return a class of tests for `dataset`; assign it to a name that starts with ``Test``.

    Args:
        dataset: The class that the entry point names.
        options: Values of options, as they are or as text, such as the folder of a few files for the tests.
        architecture: A network that the dataset is for, where the plain one of its tasks is not; never built.
    """
    attributes = {"dataset": dataset, "options": as_text(options or {}), "architecture": architecture}
    return type(f"Test{dataset.__name__}", (DatasetChecks,), attributes)


class DatasetChecks(OptionChecks):
    """One test for each promise. Use :func:`dataset_checks` to make a class of it for a dataset."""

    dataset: ClassVar[type[Dataset]]
    architecture: ClassVar[Architecture | None] = None

    @classmethod
    def subject(cls) -> type[Dataset]:
        return cls.dataset

    @classmethod
    def network(cls) -> Architecture:
        """Return the network whose samples are looked at."""
        if cls.architecture is not None:
            return cls.architecture
        return network_for(first_task(cls.dataset))

    @classmethod
    def crops(cls, count: int, *, size: CropSize = _SIZE, seed: int = 0, start: int = 0) -> list[Sample]:
        """Return `count` training crops of a new instance."""
        return list(itertools.islice(cls.made().crops(cls.network(), size, seed, start), count))

    @classmethod
    def calibration(cls, count: int, *, start: int = 0) -> list[Sample]:
        """Return `count` samples for calibration of a new instance."""
        return list(itertools.islice(cls.made().calibration(cls.network(), _SIZE, 0, start), count))

    @classmethod
    def frames(cls, split: Split, seed: int = 0) -> list[Sample]:
        """Return the first frames of a split of a new instance."""
        return list(itertools.islice(cls.made().frames(cls.network(), split, seed), _MOST_FRAMES))

    # ------------------------------------------------------------------------------------- declarations

    def test_its_tasks_are_known(self) -> None:
        assert self.dataset.tasks, "name the tasks of the architectures that can use it"
        known = {plugin.id for plugin in plugins.find_plugins("tasks")}
        assert set(self.dataset.tasks) <= known, f"known are {', '.join(sorted(known))}"

    # ------------------------------------------------------------------------------------------- splits

    def test_the_splits_are_disjoint(self) -> None:
        made = self.made()
        scenes = {split: list(made.scenes(split)) for split in _SPLITS}
        for split, names in scenes.items():
            assert len(set(names)) == len(names), f"{split} names a scene twice"
        for first, second in itertools.combinations(_SPLITS, 2):
            shared = set(scenes[first]) & set(scenes[second])
            assert not shared, f"in {first} and in {second}: {sorted(shared)[:5]}"
        assert scenes["train"], "there is nothing to train on"

    def test_two_instances_agree(self) -> None:
        first, second = self.made(), self.made()
        assert first.identity() == second.identity() != "", "the data is the same, its identity is not"
        for split in _SPLITS:
            assert list(first.scenes(split)) == list(second.scenes(split)), f"the scenes of {split} differ"

    def test_another_process_gets_the_same_data(self) -> None:
        """Catch what depends on `hash` of a text, on the order of a set, or on the time."""
        found = in_another_process(
            "import importlib\n"
            f"found = importlib.import_module({self.dataset.__module__!r})\n"
            f"for name in {self.dataset.__qualname__.split('.')!r}: found = getattr(found, name)\n"
            "from zoo.options import parse_options\n"
            "from zoo.testing.datasets import data_digest\n"
            f"made = found(parse_options(found.id, found.Config, {self.options!r}))\n"
            "print(data_digest(made))"
        )
        assert found.split() == data_digest(self.made()).split()

    # -------------------------------------------------------------------------------------------- crops

    def test_crops_are_what_the_network_takes_and_gives(self) -> None:
        spec = self.network().input
        if spec.fixed_size and spec.parts:
            for crop in self.crops(2, size=crop_size(*spec.example)):
                _check_sample(crop, self.network())
            return  # inputs that are held in one array have no other size
        only = spec.fixed_size and spec.example == (_SIZE, _SIZE)
        for size in (_SIZE,) if only else (_SIZE, _SIZE + spec.multiple_of):
            for crop in self.crops(2, size=size):
                _check_sample(crop, self.network(), size)
        if self.made().rectangular and not only:
            for crop in self.crops(2, size=(_SIZE, _SIZE + spec.multiple_of)):
                _check_sample(crop, self.network(), (_SIZE, _SIZE + spec.multiple_of))

    def test_crops_do_not_end(self) -> None:
        scenes = len(self.made().scenes("train"))
        count = min(2 * scenes + 1, 16)
        assert len(self.crops(count)) == count, "the stream of training crops must be endless"

    def test_crops_come_from_the_training_split(self) -> None:
        allowed = set(self.made().scenes("train"))
        assert {crop.scene for crop in self.crops(4)} <= allowed

    def test_a_crop_depends_on_the_seed_and_its_number_alone(self) -> None:
        whole = self.crops(6, seed=5)
        np.random.rand(3)
        later = self.crops(2, seed=5, start=4)
        assert _same(whole[4:], later), "crops 4 and 5 differ when the stream starts with them"
        used = self.made()
        list(itertools.islice(used.crops(self.network(), _SIZE, 1), 3))
        again = list(itertools.islice(used.crops(self.network(), _SIZE, 5), 6))
        assert _same(whole, again), "crops differ after others were taken from the same instance"

    def test_crops_of_another_seed_differ(self) -> None:
        assert not _same(self.crops(4, seed=0), self.crops(4, seed=1)), "the seed changes nothing"

    def test_crops_stream(self) -> None:
        _check_stream(self.made().crops(self.network(), _SIZE, 0), 8)

    # -------------------------------------------------------------------------------------- calibration

    def test_what_is_calibrated_on_is_training_data_and_reproducible(self) -> None:
        allowed = set(self.made().scenes("train"))
        whole = self.calibration(6)
        assert len(whole) == 6, "the stream for calibration must be endless"
        assert {sample.scene for sample in whole} <= allowed
        for sample in whole:
            _check_sample(sample, self.network())
        assert _same(whole[4:], self.calibration(2, start=4)), (
            "samples 4 and 5 differ when the stream starts with them"
        )

    def test_it_is_checked_before_any_work(self) -> None:
        self.made().check(self.network())

    # ------------------------------------------------------------------------------------------- frames

    def test_frames_belong_to_their_split(self) -> None:
        for split in _SPLITS:
            made = self.made()
            for frame in itertools.islice(made.frames(self.network(), split), _MOST_FRAMES):
                assert frame.scene in made.scenes(split)
                _check_sample(frame, self.network())

    def test_frames_are_deterministic(self) -> None:
        split: Split = "test" if self.made().scenes("test") else "train"
        assert _same(self.frames(split), self.frames(split)), "two runs with one seed differ"

    def test_frames_stream(self) -> None:
        _check_stream(self.made().frames(self.network(), "train"), 8)

    # ------------------------------------------------------------------------------------ other networks

    def test_a_network_that_it_does_not_fit_is_refused_properly(self) -> None:
        for task in _NETWORKS:
            if task in self.dataset.tasks:
                continue
            # Returning samples all the same is allowed; raising anything but a ZooError is not.
            refusal_of(lambda task=task: next(self.made().crops(network_for(task), _SIZE, 0)))  # type: ignore[misc]


def data_digest(dataset: Dataset) -> str:
    """Return a text that two processes must agree on: the identity and the scenes, and sums of a crop."""
    network = network_for(first_task(dataset))
    lines = [dataset.identity(), *(",".join(dataset.scenes(split)) for split in _SPLITS)]
    try:
        crop = next(dataset.crops(network, _SIZE, 3, 7))
    except ZooError:
        pass  # it is for other networks than the plain one
    else:
        lines.append(f"{crop.name} {crop.scene} {float(crop.inputs.sum(dtype=np.float64))!r}")
    return "\n".join(lines)


def _check_sample(sample: Sample, network: Architecture, size: CropSize = 0) -> None:
    """Assert that a sample is float32, finite, in [0, 1], and of the shape that the specs state."""
    takes, gives = network.input, network.output
    height, width = sides_of(size) if size else sample.inputs.shape[1:]
    _check_array(sample.inputs, (takes.channels, height, width), "inputs", bounded=not takes.parts)
    for part, array in zip(takes.parts, takes.packing.unpack(sample.inputs[None]), strict=True):
        _check_array(array, array.shape, f"the input '{part.name}'", bounded=part.kind in ("rgb", "gray"))
    if sample.target is not None:
        _check_target(sample.target, gives, (gives.scale * height, gives.scale * width))


def _check_target(target: TargetArray, gives: OutputSpec, sides: tuple[int, int]) -> None:
    """Assert that a target is what :class:`zoo.contracts.Sample` says for the kind of output."""
    if gives.bounded:
        _check_array(target.astype(np.float32, copy=False), (gives.channels, *sides), "target")
        assert target.dtype == np.float32, f"target: {target.dtype}, not float32"
    elif gives.kind in ("logits", "classes"):
        assert target.dtype == np.int64, f"target: {target.dtype}, not int64"
        assert target.shape == (sides if gives.kind == "classes" else ()), f"target: {target.shape}"
        counted = target[target != IGNORED] if gives.kind == "classes" else target
        assert ((counted >= 0) & (counted < gives.channels)).all(), "target: a class that is not there"
    elif gives.kind == "boxes":
        assert target.dtype == np.float32, f"target: {target.dtype}, not float32"
        assert target.ndim == 2, f"target: {target.shape}, not (n, 5)"
        assert target.shape[1] == 5, f"target: {target.shape}, not (n, 5)"
        assert (target[:, :2] <= target[:, 2:4]).all(), "target: a box that ends before it begins"


def _check_array(array: FloatArray, shape: Sequence[int], name: str, *, bounded: bool = True) -> None:
    assert array.shape == tuple(shape), f"{name}: {array.shape}, not {tuple(shape)}"
    assert array.dtype == np.float32, f"{name}: {array.dtype}, not float32"
    assert np.isfinite(array).all(), f"{name} are not finite"
    assert not bounded or array.min() >= 0, f"{name} go below 0"
    assert not bounded or array.max() <= 1, f"{name} go above 1"


def _check_stream(samples: Iterator[Sample], count: int) -> None:
    """Assert that samples are made when they are asked for, and are not kept."""
    assert iter(samples) is samples, "return an iterator, not a list"
    seen: list[weakref.ref[Any]] = []
    for sample in itertools.islice(samples, count):
        seen.append(weakref.ref(sample))
        del sample
        if sum(each() is not None for each in seen) > _ALIVE:
            gc.collect()
        alive = sum(each() is not None for each in seen)
        assert alive <= _ALIVE, f"{alive} of {len(seen)} samples are kept in memory"


def _same(first: Sequence[Sample], second: Sequence[Sample]) -> bool:
    return len(first) == len(second) and all(
        (a.name, a.scene) == (b.name, b.scene)
        and np.array_equal(a.inputs, b.inputs)
        and (a.target is None) == (b.target is None)
        and (a.target is None or b.target is None or np.array_equal(a.target, b.target))
        for a, b in zip(first, second, strict=True)
    )
