"""Run the base install on 64-bit Arm, emulated by QEMU on x86-64 Debian 12.

    python tests/emulate_aarch64.py [FOLDER] [--all] [--sources FILE]

Needs Python with this project and its extra `cpu` installed, apt-get and pip; no rights of an administrator, and
nothing outside FOLDER is changed. Exit status: 0 if all held, 1 if something did not, 75 if packages could not
be had, so that nothing is known.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from aarch64 import Failed, Unavailable, checks, packages
from aarch64.environment import JETSON_NANO, JETSON_ORIN_NANO, Environment, environment

#: ONNX Runtime by board: None is the newest; 1.23.2 is the newest for Python 3.10, which JetPack 6 comes with.
BOARDS = {JETSON_ORIN_NANO: None, JETSON_NANO: "1.23.2"}
#: os.EX_TEMPFAIL: try again another time.
UNAVAILABLE = 75
#: A few tests of each part that a board runs, those that start other programs among them.
FEW = (
    "attacks/test_attack_raw.py::test_the_child_gives_what_decoding_in_this_process_gives",
    "attacks/test_attack_raw.py::test_a_batch_goes_on_after_a_file_that_crashes_the_decoder",
    "cli/test_cli.py::test_help_shows_every_command_without_importing_one",
    "cli/test_cli.py::test_list_shows_what_is_installed_by_kind",
    "devices/test_devices.py",
    "doctor/test_doctor.py",
    "download/test_pull.py::test_a_damaged_cache_is_mended_and_a_foreign_folder_refused",
    "download/test_pull.py::test_an_altered_source_installs_nothing",
    "download/test_network.py::test_a_pull_gives_the_pinned_bytes_and_shows_the_token_to_the_hub_only",
    "raw/test_decode.py::test_mosaic_levels_and_gains_are_read_exactly",
    "raw/test_pack.py::test_bayer_channels_hold_their_colour_in_any_phase_and_size",
    "runner/test_runner.py::test_a_bad_file_does_not_stop_the_others",
    "runner/test_runner.py::test_an_engine_that_computes_wrongly_is_named",
    "runner/test_runner.py::test_json_tells_the_steps_the_ratio_and_the_peak_memory",
    "runner/test_runner.py::test_running_loads_neither_torch_nor_onnx",
)
#: And whole modules that need no torch.
ALL = (
    *FEW,
    "artifacts/test_artifact.py",
    "cli/test_cli.py",
    "storage/test_atomic.py",
    "project/test_import_cost.py",
    "artifacts/test_manifest.py",
    "download/test_pull.py",
    "raw/test_decode.py",
    "raw/test_pack.py",
    "registry/test_registries.py",
    "runner/test_runner.py",
)
#: Of those, what holds a clock or a limit of memory against code that is emulated.
NOT_RUN = ("runner/test_runner.py::test_a_real_camera_file_is_run_within_the_usual_memory",)

T = TypeVar("T")
_STARTED = time.monotonic()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "folder", nargs="?", type=Path, help="What is fetched is kept here [nothing is kept]."
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="Whole modules of tests, and zoo run on both boards: six minutes or more.",
    )
    parser.add_argument("--sources", type=Path, help="A list of apt sources instead of the system's.")
    arguments = parser.parse_args()
    if arguments.sources and not arguments.sources.is_file():
        parser.error(f"{arguments.sources} is no file")
    with tempfile.TemporaryDirectory(prefix="zoo-aarch64-") as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        try:
            check(folder, arguments.all, arguments.sources)
        except Unavailable as error:
            tell(f"not run: {error}")
            return UNAVAILABLE
        except Failed as error:
            tell(f"FAILED: {error}")
            return 1
    tell("all that was run holds")
    return 0


def check(folder: Path, everything: bool, sources: Path | None) -> None:
    """Make the environment and run everything. Raises Unavailable, or Failed with all that does not hold."""
    debian = step("Debian's Python, and QEMU", lambda: packages.debian(folder, sources))
    wheel = step("the wheel", lambda: packages.built_wheel(folder))
    site = step("what the wheel requires", lambda: packages.base_install(folder, wheel))
    tools = step("what the tests require", lambda: packages.test_tools(folder))
    boards = []
    for board, version in BOARDS.items():
        other = [packages.onnxruntime(folder, version)] if version else []
        boards.append(environment(folder, debian, [*other, *site], board))
    here = folder / "scratch" / "x86-64"
    for scratch in (here, *(board.scratch for board in boards)):
        shutil.rmtree(
            scratch / "home", ignore_errors=True
        )  # the records of what was pulled and checked before
    failures = []
    tests = ALL if everything else FEW
    # Beside the tests, which mostly keep one processor busy.
    with ThreadPoolExecutor(1) as background:
        compared = background.submit(compare, boards, here, everything)
        for part in (lambda: checks.run_tests(boards[0], tools, tests, NOT_RUN), compared.result):
            try:
                part()
            except Failed as error:
                failures.append(str(error))
    if failures:
        raise Failed("\n".join(failures))


def compare(boards: list[Environment], here: Path, everything: bool) -> None:
    """Compare what this machine and the emulated boards compute, zoo run on the first or all. Raises Failed."""
    expected = checks.outputs(sys.executable, here)
    for each in boards:
        tell(f"{each.board.id}: zoo doctor says: {checks.doctor(each)}")
        alike = checks.same_outputs(expected, checks.outputs(each.python, each.scratch))
        tell(f"{each.board.id}: the network's outputs and those of x86-64: {alike}")
    raw = checks.photograph(here)
    theirs = checks.develop(sys.executable, here, raw)
    for each in boards if everything else boards[:1]:
        ours = checks.develop(each.python, each.scratch, raw)
        alike = checks.same_pictures(theirs.picture, ours.picture)
        tell(
            f"{each.board.id}: zoo run {raw.name} with {ours.engine}, on x86-64 with {theirs.engine}: {alike}"
        )


def step(what: str, make: Callable[[], T]) -> T:
    """Do something and say how long it took."""
    started = time.monotonic()
    made = make()
    tell(f"{what}: {time.monotonic() - started:.0f} s")
    return made


def tell(words: str) -> None:
    """Print a line with the time since the start."""
    sys.stdout.write(f"[{time.monotonic() - _STARTED:4.0f} s] aarch64: {words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
