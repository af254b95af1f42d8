"""The task measures the luma; the photographs are degraded as stated, and the same way every time."""

from itertools import islice

import numpy as np
import pytest
from PIL import Image

from zoo import plugins
from zoo.contracts import OutputSpec
from zoo.data.choose import choose_dataset
from zoo.errors import UsageError
from zoo.testing import dataset_checks, task_checks
from zoo_superres.architectures import SesrM3Architecture
from zoo_superres.degradations import Degradations, DegradationsConfig
from zoo_superres.task import SuperResolutionTask, compare_luma

RNG = np.random.default_rng(0)
OUTPUT = OutputSpec("rgb", 3, scale=2)
IMAGES = [RNG.random((3, 24, 32), dtype=np.float32) for _ in range(4)]

TestTask = task_checks(
    SuperResolutionTask, output=OUTPUT, examples=[(IMAGES[0], IMAGES[1]), (IMAGES[2], IMAGES[3])]
)
TestDegradations = dataset_checks(
    Degradations, options={"blur": 1.5, "noise": 10, "jpeg": 40}, architecture=SesrM3Architecture()
)


def test_only_the_luma_counts_and_the_border_does_not() -> None:
    gray = np.full((3, 20, 20), 0.5, np.float32)
    colored = gray + np.array([0.114, 0, -0.299], np.float32)[:, None, None]  # of the same luma
    found = compare_luma(np.rint(colored * 255) / 255, gray, 2)
    assert found["psnr_y_db"] > 45 > 20 > found["psnr_db"]
    bordered = gray.copy()
    bordered[:, :2] = bordered[:, -2:] = bordered[:, :, :2] = bordered[:, :, -2:] = 0
    exact = compare_luma(np.rint(gray * 255) / 255, gray, 2)
    assert compare_luma(bordered, gray, 2) == exact
    assert compare_luma(bordered, gray, 1)["psnr_y_db"] < 20


def test_data_for_image_to_image_serves_it(tmp_path) -> None:
    for name in "abcdefgh":
        Image.fromarray((RNG.random((32, 32, 3)) * 255).astype(np.uint8)).save(tmp_path / f"{name}.png")
    _, data = choose_dataset(f"pairs(target={tmp_path})", (), SesrM3Architecture())
    assert data.id == "pairs"
    with pytest.raises(UsageError, match="'darkroom' is for raw-to-rgb"):
        choose_dataset("darkroom", (), SesrM3Architecture())


def test_a_crop_is_cut_from_the_degraded_photograph() -> None:
    """Reducing looks at pixels around the crop, so a crop must equal the window of the whole photograph."""
    data, network = Degradations(), SesrM3Architecture()
    whole = {frame.scene: frame for frame in data.frames(network, "train")}
    for crop in islice(data.crops(network, 24, seed=3), 4):
        targets = whole[crop.scene].target
        for sides in range(8):
            inputs, target = (
                np.flip(each, [axis for axis in (1, 2) if sides >> axis - 1 & 1])
                for each in (crop.inputs, crop.target)
            )
            if sides & 4:
                inputs, target = inputs.swapaxes(1, 2), target.swapaxes(1, 2)
            first = np.argwhere((targets[:, :-47:2, :-47:2] == target[:, :1, :1]).all(axis=0)) * 2
            found = [
                (top, left)
                for top, left in first
                if np.array_equal(targets[:, top : top + 48, left : left + 48], target)
            ]
            if found:
                top, left = found[0]
                expected = whole[crop.scene].inputs[:, top // 2 : top // 2 + 24, left // 2 : left // 2 + 24]
                assert np.array_equal(inputs, expected)
                break
        else:
            pytest.fail("the crop is not a window of its photograph")


def test_each_degradation_makes_it_worse() -> None:
    network = SesrM3Architecture()

    def first(**options: object) -> np.ndarray:
        return next(Degradations(DegradationsConfig(**options)).frames(network, "test")).inputs

    clean = first()
    for options in ({"blur": 2.0}, {"noise": 20.0}, {"jpeg": 20}, {"reduce": "box"}):
        degraded = first(**options)
        assert degraded.shape == clean.shape
        assert 0.001 < np.abs(degraded - clean).mean() < 0.1


def test_a_network_that_has_nothing_to_restore_is_refused() -> None:
    class Same(SesrM3Architecture):
        def __init__(self) -> None:
            super().__init__()
            self.output = OutputSpec("rgb", 3, scale=1)

    with pytest.raises(UsageError, match="nothing else is wrong"):
        Degradations().check(Same())
    Degradations(DegradationsConfig(jpeg=30)).check(Same())


def test_everything_is_installed_under_its_id() -> None:
    assert plugins.architecture("sesr-xl").output.scale == 2
    assert plugins.task_of(plugins.architecture("bifpn-sr:x4")).id == "super-resolution"
    assert plugins.technique("collapse").id == "collapse"
