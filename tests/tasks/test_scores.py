"""Scores are what their definitions say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from zoo.contracts import Metric, OutputSpec
from zoo.tasks.agreement_scorers import agreement_scorer
from zoo.tasks.average_precision import AveragePrecision, overlaps, suppressed
from zoo.tasks.classification import ClassificationTask
from zoo.tasks.image_scores import compare_images
from zoo.tasks.losses import class_cross_entropy, softened_divergence
from zoo.tasks.mask_scores import ClassScorer
from zoo.tasks.scorers import wilson_interval


def test_a_value_just_below_zero_is_shown_as_zero() -> None:
    assert Metric("ssim", "SSIM", decimals=4).show(-1e-6) == "0.0000"
    assert Metric("top1", "top-1", percent=True, decimals=2).show(0.80451) == "80.45 %"
    assert Metric("psnr", "PSNR", unit="dB", decimals=2).show(math.inf) == "inf dB"


def test_the_interval_of_a_share_is_wilsons() -> None:
    assert wilson_interval(81, 100) == pytest.approx((0.7222, 0.8749), abs=1e-4)
    low, high = wilson_interval(10, 10)
    assert low == pytest.approx(0.7225, abs=1e-4)
    assert high == 1.0
    assert wilson_interval(0, 10)[0] == 0.0


def test_top_1_and_top_5_count_the_place_of_the_label() -> None:
    scorer = ClassificationTask().scorer(OutputSpec("logits", 8))
    logits = np.float32([8, 7, 6, 5, 4, 3, 2, 1])
    for label in (0, 4, 5, 7):
        scorer.add(logits, np.array(label))
    assert scorer.result() == {"top1": 0.25, "top5": 0.5}
    assert scorer.intervals()["top1"] == wilson_interval(1, 4)


def test_of_equal_logits_the_first_counts_as_the_highest() -> None:
    scorer = ClassificationTask().scorer(OutputSpec("logits", 3))
    scorer.add(np.float32([1, 1, 1]), np.array(1))
    assert scorer.result() == {"top1": 0.0}, "a network that outputs a constant is not right by chance"


def test_a_single_logit_is_that_of_the_second_class() -> None:
    task, output = ClassificationTask(), OutputSpec("logits", 1)
    assert output.classes == 2
    scorer, agreement = task.scorer(output), agreement_scorer(output)
    for logit, label in ((2.0, 1), (-1.0, 0), (0.5, 0), (-3.0, 1)):
        scorer.add(np.float32([logit]), np.array(label))
        agreement.add(np.float32([logit]), np.float32([abs(logit)]))
    assert scorer.result() == {"top1": 0.5}
    assert agreement.result()["top1_agreement"] == 0.5, "a network of one logit can lose its function, too"
    first = task.show(np.float32([2.0]), np.zeros((3, 8, 8), np.float32), output, ("cat", "dog")).findings[0]
    assert (first["label"], first["confidence"]) == ("dog", pytest.approx(1 / (1 + math.exp(-2))))


def test_a_single_logit_is_trained_by_its_sign() -> None:
    logits, labels = torch.tensor([[2.0], [-1.0]]), torch.tensor([1, 0])
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], labels.float())
    assert float(class_cross_entropy(logits, labels)) == pytest.approx(float(wanted))
    assert softened_divergence(logits, -logits, 1.0) > 0.5
    assert float(softened_divergence(logits, logits, 1.0)) == pytest.approx(0, abs=1e-6)


def test_the_mean_iou_is_over_all_images_and_ignores_what_does_not_count() -> None:
    scorer = ClassScorer(3)
    one_hot = np.eye(3, dtype=np.float32)
    scorer.add(one_hot[:, [[0, 0, 1]]], np.array([[0, 1, 1]]))
    scorer.add(one_hot[:, [[0, 1, 2]]], np.array([[0, 255, 255]]))
    # class 0: 2 of 3, class 1: 1 of 2, class 2 neither occurs nor was found where it counts
    assert scorer.result() == {
        "miou": pytest.approx((2 / 3 + 1 / 2) / 2),
        "pixel_accuracy": pytest.approx(3 / 4),
    }


def test_ssim_is_defined_for_images_smaller_than_its_window() -> None:
    image = np.random.default_rng(0).random((1, 4, 5), dtype=np.float32)
    image = np.rint(image * 255).astype(np.float32) / np.float32(255)
    assert compare_images(image, image)["ssim"] == pytest.approx(1.0)


def test_overlaps_are_intersections_over_unions() -> None:
    boxes = np.float32([[0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 6, 6]])
    assert overlaps(boxes[:1], boxes)[0] == pytest.approx([1, 1 / 7, 0])


def test_the_average_precision_of_one_class_is_that_of_its_curve() -> None:
    """Four boxes; by falling score: right, wrong, right. Precision is 1 up to a recall of 1/4, 2/3 up to 1/2."""
    boxes = np.float32([[0, 0, 10, 10, 0], [20, 0, 30, 10, 0], [40, 0, 50, 10, 0], [60, 0, 70, 10, 0]])
    found = np.float32([[0, 0, 10, 10, 0.9, 0], [80, 0, 90, 10, 0.8, 0], [20, 0, 30, 10, 0.7, 0]])
    scorer = AveragePrecision()
    scorer.add(found, boxes)
    expected = (26 * 1 + 25 * 2 / 3) / 101
    assert scorer.result() == {"map": pytest.approx(expected), "map50": pytest.approx(expected)}


def test_a_box_that_is_a_little_off_counts_up_to_its_overlap() -> None:
    scorer = AveragePrecision()
    scorer.add(np.float32([[0, 0, 10, 10, 1, 0]]), np.float32([[0, 0, 10, 7.2, 0]]))  # IoU 0.72
    assert scorer.result() == {"map": pytest.approx(5 / 10), "map50": pytest.approx(1.0)}


def test_a_class_that_was_not_found_counts_as_none() -> None:
    scorer = AveragePrecision()
    scorer.add(np.float32([[0, 0, 10, 10, 1, 0]]), np.float32([[0, 0, 10, 10, 0], [3, 3, 5, 5, 1]]))
    assert scorer.result()["map"] == pytest.approx(0.5)


def test_a_second_detection_of_one_box_is_wrong_and_suppression_removes_it() -> None:
    twice = np.float32([[0, 0, 10, 10, 0.9, 0], [0, 0, 10, 9, 0.8, 0], [0, 0, 10, 9, 0.7, 1]])
    assert suppressed(twice)[:, 4].tolist() == pytest.approx([0.9, 0.7]), "another class stays"


def test_an_output_that_agrees_has_no_deviation_and_an_error_as_strong_as_the_signal_three_db() -> None:
    signal = np.float32([1, -1, 1, -1])
    for error, deviation, ratio in ((0, 0.0, 100.0), (1, 10 * math.log10(2), 0.0), (0.1, 0.0432, 20.0)):
        scorer = agreement_scorer(OutputSpec("tensor", 4))
        scorer.add(signal + np.float32(error), signal)
        assert scorer.result() == {
            "deviation_db": pytest.approx(deviation, abs=1e-4),
            "signal_to_error_db": pytest.approx(ratio, abs=1e-4),
        }


def test_an_output_that_is_not_a_number_agrees_with_nothing() -> None:
    scorer = agreement_scorer(OutputSpec("tensor", 1))
    scorer.add(np.float32([np.nan]), np.float32([1]))
    assert scorer.result() == {"deviation_db": 100.0, "signal_to_error_db": -100.0}


def test_boxes_agree_with_the_confident_ones_of_the_original() -> None:
    theirs = np.float32([[0, 0, 10, 10, 0.9, 0], [20, 20, 30, 30, 0.1, 0]])
    scorer = agreement_scorer(OutputSpec("boxes", 1))
    scorer.add(theirs[:1], theirs)
    assert scorer.result() == {"box_agreement": pytest.approx(1.0)}
