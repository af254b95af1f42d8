"""What `zoo data` finds: classes, sizes, damaged files, test images in training, and a sheet that shows them."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.boxed_images import write_coco
from support.class_folders import NAMES, Classifier, write_classes, write_picture
from support.image_pairs import Restorer, write_pairs
from zoo.contracts import Sample, SilentReporter
from zoo.data.contact_sheet import draw_sheet, sample_tile
from zoo.data.survey import Survey, survey_dataset
from zoo.errors import InputError, UsageError


def looked_at(text: str, network: object = None) -> Survey:
    return survey_dataset(text, (), network, SilentReporter())  # type: ignore[arg-type]


def test_classes_and_sizes_are_counted(tmp_path: Path) -> None:
    write_classes(tmp_path, count=10)
    write_picture(tmp_path / "bee/large.png", 1, 64, 48)
    found = looked_at(f"folder(root={tmp_path})")
    assert list(found.classes) == list(NAMES)
    assert sum(found.classes["bee"].values()) == 11
    assert sum(found.scenes.values()) == 31
    assert found.sizes == {(40, 32): 30, (64, 48): 1}
    assert not found.faults
    found.raise_for_faults()


def test_files_that_cannot_be_used_are_found_wherever_they_are_damaged(tmp_path: Path) -> None:
    write_classes(tmp_path)
    (tmp_path / "bee/0.png").write_bytes(b"")
    content = bytearray((tmp_path / "cow/0.png").read_bytes())
    content[len(content) // 2] ^= 0xFF
    found = looked_at(f"folder(root={tmp_path})")
    assert not found.faults, "both are left out, and named in a note"
    (tmp_path / "bee/0.png").unlink()
    (tmp_path / "cow/0.png").write_bytes(content)
    middle = looked_at(f"folder(root={tmp_path})")
    assert list(middle.faults) == ["cow/0.png"]
    assert sum("0 bytes" in note for note in found.notes) == 1
    for each in (found, middle):
        with pytest.raises(InputError, match="cannot be used"):
            each.raise_for_faults()
    looked_at(f"folder(root={tmp_path},skip_bad=true)").raise_for_faults()


def test_test_images_that_are_in_training_too_are_found(tmp_path: Path) -> None:
    write_classes(tmp_path / "train")
    write_classes(tmp_path / "test", count=2)
    assert len(looked_at(f"folder(root={tmp_path})").twice) == 6, "the two folders hold the same images"
    shutil.rmtree(tmp_path / "test")
    for number, name in enumerate(NAMES):
        write_picture(tmp_path / "test" / name / "new.png", 5000 + number)
    assert not looked_at(f"folder(root={tmp_path})").twice


def test_a_network_that_the_data_does_not_suit_is_refused(tmp_path: Path) -> None:
    write_classes(tmp_path)
    assert looked_at(f"folder(root={tmp_path})", Classifier(3)).checked
    with pytest.raises(UsageError, match="10 outputs"):
        looked_at(f"folder(root={tmp_path})", Classifier(10))
    with pytest.raises(InputError, match="does not exist"):
        looked_at(f"folder(root={tmp_path}/nowhere)")


def test_the_sheet_shows_all_classes_and_splits_in_turn(tmp_path: Path) -> None:
    write_classes(tmp_path, [str(number) for number in range(12)])
    found = looked_at(f"folder(root={tmp_path})")
    assert list(dict.fromkeys(tile.caption for tile in found.tiles[:36])) == [
        str(number) for number in range(12)
    ]
    assert {tile.origin.partition(":")[0] for tile in found.tiles} == {"train", "val", "test"}
    with Image.open(io.BytesIO(draw_sheet(found.tiles, found.data))) as sheet:
        assert sheet.width > 900
        assert sheet.height > 6 * 112
        assert len(sheet.convert("RGB").getcolors(1 << 24) or ()) > 1000


def test_with_a_network_the_sheet_shows_what_it_gets(tmp_path: Path) -> None:
    write_classes(tmp_path / "folders")
    tiles = looked_at(f"folder(root={tmp_path / 'folders'})", Classifier(3)).tiles
    assert [tile.origin.partition(":")[0] for tile in tiles] == ["calibration"] * 24 + ["training"] * 24
    assert {tile.caption for tile in tiles} == set(NAMES)
    assert all(tile.images[0].shape == (32, 32, 3) for tile in tiles)
    write_pairs(tmp_path)
    pairs = looked_at(f"pairs(input={tmp_path}/input,target={tmp_path}/target)", Restorer()).tiles
    assert all(len(tile.images) == 2 for tile in pairs)


def test_boxes_are_drawn_and_counted() -> None:
    boxes = np.array([[4, 4, 20, 20, 1], [8, 8, 30, 12, 1], [0, 0, 3, 3, 7]], np.float32)
    tile = sample_tile(Sample("a", "a", np.zeros((3, 32, 32), np.float32), boxes), "training", ["cat", "dog"])
    assert tile.caption == "2 dog, 1 class 7"
    assert (tile.images[0] > 200).any()


def test_boxes_are_shown_without_a_network_too(tmp_path: Path) -> None:
    write_coco(tmp_path)
    found = looked_at(f"coco(root={tmp_path})")
    assert not found.checked
    assert {tile.caption for tile in found.tiles} == {"1 car", "1 dog", "1 bus", "no boxes"}
