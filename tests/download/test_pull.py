"""A pull gives exactly the bytes that the registry pins, or nothing."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import tiny
from support.installation import install
from zoo import registry
from zoo.artifacts import open_artifact
from zoo.checkpoints.places import cached_path
from zoo.download import pull
from zoo.errors import InputError, IntegrityError, OutputError, UnknownIdError
from zoo.registry import checkpoint


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    yield install(monkeypatch, tmp_path, tiny.bayer_artifact(tmp_path / "small"))
    registry.checkpoints.cache_clear()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_pull_copies_the_checkpoint_once(package: Path, tmp_path: Path) -> None:
    first = pull("small", tmp_path / "out")
    assert first.fresh
    assert first.path == tmp_path / "out"
    assert contents(tmp_path / "out") == contents(package / "checkpoints" / "small")
    assert not pull("small", tmp_path / "out").fresh
    open_artifact(tmp_path / "out").verify()


def test_without_a_folder_the_checkpoint_goes_to_the_cache(package: Path, tmp_path: Path) -> None:
    pulled = pull("small")
    assert pulled.path == cached_path(checkpoint("small"))
    assert pulled.path.is_relative_to(tmp_path / "cache")
    assert contents(pulled.path) == contents(package / "checkpoints" / "small")
    assert not pull("small").fresh


def test_a_damaged_cache_is_mended_and_a_foreign_folder_refused(package: Path, tmp_path: Path) -> None:
    for pulled in (pull("small"), pull("small", tmp_path / "out")):
        (pulled.path / "model.onnx").write_bytes(b"altered")
    assert pull("small").fresh
    open_artifact(pull("small").path).verify()
    with pytest.raises(OutputError, match="is not the checkpoint small") as caught:
        pull("small", tmp_path / "out")
    assert "--out DIR" in (caught.value.hint or "")
    assert (tmp_path / "out" / "model.onnx").read_bytes() == b"altered"


def test_an_altered_source_installs_nothing(package: Path, tmp_path: Path) -> None:
    source = package / "checkpoints" / "small"
    for name, original in contents(source).items():
        for altered in (
            original[:-1],
            original + b"x",
            bytes([original[0] ^ 1]) + original[1:],
            b"",
        ):
            (source / name).write_bytes(altered)
            with pytest.raises(IntegrityError, match=f"small/{name} is not the file"):
                pull("small", tmp_path / "out")
        (source / name).write_bytes(original)
    assert not (tmp_path / "out").exists()
    assert pull("small", tmp_path / "out").fresh


def test_a_link_in_the_source_is_not_followed(package: Path, tmp_path: Path) -> None:
    model = package / "checkpoints" / "small" / "model.onnx"
    model.rename(tmp_path / "model.onnx")
    model.symlink_to(tmp_path / "model.onnx")
    with pytest.raises(InputError, match="symbolic link"):
        pull("small", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_misspelt_id_is_never_guessed(package: Path) -> None:
    for name in ("smal", "Small", "small-"):
        with pytest.raises(UnknownIdError, match="did you mean 'small'"):
            pull(name)


CODE = """
import sys
from pathlib import Path
from zoo.registry import installed
from zoo.download import pull
installed.PACKAGE = Path(sys.argv[1])
print("ready", flush=True)
print(pull("small", Path(sys.argv[2])).fresh)
"""


def start(package: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", CODE, str(package), str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_many_processes_pulling_at_once_all_succeed(package: Path, tmp_path: Path) -> None:
    processes = [start(package, tmp_path / "new" / "out") for _ in range(6)]
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
    assert os.listdir(tmp_path / "new") == ["out"]
    open_artifact(tmp_path / "new" / "out").verify()


def test_a_pull_killed_at_any_moment_leaves_all_or_nothing(package: Path, tmp_path: Path) -> None:
    parent = tmp_path / "new"
    for seed in range(5):
        process = start(package, parent / "out")
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(random.Random(seed).uniform(0, 0.02))
        process.kill()
        process.communicate()
        if (parent / "out").exists():
            open_artifact(parent / "out").verify()
            for path in (parent / "out").iterdir():
                path.unlink()
            (parent / "out").rmdir()
    assert pull("small", parent / "out").fresh
    assert os.listdir(parent) == ["out"]
