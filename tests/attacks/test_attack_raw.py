"""RAW files made to do harm: one that crashes, hangs or fills the decoder costs its own picture and no more."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from support import tiny
from support.dngs import COLORCHART, dng, frame, odd_dng
from support.faulty_decoder import (
    ABORT,
    BROKEN,
    BUG,
    FAULTY,
    HANGS_UP,
    HOARD,
    KILLED,
    LIAR,
    LISTS,
    SEGFAULT,
    SLEEP,
    SPIN,
    TALKS,
)
from zoo.errors import InputError, ZooError
from zoo.processes.launch import start_python
from zoo.raw import subprocess_decoder
from zoo.raw.decode import RawFrame, decode
from zoo.raw.subprocess_decoder import DecodeLimits, SubprocessDecoder
from zoo_cli.main import main

NORMAL = 4000


def shot(path: Path, brightest: int = NORMAL) -> Path:
    pixels = frame().mosaic.copy()
    pixels[5, 5] = brightest
    path.write_bytes(dng(frame(mosaic=pixels)))
    return path


def same(one: RawFrame, other: RawFrame) -> bool:
    described = all(
        getattr(one, name) == getattr(other, name) for name in ("black", "white", "gains", "flip", "kind")
    )
    return (
        described and np.array_equal(one.mosaic, other.mosaic) and np.array_equal(one.pattern, other.pattern)
    )


def children_of(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int(Path(entry, "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(entry.name))
    return found


# ------------------------------------------------------------------------------------------------ good files


def test_the_child_gives_what_decoding_in_this_process_gives(tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff \n.dng"))
    odd.write_bytes(dng(frame((131, 170), np.array([[3, 2], [0, 1]]), (0, 0, 0, 0))))
    files = [shot(tmp_path / "a.dng"), odd, *([COLORCHART] if COLORCHART.exists() else [])]
    with SubprocessDecoder() as decoder:
        for file in files:
            assert same(decode(file), decoder.decode(file))


def test_one_child_serves_a_batch_and_is_gone_after_the_last_file(tmp_path: Path) -> None:
    dark, bright = shot(tmp_path / "a.dng"), shot(tmp_path / "b.dng", 5000)
    with SubprocessDecoder() as decoder:
        first = decoder.decode(dark)
        (child,) = children_of(os.getpid())
        second = decoder.decode(bright)
        assert children_of(os.getpid()) == [child]
        third = decoder.decode(dark, last=True)
        assert children_of(os.getpid()) == []
    assert (first.mosaic.max(), second.mosaic.max()) == (NORMAL, 5000)  # a frame outlives the child
    assert same(first, third)


def test_the_child_imports_nothing_but_what_decoding_needs(tmp_path: Path) -> None:
    file = shot(tmp_path / "a.dng", LISTS)
    with SubprocessDecoder(target=FAULTY) as decoder:
        decoder.decode(file)
    packages = {name.partition(".")[0] for name in Path(f"{file}.modules").read_text().split()}
    assert {"numpy", "rawpy", "zoo"} <= packages
    assert not packages & {
        "torch",
        "onnx",
        "onnxruntime",
        "PIL",
        "rich",
        "click",
        "zoo_cli",
        "huggingface_hub",
    }


def test_the_child_does_not_see_the_tokens_of_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    file = shot(tmp_path / "a.dng", LISTS)
    with SubprocessDecoder(target=FAULTY) as decoder:
        decoder.decode(file)
        assert b"PATH=" in Path(f"/proc/{decoder.process_id}/environ").read_bytes()
        assert b"hf_secret" not in Path(f"/proc/{decoder.process_id}/environ").read_bytes()


# ------------------------------------------------------------------------------------------------ the decoder dies


@pytest.fixture
def faulty() -> Iterator[SubprocessDecoder]:
    with SubprocessDecoder(DecodeLimits(seconds=5, memory_mb=100), FAULTY) as decoder:
        yield decoder


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (SEGFAULT, r"made the RAW decoder crash \(SIGSEGV\)"),
        (ABORT, r"made the RAW decoder crash \(SIGABRT\)"),
        (SLEEP, "kept the RAW decoder busy for more than 5 s; it was stopped"),
        (SPIN, "kept the RAW decoder busy for more than"),
        (HOARD, "made the RAW decoder fail"),
        (BUG, "made the RAW decoder fail"),
        (HANGS_UP, "had the RAW decoder killed"),
        (KILLED, "had the RAW decoder killed"),
        (TALKS, "bad.dng"),
    ],
)
def test_a_file_that_takes_the_decoder_down_is_an_input_error_and_the_next_one_is_decoded(
    tmp_path: Path, faulty: SubprocessDecoder, fault: int, message: str
) -> None:
    good, bad = shot(tmp_path / "good.dng"), shot(tmp_path / "bad.dng", fault)
    assert faulty.decode(good).mosaic.max() == NORMAL
    with pytest.raises(InputError, match=message) as caught:
        faulty.decode(bad)
    assert "bad.dng" in caught.value.message
    assert caught.value.hint
    assert faulty.decode(good).mosaic.max() == NORMAL


def test_a_child_that_dies_between_two_files_costs_nothing(tmp_path: Path) -> None:
    file = shot(tmp_path / "a.dng")
    with SubprocessDecoder() as decoder:
        decoder.decode(file)
        (child,) = children_of(os.getpid())
        os.kill(child, signal.SIGKILL)
        while Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)
        assert decoder.decode(file).mosaic.max() == NORMAL


def test_the_kernel_ends_a_decoder_that_uses_up_its_processor_time(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, shot(tmp_path / "a.dng", SPIN).open("rb") as file:
        child = start_python(FAULTY, str(theirs.fileno()), str(os.getpid()), pass_fds=[theirs.fileno()])
        question = {"name": "a.dng", "seconds": 1, "memory": 2**30}
        socket.send_fds(ours, [json.dumps(question).encode()], [file.fileno()])
        assert child.wait(timeout=300) == -signal.SIGXCPU


def test_a_decoder_that_does_not_start_says_why(tmp_path: Path) -> None:
    file = shot(tmp_path / "a.dng")
    with SubprocessDecoder(target=BROKEN) as decoder:
        for _ in range(2):
            with pytest.raises(
                ZooError, match="RAW decoder did not start: ImportError: No module named rawpy"
            ):
                decoder.decode(file)


def liar(path: Path, lie: object) -> Path:
    path.write_bytes(b"II*\0LIE" + json.dumps(lie).encode())
    return path


def test_the_liar_of_these_tests_is_believed_when_it_tells_the_truth(tmp_path: Path) -> None:
    with SubprocessDecoder(target=LIAR) as decoder:
        assert decoder.decode(liar(tmp_path / "a.dng", {})).mosaic.shape == (64, 96)


@pytest.mark.parametrize(
    "lie",
    [
        {"height": 65}, {"height": 1 << 40}, {"height": 60000, "width": 60000}, {"width": -1}, {"width": 0.5},
        {"height": None}, {"pattern": []}, {"pattern": [0, 1, 3, 7]}, {"pattern": [0.5, 1, 3, 2]},
        {"pattern": [0] * 9}, {"black": [0] * 3}, {"black": [9] * 4}, {"white": ["x"] * 4}, {"gains": [0, 1, 1]},
        {"gains": [1, 1, 1e9]}, {"flip": 8}, {"flip": "x"}, {"error": ["a" * 60000]}, "", "[]", "{", "x" * 70000,
    ],
)  # fmt: skip
def test_a_child_taken_over_by_a_file_cannot_harm_the_parent_by_what_it_answers(
    tmp_path: Path, lie: object
) -> None:
    with (
        SubprocessDecoder(DecodeLimits(seconds=0.5), LIAR) as decoder,
        pytest.raises(InputError, match=r"a\.dng"),
    ):
        decoder.decode(liar(tmp_path / "a.dng", lie))


# ------------------------------------------------------------------------------------------------ real bombs


def patched(data: bytes, **tags: int) -> bytes:
    """A DNG with other values in tags of one number each, called t256 and so on."""
    new = bytearray(data)
    directory = struct.unpack_from("<I", data, 4)[0]
    for entry in range(directory + 2, directory + 2 + 12 * data[directory], 12):
        tag = struct.unpack_from("<H", data, entry)[0]
        if f"t{tag}" in tags:
            struct.pack_into("<HHII", new, entry, tag, 4, 1, tags[f"t{tag}"])
    return bytes(new)


@pytest.mark.parametrize("side", [15_000, 30_000, 65_535])
def test_a_small_file_that_claims_gigabytes_is_refused_before_they_are_taken(
    tmp_path: Path, side: int
) -> None:
    file = tmp_path / "bomb.dng"
    file.write_bytes(patched(odd_dng(frame().mosaic), t256=side, t257=side))
    with SubprocessDecoder() as decoder:
        decoder.decode(shot(tmp_path / "good.dng"))
        (child,) = children_of(os.getpid())
        started = time.monotonic()
        with pytest.raises(InputError, match=r"bomb\.dng"):
            decoder.decode(file)
        assert time.monotonic() - started < 30  # a millisecond, unless the machine stalls
        for line in Path(f"/proc/{child}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                assert int(line.split()[1]) < 256 * 1024


def test_more_memory_than_a_file_of_its_size_may_take_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.dng"
    file.write_bytes(dng(frame((1500, 2000))))
    with SubprocessDecoder(DecodeLimits(memory_mb=4, memory_per_byte=0)) as decoder:
        with pytest.raises(InputError, match="claims more pixels than fit in memory"):
            decoder.decode(file)
        assert decoder.decode(shot(tmp_path / "small.dng")).mosaic.max() == NORMAL


# ------------------------------------------------------------------------------------------------ limits of the machine

UNDER_LIMITS = (
    "import json, resource, sys\n"
    "for kind, most in json.loads(sys.argv[2]):\n"
    "    resource.setrlimit(kind, (most, most))\n"
    "from pathlib import Path\n"
    "from zoo.errors import ZooError\n"
    "from zoo.raw.subprocess_decoder import SubprocessDecoder\n"
    "with SubprocessDecoder() as decoder:\n"
    "    try:\n"
    "        print(decoder.decode(Path(sys.argv[1])).mosaic.shape)\n"
    "    except ZooError as error:\n"
    "        print(error)\n"
)


def decoded_under(file: Path, *limits: tuple[int, int]) -> str:
    command = [sys.executable, "-c", UNDER_LIMITS, str(file), json.dumps(limits)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_good_file_is_decoded_under_a_hard_limit_of_the_shell(tmp_path: Path) -> None:
    file = shot(tmp_path / "a.dng")
    limits = ((resource.RLIMIT_AS, 3 << 30), (resource.RLIMIT_CPU, 25))
    assert decoded_under(file, *limits) == f"{frame().mosaic.shape}\n"


def test_a_limit_of_the_shell_that_is_too_low_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.dng"
    file.write_bytes(dng(frame((6000, 8000))))
    said = decoded_under(file, (resource.RLIMIT_AS, 180 << 20))
    assert "ulimit -v" in said
    assert "malicious" not in said


# ------------------------------------------------------------------------------------------------ zoo run


def test_a_batch_goes_on_after_a_file_that_crashes_the_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(subprocess_decoder, "WORKER", FAULTY)
    artifact = tiny.bayer_artifact(tmp_path / "artifact")
    files = [shot(tmp_path / f"{name}.dng", brightest) for name, brightest in
             (("a", NORMAL), ("b", SEGFAULT), ("c", NORMAL), ("d", ABORT), ("e", NORMAL))]  # fmt: skip
    code = main(["run", str(artifact.path), *map(str, files), "-o", str(tmp_path / "out"), "--json"])
    printed = capfd.readouterr()
    assert code == InputError.exit_code == 5
    report = json.loads(printed.out)
    assert [file["ok"] for file in report["files"]] == [True, False, True, False, True]
    assert "crash (SIGSEGV)" in report["files"][1]["error"]
    assert sorted(os.listdir(tmp_path / "out")) == ["a.png", "c.png", "e.png"]
    assert children_of(os.getpid()) == []


def hanging(tmp_path: Path) -> tuple[subprocess.Popen[str], int]:
    """`zoo run` with a decoder that hangs; the process, a group of its own, and the id of its child."""
    artifact = tiny.bayer_artifact(tmp_path / "artifact")
    program = (
        f"import sys\nsys.path.append({str(Path(__file__).parents[1])!r})\n"
        f"from zoo.raw import subprocess_decoder\nsubprocess_decoder.WORKER = {FAULTY!r}\n"
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from zoo_cli.main import main\nsys.exit(main(sys.argv[1:]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "run", str(artifact.path), str(shot(tmp_path / "a.dng", SLEEP)),
         "-o", str(tmp_path / "out")],
        env={**os.environ, "ZOO_CACHE": str(tmp_path / "cache")},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (children := children_of(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    child = children[0]
    asleep = 0
    while asleep < 10 and time.monotonic() < deadline:  # past its start, however long that takes
        before = activity(child)
        time.sleep(0.1)
        asleep = asleep + 1 if before[0] == "S" and activity(child) == before else 0
    assert asleep == 10
    return process, child


def activity(process: int) -> list[str]:
    """Return the state of a process, and the processor time that it has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return [fields[0], fields[11], fields[12]]


def gone(process: int) -> bool:
    """Whether a process ends within a minute; one that nobody waited for counts as ended."""
    for _ in range(1200):
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_ctrl_c_ends_the_decoder_too(tmp_path: Path) -> None:
    process, child = hanging(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130
    assert said.strip() == "Interrupted."
    assert gone(child)
    assert os.listdir(tmp_path / "out") == []


def test_a_parent_that_is_killed_takes_the_decoder_with_it(tmp_path: Path) -> None:
    process, child = hanging(tmp_path)
    process.kill()
    process.communicate(timeout=300)
    assert gone(child)
