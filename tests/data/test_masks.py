"""The dataset of pictures and masks: files, stacks, pairs, splits, labels and crops."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from support.mask_folders import folder as folder
from support.mask_folders import label, picture
from zoo import plugins
from zoo.contracts import Architecture, InputSpec, OutputSpec
from zoo.data.choose import choose_dataset
from zoo.data.masks import Masks, MasksConfig
from zoo.errors import InputError, UsageError

ISBI = Path(__file__).resolve().parents[3] / "shared" / "data" / "isbi2012"

GRAY = plugins.architecture("fixed-point-unet")
RGB = plugins.architecture("c-unet-plus")


def masks(**options) -> Masks:
    return Masks(MasksConfig(**options))


def frames(data: Masks, split: str = "test", architecture=GRAY) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {each.name: (each.inputs, each.target) for each in data.frames(architecture, split)}


def test_pictures_and_labels_are_paired_by_name(folder: Path) -> None:
    for name, (inputs, target) in frames(masks(root=str(folder)), "train").items():
        assert inputs.shape == target.shape == (1, 48, 48)
        assert np.array_equal(inputs[0], picture(int(name)).astype(np.float32) / np.float32(255))
        assert np.array_equal(target[0], label(int(name)) / 255)


def test_splits_are_disjoint_and_a_fifth_is_held_out(folder: Path) -> None:
    data = masks(root=str(folder), val_share=0.25)
    splits = [set(data.scenes(split)) for split in ("train", "val", "test")]
    assert [len(each) for each in splits] == [6, 2, 2]
    assert set.union(*splits) == {str(number) for number in range(10)}
    assert [list(masks(root=str(folder), val_share=0.25).scenes(s)) for s in ("train", "val", "test")] == [
        list(data.scenes(s)) for s in ("train", "val", "test")
    ]


def test_pictures_are_held_out_by_name_in_natural_order(folder: Path) -> None:
    for kind, make in (("images", picture), ("labels", label)):
        Image.fromarray(make(10)).save(folder / kind / "10.png")
    data = masks(root=str(folder), test=("10", "2"))
    assert data.scenes("test") == ["2", "10"]
    assert data.scenes("train") == ["0", "1", "3", "4", "5", "6", "7", "8", "9"]
    with pytest.raises(UsageError, match="no image '22' to hold out"):
        masks(root=str(folder), test=("22",))


def test_two_tiff_stacks_are_paired_page_by_page(tmp_path: Path, folder: Path) -> None:
    tifffile.imwrite(tmp_path / "volume.tif", np.stack([picture(n) for n in range(10)]))
    tifffile.imwrite(tmp_path / "truth.tif", np.stack([label(n) for n in range(10)]))
    data = masks(
        images=str(tmp_path / "volume.tif"), labels=str(tmp_path / "truth.tif"), test=("volume-003",)
    )
    ((inputs, target),) = frames(data).values()
    assert np.array_equal(inputs[0], picture(3).astype(np.float32) / np.float32(255))
    assert np.array_equal(target[0], label(3) / 255)
    tifffile.imwrite(tmp_path / "short.tif", np.stack([label(n) for n in range(3)]))
    with pytest.raises(InputError, match="has 10 pages"):
        masks(images=str(tmp_path / "volume.tif"), labels=str(tmp_path / "short.tif"))


def test_sixteen_bits_colour_and_palettes_are_read_for_what_they_are(folder: Path) -> None:
    deep = picture(0).astype(np.uint16) * 257
    Image.fromarray(deep).save(folder / "images" / "0.png")
    indexed = Image.fromarray(label(0) // 255, mode="P")
    indexed.putpalette([9, 9, 9, 8, 8, 8])  # the brighter colour is index 0
    indexed.save(folder / "labels" / "0.png")
    ((inputs, target),) = frames(masks(root=str(folder), test=("0",))).values()
    assert inputs == pytest.approx(picture(0)[None] / 255, abs=1e-6)
    assert np.array_equal(target[0], label(0) / 255)
    ((colour, _),) = frames(masks(root=str(folder), test=("1",)), architecture=RGB).values()
    assert colour.shape == (3, 48, 48)
    assert np.array_equal(colour[0], colour[2])


def test_foreground_can_be_dark_or_a_value_for_each_channel(folder: Path) -> None:
    ((_, inverted),) = frames(masks(root=str(folder), test=("1",), invert=True)).values()
    assert np.array_equal(inverted[0], 1 - label(1) / 255)
    two = plugins.architecture("fixed-point-unet")
    two.output = OutputSpec("mask", 2, 1)
    data = masks(root=str(folder), test=("1",), classes=(255, 0))
    ((_, channels),) = frames(data, architecture=two).values()
    assert np.array_equal(channels[0], label(1) / 255)
    assert np.array_equal(channels[1], 1 - label(1) / 255)
    with pytest.raises(UsageError, match="outputs 1 masks"):
        frames(data)
    with pytest.raises(UsageError, match="outputs 2 masks"):
        frames(masks(root=str(folder)), architecture=two)


def test_crops_are_reproducible_turned_and_cut_from_training_pictures_only(folder: Path) -> None:
    data = masks(root=str(folder), test=("3",))
    first = list(islice(data.crops(GRAY, 32, seed=1), 24))
    again = list(islice(data.crops(GRAY, 32, seed=1, start=20), 4))
    for one, two in zip(first[20:], again, strict=True):
        assert one.name == two.name
        assert np.array_equal(one.inputs, two.inputs)
        assert np.array_equal(one.target, two.target)
    assert "3" not in {sample.scene for sample in first}
    for sample in first:
        assert np.array_equal(sample.inputs[0] * 255 >= 119.5, sample.target[0] == 1), "both are turned alike"
    with pytest.raises(UsageError, match=r"smaller than a crop of 64") as refusal:
        next(data.crops(GRAY, 64, seed=1))
    assert refusal.value.hint == "Use --crop 48"


def test_the_identity_follows_content_split_and_labels(folder: Path) -> None:
    before = masks(root=str(folder)).identity()
    assert masks(images=str(folder / "images"), labels=str(folder / "labels")).identity() == before
    others = {
        masks(root=str(folder), test=("1",)).identity(),
        masks(root=str(folder), invert=True).identity(),
    }
    content = (folder / "labels" / "4.png").read_bytes()
    (folder / "labels" / "4.png").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    others.add(masks(root=str(folder)).identity())
    assert len(others | {before}) == 4


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda at: (at / "labels" / "4.png").unlink(), r"without a counterpart .*4\.png"),
        (
            lambda at: (at / "labels" / "x.png").write_bytes((at / "labels" / "4.png").read_bytes()),
            "counterpart",
        ),
        (lambda at: (at / "images" / "4.tif").write_bytes(b"II*\0"), "cannot be read"),
        (lambda at: (at / "labels").rename(at / "truth"), "does not contain a folder of images"),
    ],
)
def test_what_does_not_fit_together_is_refused_at_once(folder: Path, change, text: str) -> None:
    change(folder)
    with pytest.raises(InputError, match=text):
        masks(root=str(folder))


@pytest.mark.parametrize(
    ("pixels", "text"),
    [
        (b"no picture", "cannot be read"),
        (label(4, 40), "48x48 pixels, its label .* 40x40"),
        (np.random.default_rng(0).integers(0, 255, (48, 48, 3), dtype=np.uint8), "in colour"),
    ],
)
def test_a_label_that_cannot_be_used_is_named(folder: Path, pixels, text: str) -> None:
    if isinstance(pixels, bytes):
        (folder / "labels" / "4.png").write_bytes(pixels)
    else:
        Image.fromarray(pixels).save(folder / "labels" / "4.png")
    with pytest.raises(InputError, match=text):
        frames(masks(root=str(folder), test=("4",)))


def test_bad_files_are_left_out_and_named_if_asked_for(folder: Path) -> None:
    (folder / "labels" / "0.png").unlink()
    (folder / "images" / "1.png").write_bytes(b"")
    Image.fromarray(label(2, 40)).save(folder / "labels" / "2.png")
    data = masks(root=str(folder), skip_bad=True)
    left = {name for split in ("train", "val", "test") for name in data.scenes(split)}
    assert left == {str(number) for number in range(3, 10)}
    assert all(f"{number}.png" in " ".join(data.notes()) for number in range(3))


def test_labels_may_end_in_mask(folder: Path) -> None:
    for path in list((folder / "labels").iterdir()):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    assert len(masks(root=str(folder)).scenes("train")) == 8


def test_without_data_the_option_is_named() -> None:
    with pytest.raises(UsageError, match="No data is packaged for segmentation") as refusal:
        choose_dataset("", (), GRAY)
    assert "--data 'masks(images=DIR,labels=DIR)'" in str(refusal.value.hint)
    with pytest.raises(UsageError, match="needs the folders of the images"):
        choose_dataset("masks", (), GRAY)
    with pytest.raises(UsageError, match="is segmentation"):
        choose_dataset("darkroom", (), GRAY)


def test_a_net_for_raw_files_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="unet maps packed-raw"):
        next(masks(root=str(folder)).crops(plugins.architecture("unet"), 32, 0))


@pytest.mark.skipif(not ISBI.is_dir(), reason="the ISBI 2012 slices are not here")
def test_the_isbi_slices_are_read() -> None:
    data = masks(root=str(ISBI))
    assert (len(data.scenes("train")), len(data.scenes("test"))) == (16, 4)
    inputs, target = next(iter(frames(data).values()))
    assert inputs.shape == target.shape == (1, 512, 512)
    assert 0.6 < float(target.mean()) < 0.9, "cells, which are white, cover most of a slice"


class PixelClasses(Architecture):
    """Specs of a network that outputs one class for each pixel; it is never built."""

    id = "pixel-classes"
    task = "segmentation"
    input = InputSpec("gray", 1, multiple_of=4, example=(32, 32))
    output = OutputSpec("classes", 3, 1)


def write_values(root: Path, values: list[int]) -> None:
    """Write five label images whose rows have these values in turn."""
    for number in range(5):
        rows = np.array(values, np.uint8)[(np.arange(48) + number) % len(values)]
        Image.fromarray(np.repeat(rows[:, None], 48, 1)).save(root / f"labels/{number}.png")
        Image.fromarray(np.repeat(rows[:, None], 48, 1)).save(root / f"images/{number}.png")


def test_each_pixel_may_have_a_class(tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    write_values(tmp_path, [0, 1, 2, 255])
    data = masks(root=str(tmp_path))
    data.check(PixelClasses())
    for frame in data.frames(PixelClasses(), "train"):
        assert frame.target.dtype == np.int64
        assert np.array_equal(frame.target, np.rint(frame.inputs[0] * 255))
    crop = next(data.crops(PixelClasses(), 16, seed=3))
    assert crop.target.shape == (16, 16)
    assert np.array_equal(crop.target, np.rint(crop.inputs[0] * 255))
    named = next(masks(root=str(tmp_path), classes=(2, 0, 1)).frames(PixelClasses(), "train"))
    assert set(np.unique(named.target)) == {0, 1, 2, 255}
    assert ((named.target == 0) == (np.rint(named.inputs[0] * 255) == 2)).all()


def test_values_that_are_no_class_are_refused(tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    write_values(tmp_path, [0, 1, 7])
    with pytest.raises(InputError, match=r"5 label images with a value .* has 0 to 2: .*0.png \(7\), "):
        masks(root=str(tmp_path)).check(PixelClasses())
    write_values(tmp_path, [0, 255])
    with pytest.raises(UsageError, match="apart from 255") as refused:
        masks(root=str(tmp_path)).check(PixelClasses())
    assert "classes=[0,255]" in str(refused.value.hint)
    with pytest.raises(UsageError, match="of the stated classes 0, 1, pixels have only 0"):
        masks(root=str(tmp_path), classes=(0, 1)).check(PixelClasses())
    write_values(tmp_path, [1])
    with pytest.raises(InputError, match="all pixels of 5 label images have the value 1"):
        masks(root=str(tmp_path)).check(PixelClasses())


def test_classes_that_only_images_held_out_by_name_have_are_refused(tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    write_values(tmp_path, [0, 1])
    Image.fromarray(np.full((48, 48), 2, dtype=np.uint8)).save(tmp_path / "labels" / "3.png")
    masks(root=str(tmp_path)).check(PixelClasses())
    with pytest.raises(InputError, match=r"the training images lack \(1\): 2"):
        masks(root=str(tmp_path), test=("3",)).check(PixelClasses())


def test_what_is_foreground_does_not_depend_on_the_image(folder: Path) -> None:
    Image.fromarray(np.full((48, 48), 40, dtype=np.uint8)).save(folder / "labels" / "0.png")
    ((_, target),) = frames(masks(root=str(folder), test=("0",))).values()
    assert not target.any(), "where others are 255, 40 is background although it is the largest here"
    with pytest.raises(
        UsageError, match=r"have the values 0, 40, 255; .* which of them are foreground"
    ) as refused:
        masks(root=str(folder)).check(GRAY)
    assert refused.value.hint == "Name the foreground's value:  masks(...,classes=[255])"
    masks(root=str(folder), classes=(255,)).check(GRAY)


@pytest.mark.parametrize("value", [0, 7, 255])
def test_labels_of_one_value_are_refused_with_and_without_a_network(folder: Path, value: int) -> None:
    for path in (folder / "labels").iterdir():
        Image.fromarray(np.full((48, 48), value, dtype=np.uint8)).save(path)
    data = masks(root=str(folder))
    for look in (data.files, lambda: data.check(GRAY)):
        with pytest.raises(
            InputError, match=f"all pixels of 10 label images have the value {value}; at least two"
        ):
            look()


def test_files_tell_which_values_a_label_image_has(folder: Path) -> None:
    found = masks(root=str(folder), test=("3",)).files()
    assert len(found) == 10
    assert {each.labels for each in found} == {("0", "255")}
    assert [each.name for each in found if each.split == "test"] == ["3"]
    assert found[0].images[1].parent.name == "labels"
