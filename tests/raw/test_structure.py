"""What a DNG file says of its mosaic is held together before LibRaw is believed."""

from __future__ import annotations

import pytest

from zoo.errors import InputError
from zoo.raw.dng_tags import FrameTags
from zoo.raw.doubts import doubts_about
from zoo.raw.structure import read_structure

WIDTH, HEIGHT, BITS, COMPRESSION, SAMPLES, OFFSETS, ROWS, COUNTS = 256, 257, 258, 259, 277, 273, 278, 279
WHITE, ACTIVE, ORIGIN, SIZE, SIDES, CFA = 50717, 50829, 50719, 50720, 33421, 33422
GOOD = {
    WIDTH: (96.0,), HEIGHT: (64.0,), BITS: (14.0,), COMPRESSION: (1.0,), SAMPLES: (1.0,),
    OFFSETS: (1000.0,), ROWS: (64.0,), COUNTS: (64 * 168.0,), WHITE: (15000.0,),
    ACTIVE: (0.0, 8.0, 64.0, 96.0), ORIGIN: (0.0, 0.0), SIZE: (88.0, 64.0),
    SIDES: (2.0, 2.0), CFA: (0.0, 1.0, 1.0, 2.0),
}  # fmt: skip
FILE = 1000 + 64 * 168


def tags(**changes: tuple[float, ...]) -> FrameTags:
    values = {**GOOD, **{int(name[1:]): value for name, value in changes.items()}}
    return FrameTags(lambda tag: values.get(tag, ()), lambda tag: values.get(tag, ()))


def test_a_whole_file_is_read_as_it_is() -> None:
    found = read_structure(tags(), FILE, "a.dng")
    assert (found.height, found.width, found.bits, found.largest) == (64, 96, 14, 16383)
    assert found.doubts() == ()


def test_strips_and_tiles_of_any_number_are_taken() -> None:
    strips = tags(t278=(20,), t273=(1000, 5000, 9000, 13000), t279=(20 * 168, 20 * 168, 20 * 168, 4 * 168))
    assert read_structure(strips, 20_000, "a.dng").height == 64
    tiles = tags(t324=tuple(range(1000, 7000, 1000)), t325=(900.0,) * 6, t322=(32,), t323=(32,), t259=(7,))
    assert read_structure(tiles, 20_000, "a.dng").width == 96


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"t258": ()}, "no numbers of bits"),
        ({"t258": (0,)}, "0 bits per sample"),
        ({"t258": (14, 14)}, "2 numbers of bits"),
        ({"t258": (12,)}, "samples of 12 bits"),
        ({"t256": (90,)}, "active area|samples of 14 bits"),
        ({"t257": (1,)}, "active area|samples"),
        ({"t257": (70_000,)}, "a size of 96 x 70000"),
        ({"t259": (6,)}, "unknown compression"),
        ({"t277": (3,)}, "several samples"),
        ({"t273": (1049,)}, "outside the file"),
        ({"t273": (4,)}, "outside the file"),
        ({"t273": (1000, 1100), "t279": (64 * 168, 9), "t278": (60,)}, "overlap"),
        ({"t278": (10,)}, "1 places"),
        ({"t50717": (60_000,)}, "white level of 60000"),
        ({"t50829": (0, 8, 64, 200)}, "active area"),
        ({"t50720": (90, 64)}, "beyond its active area"),
        ({"t33421": (6, 6)}, "4 colours"),
    ],
)
def test_what_does_not_fit_together_is_refused_and_named(
    changes: dict[str, tuple[float, ...]], says: str
) -> None:
    with pytest.raises(InputError, match=f"a.dng is damaged: it .*{says}"):
        read_structure(tags(**changes), FILE, "a.dng")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"t258": (32,)}, "samples of 32 bits"),
        ({"t258": (16,), "t339": (3,)}, "samples of 16 bits, as files made of several exposures"),
        ({"t50711": (2,)}, "rows are shifted"),
    ],
)
def test_what_is_whole_and_not_read_is_not_called_damaged(
    changes: dict[str, tuple[float, ...]], says: str
) -> None:
    with pytest.raises(InputError, match=says) as caught:
        read_structure(tags(**changes), FILE, "a.dng")
    assert "damaged" not in str(caught.value)


def test_without_a_white_level_it_is_the_largest_value_that_a_sample_can_have() -> None:
    assert read_structure(tags(t50717=()), FILE, "a.dng").white == 16383
    assert read_structure(tags(t50717=(), t50712=(0.0, 9.0, 4000.0)), FILE, "a.dng").white == 4000


def test_an_unusual_white_balance_and_levels_raise_doubts() -> None:
    import numpy as np

    mosaic = np.random.default_rng(0).integers(500, 9000, (64, 96)).astype(np.uint16)

    def doubts(
        black: float, white: float, gains: tuple[float, float, float], neutral: tuple[float, ...] | None
    ) -> str:
        return " ".join(doubts_about(mosaic, [black] * 4, [white] * 4, gains, neutral))

    assert doubts(512, 16_000, (2, 1, 1.5), (0.5, 1, 0.66)) == ""
    assert doubts(512, 16_000, (2, 1, 1.5), None) == ""
    assert "below the stated black" in doubts(2000, 10_000, (2, 1, 1.5), None)
    assert "above the stated white" in doubts(512, 5000, (2, 1, 1.5), None)
    assert "black level is 0" in doubts(0, 12_000, (2, 1, 1.5), None)
    assert "white level of 10000 is unusual" in doubts(512, 10_000, (2, 1, 1.5), None)
    assert "white level of 60000 is unusual" in doubts(512, 60_000, (2, 1, 1.5), None)
    assert "gains" in doubts(512, 10_000, (29, 1, 1.5), None)
    assert "gains" in doubts(512, 16_000, (2, 1, 0.6), None)  # no light is short of red and of blue
    assert "No white balance" in doubts(512, 16_000, (2, 1, 1.5), ())
    assert "unusual" in doubts(512, 10_000, (1, 1, 1), (0.5, 1, 0.66))


def test_directories_that_disagree_which_side_is_up_raise_a_doubt() -> None:
    def found(of_file: int | None, of_mosaic: int | None) -> str:
        values = [() if each is None else (float(each),) for each in (of_file, of_mosaic)]

        def numbers(tag: int, which: int) -> tuple[float, ...]:
            return values[which] if tag == 274 else GOOD.get(tag, ())

        both = FrameTags(lambda tag: numbers(tag, 1), lambda tag: numbers(tag, 0))
        return " ".join(read_structure(both, FILE, "a.dng").doubts())

    assert found(6, 1) == "It states two orientations, 6 and 1; the first is taken."
    assert found(6, 6) == found(6, None) == found(None, None) == ""
    assert "mirror" in found(2, None)


def test_sixteen_bits_without_a_white_level_raise_a_doubt() -> None:
    whole = {"t258": (16.0,), "t279": (64 * 192.0,)}
    bare = tags(**whole, t50717=())
    assert read_structure(bare, 1000 + 64 * 192, "a.dng").doubts() == ("No white level is stated.",)
    assert read_structure(tags(**whole), 1000 + 64 * 192, "a.dng").doubts() == ()
