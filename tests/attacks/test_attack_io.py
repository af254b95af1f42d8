"""Disks that fail in the middle: files cut at every 4 kB, and reads that end with an I/O error."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import faulty_disk, tiny
from support.dngs import COLORCHART, dng, frame
from zoo.artifacts import open_artifact
from zoo.errors import InputError, IntegrityError, ZooError
from zoo.raw.decode import decode
from zoo_cli.main import _described

STEP = 4096


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return faulty_disk.build(tmp_path_factory.mktemp("preload"))


def test_an_artifact_cut_at_every_4_kb_is_refused(tmp_path: Path) -> None:
    made = tiny.bayer_artifact(tmp_path / "made")
    for name in ("zoo.json", *made.manifest.files):
        path = made.path / name
        content = path.read_bytes()
        for end in range(0, len(content), STEP):
            path.write_bytes(content[:end])
            with pytest.raises(ZooError, match=name.replace(".", r"\.")):
                open_artifact(made.path).verify()
        path.write_bytes(content)
    open_artifact(made.path).verify()


@pytest.mark.skipif(not COLORCHART.exists(), reason="the camera file is not here")
def test_a_camera_file_cut_at_every_4_kb_is_refused() -> None:
    content = COLORCHART.read_bytes()
    for end in range(0, len(content), STEP):
        with pytest.raises(InputError):
            decode(content[:end])


@pytest.mark.parametrize("word", ["zoo.json", "model.onnx", "golden.safetensors", "shot.dng"])
def test_a_read_that_fails_is_an_error_that_names_the_file(tmp_path: Path, library: Path, word: str) -> None:
    made = tiny.bayer_artifact(tmp_path / "made")
    shot = tmp_path / "shot.dng"
    shot.write_bytes(dng(frame()))
    command = [
        sys.executable,
        "-m",
        "zoo_cli",
        "run",
        str(made.path),
        str(shot),
        "-o",
        str(tmp_path / "out"),
        "--json",
    ]
    environment = {**os.environ, "ZOO_CACHE": str(tmp_path / "cache")}
    environment |= faulty_disk.failing(library, word, faulty_disk.READ)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode in (InputError.exit_code, IntegrityError.exit_code), done.stderr
    said = json.loads(done.stdout)
    assert word in (said["error"] if "error" in said else said["files"][0]["error"])
    assert not (tmp_path / "out").exists() or os.listdir(tmp_path / "out") == []


def test_an_error_of_the_disk_is_no_bug() -> None:
    assert _described(OSError(errno.EIO, "Input/output error", "/some/file")) == (
        "a disk reported an input/output error of /some/file.",
        None,
        InputError.exit_code,
    )


#: Puts a folder in its place, at first and over an old one, and a file, while each call of the disk fails in turn.
EACH_CALL = """
import errno, os, shutil, sys
from pathlib import Path
from support.faulty_disk import CREATE, RENAME, SYNC, WRITE, arm, met
from zoo.errors import OutputError
from zoo.storage.atomic import atomic_folder, write_bytes_atomic
root = Path(sys.argv[1])

def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else None

def put(what):
    if what == "file":
        return write_bytes_atomic(root / "file", b"new")
    with atomic_folder(root / "folder", replace=what == "folder over another") as folder:
        for name in "abc":
            (folder / name).write_bytes(name.encode())

def state(what):
    return (root / "file").read_bytes() if what == "file" else content(root / "folder")

faults = 0
for what in ("file", "folder", "folder over another"):
    for kind, error in ((WRITE, errno.ENOSPC), (SYNC, errno.EIO), (RENAME, errno.EIO), (CREATE, errno.ENOSPC)):
        calls, at = 1, -1
        while at < calls:
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir()
            (root / "file").write_bytes(b"old")
            if what == "folder over another":
                (root / "folder").mkdir()
                (root / "folder" / "a").write_bytes(b"old")
            before = state(what)
            arm(kind, at, error)
            try:
                put(what)
                failed = False
            except OutputError:
                failed = True
            calls = met() if at < 0 else calls
            arm(0, -1, 0)
            faults += failed
            after = state(what)
            complete = b"new" if what == "file" else {name: name.encode() for name in "abc"}
            assert after in (before, complete), (what, kind, at, after)
            assert failed or after == complete
            # Only where nothing is may the same command make it.
            assert not (failed and what == "folder") or after is None, (what, kind, at)
            if failed:
                put(what)
            assert state(what) == complete
            assert sorted(os.listdir(root)) == ["file", "folder"][: 1 + (what != "file")]
            at += 1
print(faults)
"""


def test_whichever_call_of_the_disk_fails_the_old_is_there_or_the_new_and_it_can_be_tried_again(
    tmp_path: Path, library: Path
) -> None:
    word = "what-fails"
    done = subprocess.run(
        [sys.executable, "-c", EACH_CALL, str(tmp_path / word)],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[1]),
            **faulty_disk.failing(library, word, 0, -1),
        },
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 25
