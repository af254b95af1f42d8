"""Packing puts every pixel where the network expects its colour, whatever the phase and size of the mosaic."""

from __future__ import annotations

import numpy as np
import pytest

from support.dngs import PHASES, RGGB, XTRANS, frame
from zoo.architectures.unet import UNetArchitecture, XTransUNetArchitecture
from zoo.errors import InputError
from zoo.raw.amplify import auto_ratio
from zoo.raw.decode import RawFrame
from zoo.raw.pack import pack_bayer, pack_mosaic, pack_xtrans

#: The colour of each packed channel: Bayer, then X-Trans (0 red, 1 green, 2 blue).
BAYER_COLOURS = (0, 1, 2, 1)
XTRANS_COLOURS = (0, 1, 2, 0, 2, 1, 1, 1, 1)


def coloured(pattern: np.ndarray, shape: tuple[int, int]) -> RawFrame:
    """A mosaic whose every red, green, blue pixel is a tenth, two tenths, three tenths of the range."""
    rows, columns = (-(-side // len(pattern)) for side in shape)
    colours = np.tile(np.where(pattern == 3, 1, pattern), (rows, columns))[: shape[0], : shape[1]]
    return RawFrame(
        (1000 + 1000 * (colours + 1)).astype(np.uint16), pattern, (1000,) * 4, (11000,) * 4, (1, 1, 1)
    )


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("shape", [(32, 48), (33, 49), (32, 49), (17, 16)])
def test_bayer_channels_hold_their_colour_in_any_phase_and_size(phase: str, shape: tuple[int, int]) -> None:
    packed = pack_bayer(coloured(PHASES[phase], shape), 1.0, white_balance=False)
    for channel, colour in zip(packed.data, BAYER_COLOURS, strict=True):
        assert np.allclose(channel, 0.1 * (colour + 1))
    assert 2 * packed.data.shape[1] >= shape[0] + packed.top
    assert (packed.height, packed.width) == shape


@pytest.mark.parametrize("shift", [(row, column) for row in range(6) for column in (0, 1, 2)])
def test_xtrans_channels_hold_their_colour_in_any_phase(shift: tuple[int, int]) -> None:
    packed = pack_xtrans(coloured(np.roll(XTRANS, shift, (0, 1)), (61, 70)), 1.0, white_balance=False)
    for channel, colour in zip(packed.data, XTRANS_COLOURS, strict=True):
        assert np.allclose(channel, 0.1 * (colour + 1))
    assert packed.data.shape[0] == 9
    assert all(side % 2 == 0 for side in packed.data.shape[1:])


def test_every_xtrans_pixel_is_used_once_and_stays_in_its_neighbourhood() -> None:
    cell_at_phase = np.roll(XTRANS, 1, 0)
    positions = np.arange(36 * 4 * 4, dtype=np.uint16).reshape(24, 24)
    of = RawFrame(positions, cell_at_phase, (0,) * 4, (65535,) * 4, (1, 1, 1))
    data = np.rint(pack_xtrans(of, 1.0, white_balance=False).data * 65535).astype(int)
    assert data.shape == (9, 8, 8)
    assert sorted(data.ravel()) == list(range(576))
    for (_, row, column), value in np.ndenumerate(data):
        y, x = divmod(value, 24)
        assert abs(y - (3 * row + 1)) <= 1
        assert abs(x - (3 * column + 1)) <= 1


def test_each_position_is_scaled_by_its_own_levels_gain_and_the_ratio() -> None:
    of = RawFrame(
        np.tile(np.array([[300, 310], [320, 330]], np.uint16), (8, 8)),
        RGGB,
        (100, 110, 120, 130),
        (1100, 1110, 1120, 1130),
        (2.0, 1.0, 1.5),
    )
    data = pack_bayer(of, 1.5, white_balance=True).data[:, 0, 0]
    # red 200 of 1000, green 200 of 1000 (first), blue 210 of 1000, green 190 of 1000 (second)
    assert data == pytest.approx([0.2 * 2 * 1.5, 0.2 * 1.5, 0.21 * 1.5 * 1.5, 0.19 * 1.5], rel=1e-5)
    plain = pack_bayer(of, 1.0, white_balance=False).data[:, 0, 0]
    assert plain == pytest.approx([0.2, 0.2, 0.21, 0.19], rel=1e-5)


def test_values_stay_between_0_and_1() -> None:
    data = pack_bayer(frame(), 300.0, white_balance=True).data
    assert data.dtype == np.float32
    assert data.min() == 0
    assert data.max() == 1


def test_the_wrong_kind_of_sensor_is_refused_by_name() -> None:
    with pytest.raises(
        InputError, match="expects Bayer RAW files; the file is from an X-Trans sensor"
    ) as caught:
        pack_mosaic(frame((60, 72), XTRANS), UNetArchitecture().input, 1.0)
    assert "zoo list checkpoints" in (caught.value.hint or "")
    with pytest.raises(InputError, match="expects X-Trans RAW files; the file is from a Bayer sensor"):
        pack_mosaic(frame(), XTransUNetArchitecture().input, 1.0)
    scrambled = XTRANS.copy()
    scrambled[0] = scrambled[0][::-1]
    scrambled[[1, 2]] = scrambled[[2, 1]]
    with pytest.raises(InputError, match="unknown order"):
        pack_xtrans(frame((60, 72), scrambled), 1.0, white_balance=True)


@pytest.mark.parametrize("darkening", [1.5, 20, 120, 280])
def test_the_automatic_ratio_brings_a_dark_frame_to_the_target(darkening: float) -> None:
    rng = np.random.default_rng(0)
    scene = rng.uniform(0, 0.36, (200, 300))  # mean 0.18
    mosaic = np.rint(512 + scene / darkening * 15000 + rng.normal(0, 4, scene.shape))
    of = RawFrame(np.maximum(mosaic, 0).astype(np.uint16), RGGB, (512,) * 4, (15512,) * 4, (1, 1, 1))
    assert auto_ratio(of, 0.18) == pytest.approx(darkening, rel=0.05)


def test_the_automatic_ratio_is_not_led_astray_by_a_lamp_and_stays_in_its_limits() -> None:
    mosaic = np.full((200, 200), 512 + 15, np.uint16)
    of = RawFrame(mosaic, RGGB, (512,) * 4, (15512,) * 4, (1, 1, 1))
    without = auto_ratio(of)
    assert without == pytest.approx(180, rel=0.01)
    mosaic[:10, :40] = 15512  # one per cent of the picture, a thousand times brighter
    assert auto_ratio(of) == pytest.approx(without, rel=0.07)
    assert auto_ratio(RawFrame(mosaic * 0 + 513, RGGB, (512,) * 4, (15512,) * 4, (1, 1, 1))) == 300
    assert auto_ratio(RawFrame(mosaic * 0 + 15000, RGGB, (512,) * 4, (15512,) * 4, (1, 1, 1))) == 1
