"""The curve for networks that are told the noise, the noise itself, and the way from camera colours to a picture."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from zoo.architectures.swift_unet import SwiftUNetArchitecture
from zoo.data.cameras import CAMERAS
from zoo.data.exposure import Shot, colour_matrix, expose
from zoo.images.srgb import srgb_to_linear
from zoo.raw.decode import decode, plausible_matrix
from zoo.raw.develop import camera_target, develop, matrix_of
from zoo.raw.dng import dng_bytes
from zoo.raw.noise import NoiseProfile, amplified, plausible_noise
from zoo.raw.noise_estimate import estimate_noise
from zoo.raw.pack import pack_mosaic
from zoo.raw.subprocess_decoder import SubprocessDecoder
from zoo.raw.tone import KNEE, encode, knee_of, noise_planes
from zoo.raw.tone import decode as decode_curve

SPEC = SwiftUNetArchitecture.input


def scene(side: int = 128) -> np.ndarray:
    """Return soft shades in 8 bits, (side, side, 3)."""
    rows, columns = np.mgrid[0:side, 0:side] / side
    shades = np.stack([rows, columns, (rows + columns) / 2], axis=-1)
    return np.rint(40 + 180 * shades).astype(np.uint8)


def shot(ratio: float = 1.0, gain: float = 1.0) -> Shot:
    return Shot(CAMERAS[2], ratio, gain, red=2.0, blue=1.6)


def test_the_curve_is_odd_and_its_inverse_brings_every_value_back() -> None:
    values = np.linspace(-0.2, 1.2, 1001, dtype=np.float32)
    assert np.allclose(decode_curve(encode(values)), values, atol=1e-5)
    assert np.allclose(encode(-values[:700]), -encode(values[:700]))
    assert encode(np.float32([1.0]))[0] == pytest.approx(1.0)


def test_a_higher_knee_leaves_noise_around_black_more_nearly_linear() -> None:
    values = np.linspace(-1, 1, 101, dtype=np.float32)
    low, high = encode(values, KNEE), encode(values, 1.0)
    assert np.corrcoef(values, high)[0, 1] > np.corrcoef(values, low)[0, 1]
    loud = amplified(NoiseProfile((1e-3,) * 3, (1e-4,) * 3), (2.0, 1.0, 1.5), 100.0)
    faint = amplified(NoiseProfile((1e-6,) * 3, (1e-9,) * 3), (2.0, 1.0, 1.5), 1.0)
    assert knee_of(faint) == pytest.approx(KNEE, rel=1e-3)
    assert knee_of(loud) > 10 * KNEE
    assert np.all(noise_planes(faint) < noise_planes(loud))
    assert loud.read == pytest.approx((2.0, 1.0, 1.5))


def test_noise_below_black_reaches_the_network() -> None:
    frame = expose(np.full((64, 64, 3), 0.001, np.float32), shot(200, 8), np.random.default_rng(0))
    packed = pack_mosaic(frame, SPEC, 200).data
    assert packed.shape == (8, 32, 32)
    assert (packed[:4] < 0).mean() > 0.2
    assert frame.noise is not None
    planes = noise_planes(amplified(frame.noise, frame.gains, 200))
    assert np.array_equal(packed[4:], np.broadcast_to(planes[:, None, None], (4, 32, 32)))


def test_noise_and_colours_come_back_from_the_file(tmp_path: Path) -> None:
    frame = expose(srgb_to_linear(scene()), shot(3.0), np.random.default_rng(0))
    path = tmp_path / "shot.dng"
    path.write_bytes(dng_bytes(frame, xyz_to_camera=colour_matrix(CAMERAS[2])))
    with SubprocessDecoder() as decoder:
        for found in (decode(path), decoder.decode(path)):
            assert found.noise == frame.noise
            assert np.allclose(matrix_of(found), matrix_of(frame), atol=2e-3)


def test_a_file_that_states_no_noise_has_it_estimated() -> None:
    frame = expose(srgb_to_linear(scene(512)), shot(1.0, 4.0), np.random.default_rng(0))
    assert frame.noise is not None
    found = estimate_noise(replace(frame, noise=None))
    levels = np.array([0.05, 0.2, 0.5])
    wanted = frame.noise.shot[1] * levels + frame.noise.read[1]
    assert np.allclose(found.shot[1] * levels + found.read[1], wanted, rtol=0.3)
    assert estimate_noise(replace(frame, mosaic=np.full((8, 8), 3000, np.uint16))).shot == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("shot_noise", "read"),
    [((-1.0,) * 3, (0.0,) * 3), ((float("nan"),) * 3, (0.0,) * 3), ((), ()), ((0.0,) * 3,) * 2],
)
def test_noise_that_no_sensor_has_is_not_believed(
    shot_noise: tuple[float, ...], read: tuple[float, ...]
) -> None:
    assert plausible_noise(shot_noise, read) is None


def test_a_matrix_that_tints_white_is_not_believed() -> None:
    assert plausible_matrix([1.0, 0, 0, 0, 1, 0, 0, 0, 1]) == (1.0, 0, 0, 0, 1, 0, 0, 0, 1)
    assert plausible_matrix([2.0, 0, 0, 0, 1, 0, 0, 0, 1]) is None
    assert plausible_matrix([float("inf"), 0, 0, 0, 1, 0, 0, 0, 1]) is None


@pytest.mark.parametrize("largest", [255, 65535])
def test_developing_what_a_network_should_answer_gives_the_picture(largest: int) -> None:
    picture = scene()
    to_srgb = matrix_of(expose(srgb_to_linear(picture), shot(), np.random.default_rng(0)))
    wanted = picture.transpose(2, 0, 1).astype(np.float32) / 255
    made = develop(camera_target(wanted, to_srgb), to_srgb, largest).astype(np.float32) / largest
    assert np.abs(made - wanted).max() <= (0.51 / 255 if largest == 255 else 1e-3)


def test_a_frame_without_a_matrix_keeps_its_colours() -> None:
    frame = decode(
        dng_bytes(expose(srgb_to_linear(scene()), shot(), np.random.default_rng(0)), xyz_to_camera=np.eye(3))
    )
    assert np.array_equal(matrix_of(replace(frame, to_srgb=None)), np.eye(3))


def test_damaged_noise_tags_are_left_alone() -> None:
    frame = expose(srgb_to_linear(scene()), shot(), np.random.default_rng(0))
    data = dng_bytes(replace(frame, noise=NoiseProfile((5.0,) * 3, (1.0,) * 3)), xyz_to_camera=np.eye(3))
    assert decode(io.BytesIO(data).getvalue()).noise is None
