"""Labelled pictures: where they are found, how they are split and cut, and which of them are refused."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.class_folders import NAMES, Classifier, write_classes, write_picture
from zoo.data.folder import Folder, FolderConfig
from zoo.errors import InputError, UsageError
from zoo.images.resizing import resize_middle

SHARED = Path(__file__).resolve().parents[3] / "shared/data"


def made(root: Path | str, **options: object) -> Folder:
    return Folder(FolderConfig(root=str(root), **options))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_classes(tmp_path / "data")
    return tmp_path / "data"


# ------------------------------------------------------------------------------------------- labels and splits


def test_classes_are_numbered_in_the_order_of_their_names(root: Path) -> None:
    data = made(root)
    assert data.class_names() == list(NAMES)
    for frame in data.frames(Classifier(), "test"):
        assert frame.target is not None
        assert frame.target.dtype == np.int64
        assert frame.target.shape == ()
        assert NAMES[int(frame.target)] == frame.scene.partition("/")[0]


def test_folders_of_numbers_are_the_outputs_of_the_network(tmp_path: Path) -> None:
    write_classes(tmp_path, ("2", "10"))
    data = made(tmp_path)
    data.check(Classifier(11))
    found = {
        frame.scene.partition("/")[0]: int(frame.target) for frame in data.frames(Classifier(11), "test")
    }
    assert found == {"2": 2, "10": 10}
    with pytest.raises(UsageError, match=r"outputs 0 to 9.*label 10"):
        data.check(Classifier(10))


def test_stated_classes_say_which_output_is_which(root: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("ant\nemu\ncow\nbee\n")
    data = made(root, classes=(str(names),))
    data.check(Classifier(4))
    found = {frame.scene.partition("/")[0]: int(frame.target) for frame in data.frames(Classifier(4), "test")}
    assert found == {"emu": 1, "cow": 2, "bee": 3}
    with pytest.raises(UsageError, match="not among the 2 stated classes: bee"):
        made(root, classes=("cow", "emu"))


def test_another_number_of_outputs_is_refused(root: Path) -> None:
    with pytest.raises(UsageError, match=r"3 classes.*10 outputs") as refused:
        made(root).check(Classifier(10))
    assert "classes=FILE" in str(refused.value.hint)


def test_two_classes_suit_a_network_with_a_single_logit(tmp_path: Path) -> None:
    write_classes(tmp_path, NAMES[:2])
    made(tmp_path).check(Classifier(1))


def test_splits_keep_the_share_of_every_class(tmp_path: Path) -> None:
    write_classes(tmp_path, count=20)
    data = made(tmp_path)
    for split, count in (("test", 4), ("val", 1.6), ("train", 14.4)):
        found = Counter(scene.partition("/")[0] for scene in data.scenes(split))
        assert set(found) == set(NAMES)
        assert all(abs(each - count) < 1.5 for each in found.values()), (split, found)


def test_classes_of_one_picture_are_split_by_their_share(tmp_path: Path) -> None:
    for number in range(60):
        write_picture(tmp_path / str(number) / "only.png", number, 8, 8)
    data = made(tmp_path)
    assert 4 <= len(data.scenes("test")) <= 20
    assert len(data.scenes("train")) + len(data.scenes("test")) == 60


def test_more_files_hardly_move_the_others(tmp_path: Path) -> None:
    write_classes(tmp_path, count=30)
    before = set(made(tmp_path).scenes("test"))
    write_picture(tmp_path / "bee/new.png", 999)
    assert len(before - set(made(tmp_path).scenes("test"))) <= 1


def test_the_first_test_images_have_all_classes(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", count=2)
    for label, (name, count) in enumerate(zip(NAMES, (40, 20, 20), strict=True)):
        for number in range(count):
            write_picture(tmp_path / "test" / name / f"{number}.png", 100 * label + number, 8, 8)
    first = [scene.split("/")[1] for scene in made(tmp_path).scenes("test")[:20]]
    assert [abs(first.count(name) - count) <= 1 for name, count in zip(NAMES, (10, 5, 5), strict=True)] == [
        True
    ] * 3


def test_folders_of_splits_are_followed(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", count=10)
    write_classes(tmp_path / "test", count=4)
    data = made(tmp_path)
    assert len(data.scenes("test")) == 12
    assert all(scene.startswith("test/") for scene in data.scenes("test"))
    assert all(scene.startswith("train/") for scene in (*data.scenes("train"), *data.scenes("val")))
    assert data.scenes("val"), "validation is carved from training"
    write_classes(tmp_path / "val", count=3)
    assert {scene.partition("/")[0] for scene in made(tmp_path).scenes("val")} == {"val"}


def test_a_folder_for_validation_is_the_test_where_there_is_none(tmp_path: Path) -> None:
    write_classes(tmp_path / "train")
    write_classes(tmp_path / "val", count=4)
    data = made(tmp_path)
    assert all(scene.startswith("val/") for scene in data.scenes("test"))
    assert len(data.scenes("test")) == 12


def test_a_table_may_be_elsewhere_and_hold_whole_numbers_as_floats(tmp_path: Path) -> None:
    table = tmp_path / "tables/labels.csv"
    table.parent.mkdir()
    for number in range(4):
        write_picture(tmp_path / f"images/{number}.png", number)
    for place in ("", "../images/", f"{tmp_path}/images/", "..\\images\\"):
        table.write_text("file,label\n" + "".join(f"{place}{number}.png,{number}.0\n" for number in range(4)))
        data = Folder(FolderConfig(root=str(tmp_path / "images"), labels=str(table), test_share=0.5))
        assert data.indices(Classifier(4, side=16)) == {str(number): number for number in range(4)}


@pytest.mark.parametrize("head", ["file,label\n", "label;file\n", ""])
def test_a_table_of_labels(tmp_path: Path, head: str) -> None:
    rows = []
    for number in range(20):
        write_picture(tmp_path / f"{number}.png", number)
        cells = [f"{number}.png", str(number % 2)]
        rows.append(";".join(reversed(cells)) if ";" in head else ",".join(cells))
    (tmp_path / "labels.csv").write_text(head + "\n".join(rows))
    for options in (
        {"root": str(tmp_path), "labels": "labels.csv"},
        {"labels": str(tmp_path / "labels.csv")},
    ):
        data = Folder(FolderConfig(**options))
        assert sum(len(data.scenes(split)) for split in ("train", "val", "test")) == 20
        assert all(int(f.target) == int(f.scene[:-4]) % 2 for f in data.frames(Classifier(), "test"))


def test_a_table_may_state_splits_and_leave_suffixes_out(tmp_path: Path) -> None:
    lines = ["id,class,split"]
    for number in range(12):
        write_picture(tmp_path / "in" / f"{number}.png", number)
        lines.append(f"in/{number},{'ab'[number % 2]},{'validation' if number < 4 else 'train'}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    data = made(tmp_path, labels="t.csv")
    assert sorted(data.scenes("val")) == [f"in/{number}.png" for number in range(4)]


# ------------------------------------------------------------------------------------------------ bad input


def refused(root: Path, **options: object) -> str:
    with pytest.raises(InputError) as error:
        made(root, **options)
    assert error.value.hint, "every refusal names the next command"
    return error.value.message


def test_what_is_not_a_folder_of_classes_is_refused(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="needs a folder"):
        Folder()
    assert "no pictures" in refused(tmp_path)
    write_picture(tmp_path / "a.png", 1)
    assert "1 picture, but no folder for each class" in refused(tmp_path)
    write_picture(tmp_path / "one/b.png", 1)
    assert "without a label" in refused(tmp_path)
    (tmp_path / "a.png").unlink()
    assert "have the class 'one'; at least two" in refused(tmp_path)
    (tmp_path / "two").mkdir()
    assert "1 folder of a class without pictures" in refused(tmp_path)


def test_a_class_that_training_lacks_is_refused(tmp_path: Path) -> None:
    write_classes(tmp_path / "train")
    write_classes(tmp_path / "test", (*NAMES, "fox"), count=2)
    assert "test images that the training images lack (1): fox" in refused(tmp_path)


def test_unusable_pictures_are_named_and_counted_and_left_out_on_request(root: Path) -> None:
    whole = (root / "bee/1.png").read_bytes()
    (root / "bee/0.png").write_bytes(b"")
    (root / "cow/0.png").write_bytes(whole[: len(whole) // 2])
    (root / "cow/1.png").write_text("<html>not found</html>")
    write_picture(root / "emu/0.png", 1, 7, 40)
    message = refused(root)
    assert message.startswith("4 files cannot be used")
    assert "bee/0.png is empty (0 bytes)" in message
    assert "cow/0.png" in message
    assert "and 1 more" in message
    data = made(root, skip_bad=True)
    assert sum(len(data.scenes(split)) for split in ("train", "val", "test")) == 26
    assert len(data.notes()) == 1
    assert "4 files" in data.notes()[0]
    assert list(data.frames(Classifier(), "test"))


def test_damage_in_the_middle_is_found_where_files_may_be_left_out(root: Path) -> None:
    content = bytearray((root / "bee/0.png").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (root / "bee/0.png").write_bytes(content)
    assert "1 file cannot be used" in made(root, skip_bad=True).notes()[0]


def test_tables_and_folders_that_do_not_match_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    for number in range(4):
        write_picture(tmp_path / f"{number}.png", number)
    table.write_text("file,label\n0.png,0\n1.png,1\n2.png,0\n3.png,1\n9.png,1\n")
    assert "9.png (line 6 of labels.csv)" in refused(tmp_path, labels="labels.csv")
    table.write_text("file,label\n0.png,0\n1.png,1\n2.png,0\n")
    message = refused(tmp_path, labels="labels.csv")
    assert "1 file in" in message
    assert "3.png" in message
    assert len(made(tmp_path, labels="labels.csv", skip_bad=True).notes()) == 1
    table.write_text("0.png,0\n1.png,1\n2.png,0\n0.png,1\n")
    assert "lists 0.png twice: in line 1 as 0, in line 4 as 1" in refused(tmp_path, labels="labels.csv")
    table.write_text("file,label\n0.png\n")
    assert "line 2: a file and a label are required" in refused(tmp_path, labels="labels.csv")
    table.write_text("file,label\n0.png,0\n1.png,1\n2.png,nan\n3.png,1\n")
    assert "line 4: the label 'nan' is not the number of a class" in refused(tmp_path, labels="labels.csv")
    table.write_text("file,label\na/0.png,1\nb/1.png,0\n")
    assert "None of the 2 files" in refused(tmp_path, labels="labels.csv")
    table.write_text("")
    assert "is empty" in refused(tmp_path, labels="labels.csv")
    table.write_text("file,label\n")
    assert "is empty" in refused(tmp_path, labels="labels.csv")
    table.write_text("file,cat,dog\n0.png,1,0\n1.png,0,1\n2.png,1,0\n3.png,0,1\n")
    assert "which of them holds the class is not known" in refused(tmp_path, labels="labels.csv")
    assert "does not exist" in refused(tmp_path, labels="other.csv")


# ------------------------------------------------------------------------------------------------- geometry


def test_frames_are_cut_as_torchvision_cuts_them(tmp_path: Path) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    write_picture(tmp_path / "p.png", 5, 97, 71)
    image = Image.open(tmp_path / "p.png")
    for side, share in ((64, 0.875), (48, 0.95), (32, 1.0)):
        whole = transforms.Resize(int(side / share), transforms.InterpolationMode.BICUBIC)(image)
        expected = np.asarray(transforms.CenterCrop(side)(whole))
        assert np.array_equal(resize_middle(np.asarray(image), (side, side), share, "bicubic"), expected)


def test_the_crop_is_the_networks_unless_the_data_says_otherwise(root: Path) -> None:
    frame = next(made(root).frames(Classifier(side=16, crop_pct=0.5), "test"))
    same = next(made(root, crop_pct=0.5).frames(Classifier(side=16), "test"))
    other = next(made(root, crop_pct=1.0).frames(Classifier(side=16, crop_pct=0.5), "test"))
    assert np.array_equal(frame.inputs, same.inputs)
    assert not np.array_equal(frame.inputs, other.inputs)


def test_thumbnails_are_shown_whole(tmp_path: Path) -> None:
    for name in ("0", "1"):
        for number in range(6):
            write_picture(tmp_path / name / f"{number}.png", number, 32, 32)
    data = made(tmp_path)
    frame = next(data.frames(Classifier(), "test"))
    stored = np.asarray(Image.open(tmp_path / frame.scene))
    assert np.array_equal(np.rint(frame.inputs.transpose(1, 2, 0) * 255), stored)


def test_what_is_calibrated_on_is_cut_as_what_is_evaluated(root: Path) -> None:
    data = made(root)
    seen = list(islice(data.calibration(Classifier(), 24, seed=1), len(data.scenes("train"))))
    assert {sample.scene for sample in seen} == set(data.scenes("train")), "every image once before one again"
    stored = np.asarray(Image.open(root / seen[0].scene))
    middle = resize_middle(stored, (32, 32), 1.0, None)
    assert np.array_equal(np.rint(seen[0].inputs.transpose(1, 2, 0) * 255), middle)


@pytest.mark.parametrize("augment", ["auto", "part", "shift", "none"])
def test_training_crops_are_distorted_as_asked(root: Path, augment: str) -> None:
    data = made(root, augment=augment, flip=False)
    middles = {s.scene: s.inputs for s in islice(data.calibration(Classifier(), 32, seed=0), 30)}
    crops = list(islice(data.crops(Classifier(), 32, seed=0), 12))
    assert all(crop.inputs.shape == (3, 32, 32) for crop in crops)
    plain = [np.array_equal(crop.inputs, middles[crop.scene]) for crop in crops]
    assert all(plain) if augment == "none" else not all(plain)


def test_gray_networks_and_sizes_of_two_sides(root: Path) -> None:
    net = Classifier()
    net.input = type(net.input)("gray", 1, example=(24, 40))
    frame = next(made(root).frames(net, "test"))
    assert frame.inputs.shape == (1, 24, 40)


def test_the_identity_follows_content_labels_and_cuts(root: Path) -> None:
    first = made(root).identity()
    assert first == made(root).identity()
    assert first != made(root, crop_pct=0.5).identity()
    write_picture(root / "bee/0.png", 4711)
    second = made(root).identity()
    assert second != first
    (root / "bee/0.png").rename(root / "cow/zz.png")
    assert made(root).identity() != second


# --------------------------------------------------------------------------------------------- shared data


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data is not here")
def test_the_shared_data_is_read() -> None:
    cifar = made(SHARED / "cifar10")
    assert [len(cifar.scenes(split)) for split in ("train", "val", "test")] == [4500, 500, 2000]
    cifar.check(Classifier(10))
    imagenet = made(SHARED / "imagenet-sample", labels="labels.csv", test_share=0.8)
    assert len(imagenet.scenes("test")) == pytest.approx(400, abs=25)
    frame = next(imagenet.frames(Classifier(1000, side=224), "test"))
    assert frame.inputs.shape == (3, 224, 224)
