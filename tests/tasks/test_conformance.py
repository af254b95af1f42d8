"""Every built-in task passes the kit that third parties run."""

from __future__ import annotations

import numpy as np

from zoo.contracts import OutputSpec
from zoo.plugins import find_plugins, load_plugin
from zoo.tasks.any_task import AnyTask
from zoo.tasks.classification import ClassificationTask
from zoo.tasks.detection import DetectionTask
from zoo.tasks.image_to_image import ImageToImageTask
from zoo.tasks.raw_to_rgb import RawToRgbTask
from zoo.tasks.segmentation import SegmentationTask
from zoo.testing import task_checks

RNG = np.random.default_rng(0)


def _noise(*shape: int) -> np.ndarray:
    return RNG.random(shape, dtype=np.float32)


IMAGES = [(_noise(3, 16, 12), _noise(3, 16, 12)), (_noise(3, 24, 32), _noise(3, 24, 32))]
GRAY = [(_noise(1, 16, 12), _noise(1, 16, 12)), (_noise(1, 9, 8), _noise(1, 9, 8))]
MASKS = [(_noise(2, 16, 12), np.rint(_noise(2, 16, 12))), (_noise(2, 8, 8), np.rint(_noise(2, 8, 8)))]
CLASSES = [(_noise(4, 16, 12), RNG.integers(0, 4, (16, 12))), (_noise(4, 8, 8), np.full((8, 8), 255))]
CLASSES[1][1][0] = 1
LOGITS = [(_noise(10), np.array(RNG.integers(10))) for _ in range(5)]
BOXES = [
    (
        np.float32([[1, 1, 9, 9, 0.9, 0], [2, 2, 5, 7, 0.6, 1], [0, 0, 0, 0, 0, 0]]),
        np.float32([[1, 1, 8, 9, 0], [20, 20, 30, 30, 1]]),
    ),
    (np.zeros((3, 6), np.float32), np.zeros((0, 5), np.float32)),
    (np.float32([[4, 4, 8, 8, 0.4, 1]]), np.float32([[4, 4, 8, 9, 1]])),
]

TestRawToRgb = task_checks(RawToRgbTask, output=OutputSpec("rgb", 3, 2), examples=IMAGES)
TestImageToImage = task_checks(ImageToImageTask, output=OutputSpec("gray", 1, 1), examples=GRAY)
TestMasks = task_checks(SegmentationTask, output=OutputSpec("mask", 2, 1), examples=MASKS)
TestClasses = task_checks(SegmentationTask, output=OutputSpec("classes", 4, 1), examples=CLASSES)
TestClassification = task_checks(ClassificationTask, output=OutputSpec("logits", 10), examples=LOGITS)
TestDetection = task_checks(DetectionTask, output=OutputSpec("boxes", 2), examples=BOXES)
TestAny = task_checks(AnyTask, output=OutputSpec("tensor", 3), examples=IMAGES)


def test_none_is_left_out() -> None:
    kits = (TestRawToRgb, TestImageToImage, TestMasks, TestClassification, TestDetection, TestAny)
    assert {kit.task for kit in kits} == {
        load_plugin(plugin) for plugin in find_plugins("tasks") if plugin.builtin
    }
