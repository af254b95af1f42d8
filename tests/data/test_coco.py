"""Images with boxes: both kinds of files, how boxes follow their image, and what is refused."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from support.boxed_images import BOX, SIZE, Detector, coco_content, write_coco, write_yolo
from support.class_folders import write_picture
from zoo.data.coco import Coco, CocoConfig
from zoo.data.letterbox import letterbox
from zoo.errors import InputError, UsageError


def made(root: Path, **options: object) -> Coco:
    return Coco(CocoConfig(root=str(root), **options))


def frames(data: Coco) -> dict[str, np.ndarray]:
    return {
        Path(frame.scene).stem: frame.target
        for split in ("train", "val", "test")
        for frame in data.frames(Detector(), split)
    }


def test_both_kinds_of_files_say_the_same(tmp_path: Path) -> None:
    write_coco(tmp_path / "a")
    write_yolo(tmp_path / "b")
    first, second = frames(made(tmp_path / "a")), frames(made(tmp_path / "b"))
    assert first.keys() == second.keys() == {str(number) for number in range(12)}
    for name, boxes in first.items():
        assert boxes.dtype == np.float32
        assert boxes.shape == ((0, 5) if int(name) % 5 == 4 else (1, 5))
        assert np.allclose(boxes, second[name], atol=1e-3)
        assert all(boxes[:, 4] == int(name) % 3)


def test_boxes_are_fitted_with_their_image(tmp_path: Path) -> None:
    write_coco(tmp_path)
    scale = 32 / SIZE[0]
    edge = (32 - round(SIZE[1] * scale)) // 2
    x, y, width, height = BOX
    found = frames(made(tmp_path))["0"][0]
    assert np.allclose(found[:4:2], [x * scale, (x + width) * scale], atol=0.1)
    assert np.allclose(found[1:4:2], [edge + y * scale, edge + (y + height) * scale], atol=0.3)
    stretched = frames(made(tmp_path, fit="stretch"))["0"][0]
    assert np.allclose(stretched[1:4:2], [y * 32 / SIZE[1], (y + height) * 32 / SIZE[1]], atol=0.1)


def test_a_marked_object_stays_in_its_box() -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[8:24, 10:30] = 255
    for stretch in (False, True):
        image, boxes = letterbox(
            pixels, np.array([[10, 8, 30, 24, 1]], np.float32), (64, 96), stretch=stretch
        )
        x0, y0, x1, y1 = np.rint(boxes[0, :4]).astype(int)
        assert image[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1].min() > 200
        outside = image.copy()
        outside[y0 - 2 : y1 + 2, x0 - 2 : x1 + 2] = 0
        assert outside.max() <= 114


def test_half_of_the_training_images_are_mirrored_with_their_boxes(tmp_path: Path) -> None:
    write_coco(tmp_path)
    plain = {s.scene: s for s in islice(made(tmp_path).calibration(Detector(), 32, 0), 20)}
    turned = 0
    for crop in islice(made(tmp_path).crops(Detector(), 32, 0), 20):
        other = plain[crop.scene]
        if not np.array_equal(crop.inputs, other.inputs):
            turned += 1
            assert np.array_equal(crop.inputs[..., ::-1], other.inputs)
            assert np.allclose(crop.target[:, [0, 2]], 32 - other.target[:, [2, 0]])
    assert 4 <= turned <= 16


def test_files_and_folders_of_splits_are_followed(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    for split, count, start in (("train2017", 8, 0), ("val2017", 3, 20)):
        for number in range(start, start + count):
            write_picture(tmp_path / split / f"{number}.png", number, *SIZE)
        content = json.dumps(coco_content(count, start))
        (tmp_path / f"annotations/instances_{split}.json").write_text(content)
    (tmp_path / "annotations/captions_train2017.json").write_text('{"images": [], "annotations": []}')
    data = made(tmp_path)
    assert len(data.scenes("test")) == 3
    assert all(scene.startswith("val2017/") for scene in data.scenes("test"))
    for split, count in (("train", 6), ("test", 3)):
        (tmp_path / "yolo" / split).mkdir(parents=True)
        write_yolo(tmp_path / "yolo" / split, count)
    assert len(made(tmp_path / "yolo").scenes("test")) == 3
    for text in (tmp_path / "yolo/train/labels").glob("*.txt"):
        text.write_text("0 0.5 0.5 0.2 0.2\n")
    with pytest.raises(InputError, match="that the training images lack"):
        made(tmp_path / "yolo")


def test_classes_are_those_of_the_network(tmp_path: Path) -> None:
    write_coco(tmp_path)
    data = made(tmp_path)
    assert data.class_names() == ["car", "dog", "bus"]
    with pytest.raises(UsageError, match=r"3 classes .*a-detector has 80"):
        data.check(Detector(80))
    by_id = made(tmp_path, ids=True)
    by_id.check(Detector(91))
    assert {int(f.target[0, 4]) for f in by_id.frames(Detector(91), "train") if len(f.target)} == {1, 2, 7}
    made(tmp_path, classes=("bus", "car", "cow", "dog")).check(Detector(4))
    with pytest.raises(UsageError, match="not among the 2 stated ones: bus"):
        made(tmp_path, classes=("car", "dog")).check(Detector(2))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2", "a class and four numbers"),
        ("car 0.5 0.5 0.2 0.2", "a class and four numbers"),
        ("0 30 20 10 10", "not within the image"),
        ("0 nan 0.5 0.2 0.2", "not within the image"),
        ("9 0.5 0.5 0.2 0.2", "classes are 0 to 2.*a box of class 9"),
    ],
)
def test_lines_that_are_none_are_refused(tmp_path: Path, line: str, message: str) -> None:
    write_yolo(tmp_path)
    (tmp_path / "labels/3.txt").write_text(f"1 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(InputError, match=message) as refused:
        made(tmp_path)
    assert refused.value.hint
    assert "class 9" in message or "3.txt, line 2" in refused.value.message
    assert "1 file whose boxes" in made(tmp_path, skip_bad=True).notes()[0]


def test_images_of_another_size_than_the_annotations_state_are_refused(tmp_path: Path) -> None:
    write_coco(tmp_path)
    write_picture(tmp_path / "images/3.png", 3, 2 * SIZE[0], 2 * SIZE[1])
    with pytest.raises(
        InputError, match=r"1 file of another size .*: images/3.png \(120x80 pixels, 60x40 in annot"
    ) as refused:
        made(tmp_path)
    assert "--skip-bad" in str(refused.value.hint)
    left = made(tmp_path, skip_bad=True)
    assert sum(len(left.scenes(split)) for split in ("train", "val", "test")) == 11
    content = coco_content(12)
    for image in content["images"]:
        del image["width"], image["height"]
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    made(tmp_path)


def test_images_and_boxes_that_do_not_match_are_refused(tmp_path: Path) -> None:
    write_coco(tmp_path / "a")
    (tmp_path / "a/images/3.png").unlink()
    write_picture(tmp_path / "a/images/new.png", 1, *SIZE)
    with pytest.raises(InputError, match=r"1 file with boxes not in .*: 3.png"):
        made(tmp_path / "a")
    left = made(tmp_path / "a", skip_bad=True)
    assert sum(len(left.scenes(split)) for split in ("train", "val", "test")) == 11
    assert len(left.notes()) == 2
    write_yolo(tmp_path / "b")
    (tmp_path / "b/labels/2.txt").unlink()
    with pytest.raises(InputError, match=r"1 file without a text file of boxes .*2.png"):
        made(tmp_path / "b")
    write_yolo(tmp_path / "d")
    (tmp_path / "d/images/2.png").unlink()
    with pytest.raises(InputError, match=r"1 file of boxes without an image: .*2.txt"):
        made(tmp_path / "d")
    write_picture(tmp_path / "c/1.png", 1, *SIZE)
    with pytest.raises(InputError, match="neither a JSON file of boxes nor a text file"):
        made(tmp_path / "c")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("categories"), "not a COCO file of boxes: KeyError"),
        (
            lambda content: content["annotations"][0].update(image_id=9),
            "refers to image 9, which is not listed",
        ),
        (lambda content: content["annotations"][0].update(category_id=9), "refers to category 9"),
        (lambda content: content["annotations"][0].update(bbox=[1, 2]), "not a COCO file of boxes"),
        (
            lambda content: content["annotations"][0].update(bbox=[1, 2, float("nan"), 3]),
            "0 is .1, 2, nan",
        ),
        (lambda content: content["annotations"][0].update(bbox=[1, 2, -3, 3]), "none of them negative"),
        (
            lambda content: content["annotations"][0].update(bbox=[1, 2, 300, 3]),
            r"1 file with boxes outside the image: .*0.png",
        ),
        (lambda content: content["images"][1].update(file_name="0.png"), "lists the image 0.png twice"),
        (lambda content: content["annotations"].clear(), "No image in .* has a box"),
    ],
)
def test_json_that_is_wrong_is_refused(tmp_path: Path, change: object, message: str) -> None:
    write_coco(tmp_path)
    content = coco_content(12)
    change(content)  # type: ignore[operator]
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        made(tmp_path)
