"""The emulated run says when it could not be made, starts children as itself, and judges what it compares."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import emulate_aarch64
from aarch64 import Failed, checks, packages
from aarch64.environment import JETSON_NANO, environment, run

TESTS = Path(__file__).parents[1]


def test_without_packages_it_says_so_with_an_exit_status_of_its_own(tmp_path: Path) -> None:
    if not Path("/etc/apt").is_dir():
        pytest.skip("there is no apt-get here")
    sources = tmp_path / "sources.list"
    sources.write_text("deb http://127.0.0.1:9/debian bookworm main\n")
    before = _listing(Path("/var/lib/apt"), Path("/var/cache/apt"))
    done = subprocess.run(
        [sys.executable, TESTS / "emulate_aarch64.py", tmp_path / "made", "--sources", sources],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == emulate_aarch64.UNAVAILABLE == 75, done.stderr
    assert re.search(r"aarch64: not run: apt-get .* failed: .*127\.0\.0\.1.*python3\.11-minimal", done.stdout)
    assert done.stderr == ""
    assert _listing(Path("/var/lib/apt"), Path("/var/cache/apt")) == before


def _listing(*folders: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*")}


def test_the_ci_goes_on_without_packages_and_stops_at_a_failure(tmp_path: Path) -> None:
    script = (TESTS.parent / ".ci" / "run").read_text()
    begin = script.index("status=0\n")
    step = script[begin : script.index("\nfi\n", begin) + 4]
    bash = shutil.which("bash")
    assert bash is not None
    python = tmp_path / "tests" / "bin" / "python"
    python.parent.mkdir(parents=True)
    for given, ends, says in ((0, 0, "next"), (75, 0, "SKIPPED"), (1, 1, "")):
        python.write_text(f"#!/bin/sh\nexit {given}\n")
        python.chmod(0o755)
        done = subprocess.run(
            [bash, "-euo", "pipefail", "-c", f'place="{tmp_path}"\n{step}\necho next'],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == ends
        assert says in done.stdout
        assert ("next" in done.stdout) is (ends == 0)


def test_a_folder_is_made_once_and_never_left_half_made(tmp_path: Path) -> None:
    made = []

    def make(target: Path) -> None:
        made.append(target)
        (target / "part").touch()
        if len(made) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        packages.once(tmp_path, "parts", ("one",), make)
    first = packages.once(tmp_path, "parts", ("one",), make)
    assert packages.once(tmp_path, "parts", ("one",), make) == first
    assert len(made) == 2
    assert list(tmp_path.iterdir()) == [first]
    second = packages.once(tmp_path, "parts", ("two",), make)
    assert list(tmp_path.iterdir()) == [second]


def test_a_child_started_by_sys_executable_is_emulated_too(tmp_path: Path) -> None:
    """A stand-in for QEMU notes each start and runs this Python instead, by the name it is told to give it."""
    debian, log = tmp_path / "it's here", tmp_path / "log"
    emulator = debian / "host" / packages.EMULATOR
    emulator.parent.mkdir(parents=True)
    emulator.write_text(
        f'#!/bin/bash\necho "$1 $3 $4 $5 $7" >> {log}\nname="$6"\nshift 7\nexec -a "$name" {sys.executable} "$@"\n'
    )
    emulator.chmod(0o755)
    (debian / "guest" / "usr").mkdir(parents=True)
    board = environment(tmp_path / "a folder", debian, [], JETSON_NANO)
    code = (
        "import subprocess, sys; print(subprocess.run([sys.executable, '-c', '']).returncode, sys.executable)"
    )
    done = run(board.python, "-c", code, scratch=board.scratch)
    assert done.stdout.split(maxsplit=1) == ["0", f"{board.python}\n"], done.stderr
    guest = debian / "guest" / "usr" / "bin" / packages.PYTHON
    assert (board.folder / "root" / "usr").resolve() == debian / "guest" / "usr"
    assert log.read_text().splitlines() == [f"-L -cpu cortex-a57 -0 {guest}"] * 2


def test_pictures_may_differ_by_one_step_and_the_difference_is_told(tmp_path: Path) -> None:
    grey = np.full((6, 7, 3), 100, np.uint8)
    other, wrong = grey.copy(), grey.copy()
    other[0, 0, 0], wrong[5, 6, 2] = 101, 98
    one, two, three = (tmp_path / f"{number}.png" for number in range(3))
    for path, samples in ((one, grey), (two, other), (three, wrong)):
        Image.fromarray(samples).save(path)
    assert checks.same_pictures(one, one) == "the same file, byte for byte"
    assert checks.same_pictures(one, two) == "1 of 126 samples differ, by at most 1 of 255"
    with pytest.raises(Failed, match="by at most 2 of 255"):
        checks.same_pictures(one, three)
    Image.fromarray(grey[:5]).save(two)
    with pytest.raises(Failed, match=r"\(6, 7, 3\)"):
        checks.same_pictures(one, two)


def test_outputs_may_differ_by_less_than_a_step(tmp_path: Path) -> None:
    some = np.linspace(0, 1, 12, dtype=np.float32)
    assert checks.same_outputs({"a": some}, {"a": some}) == "a: the same bits"
    assert checks.same_outputs({"a": some}, {"a": some + np.float32(0.001)}).startswith(
        "a: at most 1.0e-03 apart"
    )
    for wrong in (some + np.float32(0.01), np.where(some > 0.5, np.float32("nan"), some)):
        with pytest.raises(Failed, match="a: "):
            checks.same_outputs({"a": some}, {"a": wrong})


@pytest.mark.parametrize("chosen", sorted({*emulate_aarch64.ALL, *emulate_aarch64.NOT_RUN}))
def test_the_chosen_tests_exist(chosen: str) -> None:
    module, _, name = chosen.partition("::")
    source = (TESTS / module).read_text()
    assert not re.search(r"^(from|import) torch\b", source, re.MULTILINE)
    assert not name or f"\ndef {name}(" in source
