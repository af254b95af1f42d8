"""The darkroom turns photographs into RAW files that a RAW developer turns back."""

from __future__ import annotations

import io
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import rawpy
from PIL import Image

from zoo.architectures.dncnn import DnCnnArchitecture
from zoo.architectures.swift_unet import SwiftUNetArchitecture
from zoo.architectures.unet import UNetArchitecture, XTransUNetArchitecture
from zoo.data.cameras import CAMERAS, Camera
from zoo.data.darkroom import Darkroom, DarkroomConfig
from zoo.data.exposure import Shot, colour_matrix, expose
from zoo.data.picture_folders import ImageCache, packaged_pictures, read_picture, split_of
from zoo.data.varied import quick_generator
from zoo.errors import InputError, UsageError
from zoo.images.srgb import linear_to_srgb, srgb_to_linear
from zoo.raw.decode import decode
from zoo.raw.develop import to_linear_srgb
from zoo.raw.dng import dng_bytes
from zoo.raw.pack import pack_bayer


def packaged(scene: str) -> np.ndarray:
    return read_picture(next(p.path for p in packaged_pictures() if p.scene == scene))


def decibels(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((a - b) ** 2)))


def test_srgb_curve_and_its_inverse_cancel_on_all_codes() -> None:
    codes = np.arange(256, dtype=np.uint8)
    assert np.array_equal(np.rint(linear_to_srgb(srgb_to_linear(codes)) * 255), codes)


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda c: c.name)
def test_libraw_develops_a_clean_bright_exposure_back_into_the_photograph(camera) -> None:
    picture = packaged("astronaut")
    shot = Shot(camera, ratio=1.0, gain=0.1, red=2.0, blue=1.6)
    frame = expose(srgb_to_linear(picture), shot, np.random.default_rng(0))
    data = dng_bytes(frame, xyz_to_camera=colour_matrix(camera))
    with rawpy.imread(io.BytesIO(data)) as raw:
        developed = raw.postprocess(use_camera_wb=True, no_auto_bright=True, gamma=(2.4, 12.92))
    # what is lost is demosaicing: the colours of the whole agree to a fraction of a code
    assert decibels(developed / 255.0, picture / 255.0) > 31
    assert np.abs(developed.mean((0, 1)) - picture.mean((0, 1))).max() < 1


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda c: c.name)
def test_a_dng_file_reads_back_as_it_was_written(camera: Camera) -> None:
    """Whatever LibRaw believes of a camera of that name: it lowers the white level of all Nikons."""
    scene = srgb_to_linear(packaged("astronaut")[:96, :96])
    frame = expose(scene, Shot(camera, 100.0, 1.0, 2.1, 1.7), np.random.default_rng(1))
    read = decode(dng_bytes(frame, xyz_to_camera=colour_matrix(camera), camera=camera.name))
    assert np.array_equal(read.mosaic, frame.mosaic)
    assert np.array_equal(read.pattern, frame.pattern)
    assert read.black == frame.black
    assert read.white == frame.white
    assert read.gains == pytest.approx(frame.gains, rel=1e-4)
    assert read.to_srgb == pytest.approx(frame.to_srgb, abs=1e-4)


def test_noise_grows_with_the_shot_noise_law() -> None:
    flat = np.full((512, 512, 3), 0.5, np.float32)
    for gain in (0.5, 4.0):
        shot = Shot(CAMERAS[0], ratio=1.0, gain=gain, red=2.0, blue=1.5)
        frame = expose(flat, shot, np.random.default_rng(2))
        green = frame.mosaic[0::2, 1::2].astype(float) - 512
        # the variance of Poisson noise is gain times the signal; read noise is small at this brightness
        assert green.var() == pytest.approx(gain * green.mean(), rel=0.05)


def test_amplified_input_has_the_brightness_of_the_scene() -> None:
    linear = srgb_to_linear(packaged("coffee")[:256, :256])
    shot = Shot(CAMERAS[1], ratio=200.0, gain=0.5, red=1.9, blue=1.5)
    frame = expose(linear, shot, np.random.default_rng(3))
    dark = float((frame.mosaic.astype(float) - 400).mean())
    assert dark < 100  # of 15,983: invisible before it is amplified
    packed = pack_bayer(frame, shot.ratio, white_balance=True)
    assert packed.data[1].mean() == pytest.approx(float(linear[..., 1].mean()), rel=0.25)


def test_crop_number_k_depends_on_seed_and_k_alone() -> None:
    dataset, architecture = Darkroom(), UNetArchitecture()
    first = list(islice(dataset.crops(architecture, 32, seed=5), 6))
    resumed = next(dataset.crops(architecture, 32, seed=5, start=4))
    assert np.array_equal(first[4].inputs, resumed.inputs)
    assert np.array_equal(first[4].target, resumed.target)
    other = next(dataset.crops(architecture, 32, seed=6))
    assert not np.array_equal(first[0].inputs, other.inputs)


def test_samples_have_the_shapes_and_range_the_network_takes() -> None:
    sample = next(Darkroom().crops(UNetArchitecture(), 32, seed=0))
    assert sample.inputs.shape == (4, 32, 32)
    assert sample.inputs.dtype == np.float32
    assert sample.target is not None
    assert sample.target.shape == (3, 64, 64)
    for array in (sample.inputs, sample.target):
        assert array.min() >= 0
        assert array.max() <= 1


def test_frames_are_reproducible_and_splits_share_no_scene() -> None:
    dataset = Darkroom()
    once = next(dataset.frames(UNetArchitecture(), "test"))
    again = next(dataset.frames(UNetArchitecture(), "test"))
    assert np.array_equal(once.inputs, again.inputs)
    splits = [set(dataset.scenes(split)) for split in ("train", "val", "test")]
    assert all(splits)
    assert sum(map(len, splits)) == len(set.union(*splits))


def test_splits_of_many_scenes_are_about_70_10_20_percent() -> None:
    names = [split_of(f"scene{i}") for i in range(2000)]
    assert names.count("train") == pytest.approx(1400, rel=0.1)
    assert names.count("test") == pytest.approx(400, rel=0.2)


def test_own_photographs_join_in_and_change_the_identity(tmp_path: Path) -> None:
    Image.fromarray(packaged("chelsea")[:129, :201]).save(tmp_path / "mine.png")
    dataset = Darkroom(DarkroomConfig(photos=(str(tmp_path),)))
    split = split_of("mine")
    assert "mine" in dataset.scenes(split)
    assert dataset.identity() != Darkroom().identity()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda d: None, "contains no photographs"),
        (lambda d: d.rmdir(), "does not exist"),
        (lambda d: (d / "astronaut.png").write_bytes(b""), "called 'astronaut'"),
    ],
    ids=["empty", "missing", "same name"],
)
def test_bad_photograph_folders_are_refused(tmp_path: Path, make, text: str) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    make(folder)
    with pytest.raises(InputError, match=text):
        Darkroom(DarkroomConfig(photos=(str(folder),)))


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"broken\.jpg"):
        ImageCache(read_picture).get(tmp_path / "broken.jpg")


def test_a_tiny_picture_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "tiny.png")
    with pytest.raises(InputError, match="20x20"):
        read_picture(tmp_path / "tiny.png")


def test_the_picture_cache_keeps_to_its_limit(tmp_path: Path) -> None:
    for number in range(4):
        Image.new("RGB", (100, 100), (number, 0, 0)).save(tmp_path / f"{number}.png")
    cache = ImageCache(read_picture, limit=65_000)  # two pictures of 30,000 bytes
    for number in range(4):
        assert cache.get(tmp_path / f"{number}.png")[0, 0, 0] == number
    assert len(cache._held) == 2
    assert cache._bytes == 60_000


def test_a_net_without_a_sensor_is_refused() -> None:
    with pytest.raises(UsageError, match="rgb"):
        next(Darkroom().crops(DnCnnArchitecture(), 32, seed=0))


def test_x_trans_files_are_made_for_networks_of_such_sensors(tmp_path: Path) -> None:
    stripes = np.repeat(np.eye(3, dtype=np.uint8) * 160 + 40, (43, 42, 42), axis=0)
    for name in ("mine", "mine too", "another one", "and one more"):  # of several splits
        Image.fromarray(np.broadcast_to(stripes, (101, 127, 3)).copy()).save(tmp_path / f"{name}.png")
    dataset = Darkroom(DarkroomConfig(photos=(str(tmp_path),), packaged=False, min_ratio=1.0, max_ratio=1.0))
    network = XTransUNetArchitecture()
    for sample in (next(dataset.crops(network, 16, seed=0)), next(dataset.frames(network, "train"))):
        assert sample.target is not None
        height, width = sample.inputs.shape[1:]
        assert sample.inputs.shape[0] == 9
        assert sample.target.shape == (3, 3 * height, 3 * width)
    small = sample.target.reshape(3, height, 3, width, 3).mean((2, 4))
    for colour in range(3):  # the first three channels are red, green and blue
        alike = [np.corrcoef(sample.inputs[colour].ravel(), each.ravel())[0, 1] for each in small]
        assert int(np.argmax(alike)) == colour
    _, exposure = next(dataset.exposures("train", mosaic="xtrans"))
    assert decode(exposure.dng).kind == "xtrans"


def test_ratios_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(UsageError, match="min_ratio"):
        Darkroom(DarkroomConfig(min_ratio=300, max_ratio=100))


def test_varied_crops_are_of_many_cameras_and_depend_on_seed_and_number_alone() -> None:
    dataset, network = Darkroom(DarkroomConfig(min_ratio=1, varied=True)), SwiftUNetArchitecture()
    crops = list(islice(dataset.crops(network, 32, seed=3), 6))
    again = next(dataset.crops(network, 32, seed=3, start=4))
    assert np.array_equal(crops[4].inputs, again.inputs)
    assert crops[0].inputs.shape == (8, 32, 32)
    assert any(crop.inputs[:4].min() < 0 for crop in crops)
    assert len({crop.to_srgb.tobytes() for crop in crops if crop.to_srgb is not None}) == len(crops)


def test_a_network_in_camera_colours_is_shown_the_photograph_once_it_is_developed() -> None:
    frame = next(iter(Darkroom().frames(SwiftUNetArchitecture(), "test")))
    assert frame.target is not None
    assert frame.to_srgb is not None
    shown = linear_to_srgb(np.clip(to_linear_srgb(frame.target, frame.to_srgb), 0, 1))
    assert np.abs(shown - packaged("astronaut").transpose(2, 0, 1) / 255).max() < 1e-3


def test_photons_in_large_numbers_have_the_mean_and_the_variance_of_a_poisson_distribution() -> None:
    counts = quick_generator(0).poisson(np.full((400, 400), 60, np.float32))
    assert counts.mean() == pytest.approx(60, rel=0.01)
    assert counts.var() == pytest.approx(60, rel=0.02)
