"""Pairs of images: how they are paired, made and cut, and which are refused."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.image_pairs import Restorer, write_pairs
from zoo.data.pairs import Pairs, PairsConfig
from zoo.errors import InputError, UsageError

SHARED = Path(__file__).resolve().parents[3] / "shared/data"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_pairs(tmp_path)
    return tmp_path


def made(root: Path, **options: object) -> Pairs:
    return Pairs(PairsConfig(input=str(root / "input"), target=str(root / "target"), **options))


def test_frames_are_the_files_and_crops_are_windows_of_both(root: Path) -> None:
    data = made(root)
    frame = next(data.frames(Restorer(), "test"))
    assert frame.target is not None
    assert frame.inputs.shape == frame.target.shape == (3, 40, 48)
    assert np.allclose(frame.inputs + frame.target, 1, atol=1e-6)
    for crop in islice(data.crops(Restorer(), 16, seed=0), 8):
        assert crop.target is not None
        assert crop.inputs.shape == (3, 16, 16)
        assert np.allclose(crop.inputs + crop.target, 1, atol=1e-6)
        assert crop.inputs.flags["C_CONTIGUOUS"]


def test_targets_may_be_larger(tmp_path: Path) -> None:
    write_pairs(tmp_path, scale=2)
    data = made(tmp_path)
    crop = next(data.crops(Restorer(scale=2), 16, seed=0))
    assert crop.target is not None
    assert crop.target.shape == (3, 32, 32)
    assert np.allclose(crop.target[:, ::2, ::2] + crop.inputs, 1, atol=1e-6)
    with pytest.raises(UsageError, match="2 times as large as the inputs; a-restorer"):
        data.check(Restorer())


def test_gray_networks_get_the_brightness(root: Path) -> None:
    frame = next(made(root).frames(Restorer("gray"), "test"))
    assert frame.target is not None
    assert frame.inputs.shape == frame.target.shape == (1, 40, 48)


def test_noise_depends_on_the_image_alone_and_has_the_deviation_asked_for(root: Path) -> None:
    gray = root / "gray"
    gray.mkdir()
    for number in range(6):
        Image.new("L", (64, 64), 128).save(gray / f"{number}.png")
    data = Pairs(PairsConfig(target=str(gray), sigma=25.0))
    frames = list(data.frames(Restorer("gray"), "train"))
    assert all(
        np.array_equal(a.inputs, b.inputs)
        for a, b in zip(frames, data.frames(Restorer("gray"), "train"), strict=False)
    )
    assert not np.array_equal(frames[0].inputs, frames[1].inputs)
    noise = np.stack([frame.inputs - frame.target for frame in frames])
    assert noise.std() * 255 == pytest.approx(25, rel=0.05)
    assert Pairs(PairsConfig(target=str(gray), sigma=15.0)).identity() != data.identity()


def test_small_inputs_are_made_of_targets_for_networks_that_enlarge(root: Path) -> None:
    data = Pairs(PairsConfig(target=str(root / "target")))
    frame = next(data.frames(Restorer(scale=2), "test"))
    assert frame.target is not None
    assert frame.inputs.shape == (3, 20, 24)
    assert np.allclose(frame.inputs, frame.target.reshape(3, 20, 2, 24, 2).mean((2, 4)), atol=1e-6)
    with pytest.raises(UsageError, match="only targets") as refused:
        data.check(Restorer())
    assert "sigma=25" in str(refused.value.hint)


def test_what_does_not_pair_is_refused(root: Path) -> None:
    write_pairs(root / "other", 2)
    Image.new("RGB", (48, 41)).save(root / "target/3.png")
    with pytest.raises(
        InputError, match=r"1 file whose input and target do not fit in size: 3.png \(48x40 in, 48x41"
    ):
        made(root)
    assert len(made(root, skip_bad=True).notes()) == 1
    (root / "target/3.png").unlink()
    with pytest.raises(InputError, match=r"1 file without a counterpart .*input/3.png") as refused:
        made(root)
    assert "skip_bad=true" in str(refused.value.hint)
    assert sum(len(made(root, skip_bad=True).scenes(split)) for split in ("train", "val", "test")) == 11
    Image.new("RGB", (48, 40)).save(root / "target/1.jpg")
    with pytest.raises(InputError, match="Two images are called '1'"):
        made(root)
    for path in (root / "target").iterdir():
        path.rename(path.with_name("x" + path.name))
    (root / "target/x1.jpg").unlink()
    with pytest.raises(InputError, match=r"No image in .*input has the name of one in"):
        made(root)


def test_inputs_that_are_their_targets_are_refused(root: Path) -> None:
    for path in (root / "input").iterdir():
        (root / "target" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=r"In all 12 pairs .* the input is the target"):
        made(root)
    write_pairs(root, 1)
    made(root)  # some may need no change


def test_eight_bits_in_files_of_sixteen_are_refused(root: Path) -> None:
    for path in (root / "target").iterdir():
        pixels = np.asarray(Image.open(path).convert("L"))
        Image.fromarray(pixels.astype(np.uint16)).save(path)
    with pytest.raises(
        InputError, match=r"12 images with 16 bits .*target/0.png, have no value above 2\d\d of 65"
    ):
        made(root)
    Image.fromarray(pixels.astype(np.uint16) * 257).save(path)
    made(root)


def test_options_that_contradict_each_other_are_refused(root: Path) -> None:
    with pytest.raises(UsageError, match="sigma"):
        made(root, sigma=25.0)
    with pytest.raises(UsageError, match="needs a folder"):
        Pairs(PairsConfig(input=str(root)))
    with pytest.raises(UsageError, match=r"no image '99\.png' to hold out"):
        made(root, test=("99.png",))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data is not here")
def test_noise_on_the_shared_photographs() -> None:
    data = Pairs(PairsConfig(target=str(SHARED / "photos-free"), sigma=25.0))
    crop = next(data.crops(Restorer("gray"), 64, seed=0))
    assert crop.inputs.shape == (1, 64, 64)
    assert len(data.scenes("train")) > 20
