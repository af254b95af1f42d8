"""What a sensor gave is read exactly; what is no such file, or a damaged one, is refused in clear words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.dngs import COLORCHART, PHASES, XTRANS, dng, frame, odd_dng
from zoo.errors import InputError
from zoo.raw.decode import decode

PIXELS = np.random.default_rng(0).integers(600, 9000, (64, 96)).astype(np.uint16)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("shape", [(64, 96), (65, 97), (33, 40)])
def test_mosaic_levels_and_gains_are_read_exactly(phase: str, shape: tuple[int, int]) -> None:
    written = frame(shape, PHASES[phase])
    read = decode(dng(written))
    assert np.array_equal(read.mosaic, written.mosaic)
    assert np.array_equal(read.pattern, written.pattern)
    assert read.black == written.black
    assert read.white == written.white
    assert read.gains == pytest.approx(written.gains, rel=1e-5)
    assert read.kind == "bayer"


@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (2, 5), (3, 3)])
def test_an_xtrans_mosaic_of_any_phase_is_read(shift: tuple[int, int]) -> None:
    written = frame((60, 72), np.roll(XTRANS, shift, (0, 1)), (1024,) * 4)
    read = decode(dng(written))
    assert np.array_equal(read.mosaic, written.mosaic)
    assert np.array_equal(read.pattern, written.pattern)
    assert read.kind == "xtrans"


def test_a_white_balance_that_is_a_point_in_the_cie_diagram_is_read() -> None:
    x, y = 0.4476, 0.4074
    read = decode(odd_dng(PIXELS, tags=((50729, 5, 2, (4476, 10000, 4074, 10000), True),)))
    matrix = [[0.6461, -0.1164, -0.0857], [-0.3825, 1.1597, 0.2534], [-0.0416, 0.1540, 0.6]]
    red, green, blue = np.array(matrix) @ (x / y, 1, (1 - x - y) / y)
    assert read.gains == pytest.approx((green / red, 1, green / blue), rel=1e-4)
    assert not any("white balance" in doubt for doubt in read.doubts)


@pytest.mark.parametrize("area", [(2, 4, 60, 90), (3, 5, 60, 90), (1, 0, 64, 96)])
def test_pixels_outside_the_visible_area_are_left_out_and_the_phase_kept(area: tuple[int, ...]) -> None:
    read = decode(odd_dng(PIXELS, tags=((50829, 4, 4, area, True),)))
    # each colour of the cell was given pixels of its own, so that the phase shows in the data
    full = np.tile(np.array([[1000, 2000], [2000, 3000]], np.uint16), (32, 48))
    shifted = np.roll(full, (area[0], area[1]), (0, 1))
    marked = decode(odd_dng(shifted, tags=((50829, 4, 4, area, True),)))
    assert read.mosaic.shape == marked.mosaic.shape
    assert min(read.mosaic.shape) >= 50
    expected = {0: 1000, 1: 2000, 2: 3000, 3: 2000}
    for row in range(2):
        for column in range(2):
            assert marked.mosaic[row, column] == expected[int(marked.pattern[row, column])]


@pytest.mark.parametrize(
    ("orientation", "flip"), [(1, 0), (2, 1), (3, 3), (4, 2), (5, 4), (6, 6), (7, 7), (8, 5)]
)
def test_the_orientation_is_read(orientation: int, flip: int) -> None:
    assert decode(odd_dng(PIXELS, tags=((274, 3, 1, orientation, True),))).flip == flip


@pytest.mark.skipif(not COLORCHART.exists(), reason="the camera file is not here")
def test_a_real_camera_file_is_read() -> None:
    chart = decode(COLORCHART)
    assert chart.mosaic.shape == (1156, 1734)
    assert chart.black == (2056,) * 4
    assert chart.white == (15000,) * 4
    assert chart.pattern.tolist() == [[0, 1], [3, 2]]
    assert chart.gains == pytest.approx((2.477, 1, 1.6943), abs=1e-3)


def test_a_link_to_a_file_and_any_name_are_read(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    (folder / "\u00e4 b.dng").write_bytes(dng(frame()))
    (tmp_path / "link.dng").symlink_to(folder / "\u00e4 b.dng")
    assert np.array_equal(decode(tmp_path / "link.dng").mosaic, frame().mosaic)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = dng(frame((128, 192)))
    path = tmp_path / "cut.dng"
    for size in (*range(40), *range(40, len(whole), 1009), len(whole) - 2):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"cut\.dng"):
            decode(path)


def test_missing_data_is_found_where_libraw_opens_the_file(tmp_path: Path) -> None:
    for hole in (slice(64, 128), slice(100, None), slice(32, 48)):
        pixels = frame((128, 192)).mosaic.copy()
        pixels[hole] = 0
        with pytest.raises(InputError, match=r"% of its image is empty"):
            decode(dng(frame(mosaic=pixels)))
    with pytest.raises(InputError, match="only zeros"):
        decode(dng(frame(mosaic=np.zeros((64, 64)))))


def test_a_dark_frame_with_clipped_noise_is_no_damage() -> None:
    # Half of the pixels are zero: a camera that subtracts black itself.
    pixels = np.maximum(np.random.default_rng(0).normal(0, 3, (256, 256)), 0)
    assert decode(dng(frame(mosaic=pixels, black=(0, 0, 0, 0)))).mosaic.max() > 0
    noisy = np.maximum(np.random.default_rng(0).normal(64, 60, (256, 256)), 0)
    assert decode(dng(frame(mosaic=noisy, black=(64,) * 4))).mosaic.min() == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (odd_dng(PIXELS, tags=((50714, 4, 1, 16383, True),)), "absurd levels: black 16383, white 16383"),
        (odd_dng(PIXELS, tags=((50714, 4, 1, 70000, True),)), "absurd levels"),
        (odd_dng(PIXELS, tags=((50714, 4, 1, 9001, True),)), "no signal: its brightest pixel is 8999"),
        (odd_dng(np.dstack([PIXELS] * 3), None), "several colours per pixel"),
        (odd_dng(PIXELS, ((0, 1), (2, 3)), ((50710, 1, 4, bytes((3, 4, 5, 1)), True),)), "unknown colour"),
        (odd_dng(PIXELS[:10]), "not a RAW file that LibRaw recognises"),
    ],
)
def test_a_file_without_a_usable_mosaic_says_what_it_holds(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        decode(data)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "is a JPEG picture, not a RAW file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is a PNG picture"),
        (b"\0\0\0\x18ftypheic" + bytes(100), "is a video or HEIF picture"),
        (b"hello", "it has no known header"),
        (bytes(768 * 512 * 2), "it has no known header"),  # LibRaw takes it for 1024 x 768 pixels of 8 bits
        (b"II*\0" + bytes(1000), "x.dng"),
        (b"FUJIFILMCCD-RAW " + bytes(1000), "x.dng"),
    ],
)
def test_what_is_no_raw_file_is_told_by_what_it_is(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.dng").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        decode(tmp_path / "x.dng")
    assert caught.value.hint


def test_what_cannot_be_opened_is_told_why(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for path, message in (
        (tmp_path / "loop", "it is a symbolic link"),
        (tmp_path, "it is a directory"),
        (tmp_path / "none.dng", "it does not exist"),
        (tmp_path / "pipe", "it is not a regular file"),
    ):
        with pytest.raises(InputError, match=f"Cannot read .*: {message}"):
            decode(path)


def run(code: str, *arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True
    )


def test_no_change_of_a_header_escapes_as_anything_but_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "x.dng").write_bytes(dng(frame()))
    code = (  # in a process of its own: LibRaw is native code
        "import sys, pathlib, numpy as np\n"
        "from zoo.errors import InputError; from zoo.raw.decode import decode\n"
        "from zoo.raw.pack import pack_bayer; from zoo.raw.amplify import auto_ratio\n"
        "path = pathlib.Path(sys.argv[1]); whole = path.read_bytes(); rng = np.random.default_rng(3)\n"
        "read = 0\n"
        "for _ in range(400):\n"
        "    changed = bytearray(whole)\n"
        "    for place in rng.integers(0, 700, 3): changed[place] = rng.integers(256)\n"
        "    path.write_bytes(changed)\n"
        "    try:\n"
        "        frame = decode(path); pack_bayer(frame, auto_ratio(frame), white_balance=True); read += 1\n"
        "    except InputError: pass\n"
        "print(read)\n"
    )
    assert 0 < int(run(code, tmp_path / "x.dng").stdout) < 400


def test_an_unreadable_file_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "secret.dng"
    path.write_bytes(dng(frame()))
    path.chmod(0)
    code = (
        "import os, sys, pathlib, zoo.raw.decode as d, rawpy, numpy\n"
        "os.geteuid() or os.setuid(65534)\n"  # root may read anything
        "try: d.decode(pathlib.Path(sys.argv[1]))\n"
        "except d.InputError as error: print(error)\n"
    )
    assert "permission denied" in run(code, path).stdout


def test_what_libraw_prints_does_not_reach_the_terminal_and_python_still_does(tmp_path: Path) -> None:
    whole = dng(frame((128, 192)))
    (tmp_path / "cut.dng").write_bytes(whole[: len(whole) // 2])
    code = (
        "import os, sys, pathlib, zoo.raw.decode as d, zoo.raw.native as n\n"
        "try: d.decode(pathlib.Path(sys.argv[1]))\n"
        "except d.InputError as error: print(error)\n"
        "with n.native_messages() as lines:\n"
        "    os.write(2, b'native\\n')\n"
        "    print('python', file=sys.stderr)\n"
        "print(lines)\n"
        "print('after', file=sys.stderr)\n"
    )
    done = run(code, tmp_path / "cut.dng")
    assert done.stderr == "python\nafter\n"
    assert "is damaged" in done.stdout
    assert done.stdout.endswith("['native']\n")


def test_reading_works_with_standard_error_closed(tmp_path: Path) -> None:
    (tmp_path / "x.dng").write_bytes(dng(frame()))
    code = (
        "import os, sys, pathlib; os.close(2)\n"
        "import zoo.raw.decode as d; print(d.decode(pathlib.Path(sys.argv[1])).mosaic.shape)\n"
    )
    assert run(code, tmp_path / "x.dng").stdout == "(64, 96)\n"
