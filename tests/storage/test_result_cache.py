"""Results kept between runs: found again, checked when they are read, and never needed."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import tiny
from zoo import onnx
from zoo.artifacts import Artifact, write_artifact
from zoo.checkpoints.listing import leftovers
from zoo.devices import host
from zoo.engines.onnxruntime import OnnxRuntimeEngine
from zoo.engines.ort_session import runtime_version
from zoo.engines.prepared_models import LARGEST, load_or_prepare, outdated_models
from zoo.errors import IntegrityError
from zoo.onnx import check, working_set
from zoo.onnx.check import load_checked_model
from zoo.runner.budget import footprint
from zoo.runner.loading import load
from zoo.storage.result_cache import ResultCache, outdated
from zoo_cli.main import main

pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.usefixtures("own_cache")


def cached(kind: str) -> list[Path]:
    folder = Path(os.environ["ZOO_CACHE"], kind)
    return sorted(folder.iterdir()) if folder.is_dir() else []


@pytest.fixture
def code(tmp_path: Path) -> Path:
    module = tmp_path / "code" / "module.py"
    module.parent.mkdir()
    module.write_text("")
    return module


def test_a_result_is_found_by_its_subject_alone(code: Path) -> None:
    cache = ResultCache("sums", {"of": [1, 2], "shape": (3, 4)}, code)
    assert cache.read(100) is None
    cache.write(b"three\n")
    assert ResultCache("sums", {"shape": (3, 4), "of": [1, 2]}, code).read(100) == b"three\n"
    assert ResultCache("sums", {"of": [2, 2], "shape": (3, 4)}, code).read(100) is None
    assert ResultCache("others", {"of": [1, 2], "shape": (3, 4)}, code).read(100) is None
    assert cache.read(5) is None  # more than is asked for


def test_what_a_kill_left_of_a_result_goes_with_a_later_one_or_with_the_pruning(
    code: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = ResultCache("sums", {"of": 1}, code)
    paths = []
    for cache in (again, ResultCache("sums", {"of": 2}, code)):
        assert cache.path is not None
        assert cache.writable
        program = (
            "import os, signal, sys\nfrom pathlib import Path\nfrom zoo.storage.atomic import atomic_write\n"
            "with atomic_write(Path(sys.argv[1])) as stream:\n"
            "    stream.write(b'half'); stream.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        done = subprocess.run([sys.executable, "-c", program, str(cache.path)], check=False)
        assert done.returncode == -signal.SIGKILL
        paths.append(cache.path.with_name(f".{cache.path.name}.0.tmp"))
    assert cached("sums") == sorted(paths)
    again.write(b"one")
    assert cached("sums") == sorted([again.path, paths[1]])
    assert [each.path for each in leftovers()] == [paths[1]]
    assert main(["cache", "list"]) == 0
    shown = capsys.readouterr().out
    assert "left by a kill (1)" in shown
    assert "damaged" not in shown
    assert main(["cache", "prune"]) == 0
    assert cached("sums") == [again.path]


def test_a_change_of_the_code_makes_results_outdated(code: Path) -> None:
    cache = ResultCache("sums", {"of": 1}, code)
    cache.write(b"one")
    assert list(outdated("sums", {"of": 1}, code)) == []
    assert list(outdated("sums", {"of": 2}, code)) == [cache.path]
    os.utime(code, (time.time() + 60, time.time() + 60))
    assert ResultCache("sums", {"of": 1}, code).read(100) is None
    assert list(outdated("sums", {"of": 1}, code)) == [cache.path]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[:-1] + b"X",
        lambda content: b"",
        lambda content: b"{}\n" + content,
        lambda content: b"[" * 5000 + b"\n",
        lambda content: content.replace(b'"of": 1', b'"of": 3'),
        lambda content: b"\xff" + content,
    ],
)
def test_damaged_results_are_none(damage: Any, code: Path) -> None:
    cache = ResultCache("sums", {"of": 1}, code)
    cache.write(b"one" * 1000)
    assert cache.path is not None
    cache.path.write_bytes(damage(cache.path.read_bytes()))
    assert cache.read(1 << 20) is None
    cache.write(b"two")
    assert cache.read(100) == b"two"


def test_without_a_place_for_a_cache_nothing_is_kept(
    code: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))
    cache = ResultCache("sums", {"of": 1}, code)
    cache.write(b"one")
    assert cache.read(100) is None
    assert list(outdated("sums", {}, code)) == []
    assert load_or_prepare("0" * 64, "1", True, lambda path: pytest.fail("made for nothing"), 1) is None


# ------------------------------------------------------------------------------------------------- networks


def inputs() -> np.ndarray:
    return np.random.default_rng(0).random((1, 4, 64, 64), dtype=np.float32)


def test_a_network_is_prepared_once_and_gives_the_same_bits(bayer: Artifact) -> None:
    expected = OnnxRuntimeEngine().open(bayer.read("model.onnx")).run(inputs())
    assert cached("onnxruntime") == []  # by itself an engine keeps nothing
    first = load(bayer, host()).session.run(inputs())
    (network,) = cached("onnxruntime")
    written = network.stat()
    second = load(bayer, host()).session.run(inputs())
    assert network.stat().st_mtime_ns == written.st_mtime_ns
    assert np.array_equal(first, expected)
    assert np.array_equal(second, expected)


def test_the_kept_network_is_the_one_that_runs(bayer: Artifact) -> None:
    digest = "0" * 64  # of another network, for which nothing was cached
    engine = OnnxRuntimeEngine()
    engine.open(bayer.read("model.onnx"), digest=digest)
    ran = engine.open(b"never looked at", digest=digest).run(inputs())
    assert np.array_equal(ran, engine.open(bayer.read("model.onnx")).run(inputs()))


@pytest.mark.parametrize("content", [b"", b"no network", None])
def test_a_kept_network_that_does_not_load_is_passed_over(content: bytes | None, bayer: Artifact) -> None:
    expected = load(bayer, host()).session.run(inputs())
    (network,) = cached("onnxruntime")
    if content is None:  # whole by its digest, and no network all the same
        subject = json.loads(network.read_bytes().partition(b"\n")[0])["of"]
        del subject["zoo"], subject["changed"]
        code = Path(load_or_prepare.__code__.co_filename), Path(onnx.__file__)
        cache = ResultCache("onnxruntime", subject, *code)
        assert cache.path == network
        cache.write(b"no network")
    else:
        network.write_bytes(content)
    assert np.array_equal(load(bayer, host()).session.run(inputs()), expected)


def test_large_networks_are_not_kept() -> None:
    assert load_or_prepare("0" * 64, "1", True, lambda path: pytest.fail("made"), LARGEST + 1) is None
    assert load_or_prepare("0" * 64, "1", True, lambda path: path.write_bytes(bytes(LARGEST + 1)), 1) is None
    assert cached("onnxruntime") == []


def test_networks_prepared_for_another_runtime_can_be_pruned(bayer: Artifact) -> None:
    load(bayer, host())
    assert list(outdated_models(runtime_version())) == []
    assert leftovers() == []
    version = runtime_version() + ".1"
    assert load_or_prepare("0" * 64, version, True, lambda path: path.write_bytes(b"made"), 1) == b"made"
    (other,) = outdated_models(runtime_version())
    assert [(each.what, each.path) for each in leftovers()] == [
        ("network prepared for another version", other)
    ]


# -------------------------------------------------------------------------------------------- what is derived


def test_the_working_set_is_taken_from_the_record_while_that_is_whole(bayer: Artifact) -> None:
    live = footprint(bayer).live
    (record,) = cached("working-set")
    header = json.loads(record.read_bytes().partition(b"\n")[0])["of"]
    del header["zoo"], header["changed"]
    cache = ResultCache("working-set", header, Path(working_set.__file__))
    assert cache.path == record
    cache.write_table({"live": live + 1, "integer": False})
    assert footprint(bayer).live == live + 1
    record.write_bytes(record.read_bytes()[:-1])
    assert footprint(bayer).live == live


def test_a_network_that_passed_the_check_before_passes_without_it(bayer: Artifact, tmp_path: Path) -> None:
    """Shown by a network that would not pass."""
    manifest = dataclasses.replace(bayer.manifest, input=tiny.XTRANS, golden=None)
    other = write_artifact(tmp_path / "other", manifest, {"model.onnx": bayer.read("model.onnx")})
    with pytest.raises(IntegrityError):
        load_checked_model(other)
    assert cached("checked") == []
    subject = {
        "model": other.manifest.files["model.onnx"].sha256,
        "input": dataclasses.asdict(manifest.input),
        "output": dataclasses.asdict(manifest.output),
        "extra_outputs": {},
    }
    cache = ResultCache("checked", subject, Path(check.__file__))
    cache.write(b"not passed")
    with pytest.raises(IntegrityError):
        load_checked_model(other)
    cache.write(b"passed")
    assert load_checked_model(other) == bayer.read("model.onnx")
