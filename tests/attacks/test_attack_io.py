"""Disks that fail in the middle: files cut at every 4 kB, and reads that end with an I/O error."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import tiny
from support.dngs import COLORCHART, dng, frame
from zoo.artifacts import open_artifact
from zoo.errors import InputError, IntegrityError, ZooError
from zoo.raw.decode import decode
from zoo_cli.main import _described

STEP = 4096
#: Makes the n-th read from a file whose path holds a word fail as a broken disk does.
FAULTY_READS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int left = -2;

static int strikes(int descriptor) {
    char link[64], path[4096];
    const char *word = getenv("FAULT_WORD"), *count = getenv("FAULT_COUNT");
    if (!word || !count) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (!strstr(path, word)) return 0;
    if (left == -2) left = atoi(count);
    return left-- == 0;
}

ssize_t read(int descriptor, void *buffer, size_t size) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "read");
    if (strikes(descriptor)) { errno = EIO; return -1; }
    return real(descriptor, buffer, size);
}
"""


@pytest.fixture(scope="module")
def faulty_reads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler is here, or this is not Linux")
    folder = tmp_path_factory.mktemp("preload")
    (folder / "faulty.c").write_text(FAULTY_READS)
    library = folder / "faulty.so"
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(folder / "faulty.c"), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


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
def test_a_read_that_fails_is_an_error_that_names_the_file(
    tmp_path: Path, faulty_reads: Path, word: str
) -> None:
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
    environment = {**os.environ, "ZOO_CACHE": str(tmp_path / "cache"), "LD_PRELOAD": str(faulty_reads)}
    environment |= {"FAULT_WORD": word, "FAULT_COUNT": "0"}
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
