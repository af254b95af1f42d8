"""Pickles that would run code when opened: whatever is done with them, the canary is never created."""

from __future__ import annotations

import ast
import dataclasses
import io
import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import tiny
from support.dngs import dng, frame
from support.loopback_hub import LoopbackHub
from support.pulling import world
from zoo import plugins
from zoo.artifacts import Artifact, open_artifact, write_artifact
from zoo.artifacts.golden import GOLDEN_NAME, read_golden
from zoo.artifacts.safetensors_check import checked_tensors
from zoo.errors import IntegrityError, ZooError
from zoo_cli.main import main

ROOT = Path(__file__).parents[2]
#: What runs code when it is unpickled, or was written to be unpickled.
EXECUTING = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
NAMES = (
    "pytorch_model.bin",
    "weights.pt",
    "weights.pth",
    "checkpoint.pkl",
    "model.ckpt",
    "data.npy",
    "data.npz",
)


class Payload:
    """Unpickled, it makes the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = str(canary)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.canary,)


def pickled(canary: Path) -> bytes:
    return pickle.dumps(Payload(canary))


def in_zip(canary: Path) -> bytes:
    """As torch.save writes since 1.6."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(canary))
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def in_array(canary: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Payload(canary)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


FORMS = {"pickle": pickled, "torch": in_zip, "numpy": in_array}


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "own-cache"))
    path = tmp_path / "canary"
    yield path
    assert not path.exists()


@pytest.fixture
def shot(tmp_path: Path) -> Path:
    path = tmp_path / "shot.dng"
    path.write_bytes(dng(frame()))
    return path


def forged(artifact: Artifact, target: Path, **contents: bytes) -> Artifact:
    """The artifact with other or more files, and a manifest to match."""
    files = {name: artifact.read(name) for name in artifact.manifest.files}
    return write_artifact(target, artifact.manifest, {**files, **contents})


def test_the_payloads_of_these_tests_work(tmp_path: Path) -> None:
    pickle.loads(pickled(tmp_path / "a"))
    np.load(io.BytesIO(in_array(tmp_path / "b")), allow_pickle=True)
    archive = zipfile.ZipFile(io.BytesIO(in_zip(tmp_path / "c")))
    pickle.loads(archive.read("archive/data.pkl"))
    assert all((tmp_path / name).is_dir() for name in "abc")


@pytest.mark.parametrize("form", FORMS)
def test_a_pickle_beside_the_files_of_an_artifact_is_refused(
    tmp_path: Path, canary: Path, shot: Path, form: str
) -> None:
    artifact = tiny.bayer_artifact(tmp_path / "a")
    for name in NAMES:
        (artifact.path / name).write_bytes(FORMS[form](canary))
        with pytest.raises(IntegrityError, match="does not belong"):
            open_artifact(artifact.path)
        assert main(["run", str(artifact.path), str(shot), "-o", str(tmp_path / "out")]) == 4
        (artifact.path / name).unlink()


@pytest.mark.parametrize("form", FORMS)
def test_a_pickle_that_the_manifest_lists_is_carried_but_never_opened(
    tmp_path: Path, canary: Path, shot: Path, form: str, capfd: pytest.CaptureFixture[str]
) -> None:
    more = dict.fromkeys(NAMES, FORMS[form](canary))
    artifact = forged(tiny.bayer_artifact(tmp_path / "a"), tmp_path / "b", **more)
    assert main(["run", str(artifact.path), str(shot), "-o", str(tmp_path / "out")]) == 0
    assert main(["info", str(artifact.path)]) in (0, 2)
    capfd.readouterr()


@pytest.mark.parametrize("form", FORMS)
def test_a_pickle_in_the_place_of_a_file_of_an_artifact_is_refused(
    tmp_path: Path, canary: Path, shot: Path, form: str, capfd: pytest.CaptureFixture[str]
) -> None:
    good = tiny.bayer_artifact(tmp_path / "a")
    payload = FORMS[form](canary)
    for number, name in enumerate(("model.onnx", GOLDEN_NAME)):
        artifact = forged(good, tmp_path / str(number), **{name: payload})
        assert main(["run", str(artifact.path), str(shot), "-o", str(tmp_path / "out")]) == 4
        assert "Traceback" not in capfd.readouterr().err
    with pytest.raises(IntegrityError):
        read_golden(forged(good, tmp_path / "golden", **{GOLDEN_NAME: payload}))
    with pytest.raises(IntegrityError):
        checked_tensors(payload, "model.safetensors")


@pytest.mark.parametrize("form", FORMS)
def test_pickled_weights_are_not_loaded(
    tmp_path: Path, canary: Path, form: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """`zoo apply --weights` of a file, of a folder of such files, and of an artifact with them inside."""
    pytest.importorskip("torch")
    payload = FORMS[form](canary)
    (tmp_path / "folder").mkdir()
    for name in NAMES:
        (tmp_path / "folder" / name).write_bytes(payload)
    artifact = forged(tiny.bayer_artifact(tmp_path / "a"), tmp_path / "b", **{"model.safetensors": payload})
    for given, code in (
        (tmp_path / "folder" / "weights.pt", 5),
        (tmp_path / "folder", 5),
        (artifact.path, 4),
    ):
        arguments = [
            "depthwise",
            "unet",
            "--weights",
            str(given),
            "--out",
            str(tmp_path / "out"),
            "--steps",
            "1",
        ]
        assert main(["apply", *arguments]) == code
        assert "Traceback" not in capfd.readouterr().err


def test_pickles_in_a_hub_repository_are_not_fetched_and_those_that_are_listed_not_opened(
    tmp_path: Path,
    canary: Path,
    shot: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with LoopbackHub() as hub:
        listed = {"pytorch_model.bin": in_zip(canary), "model.safetensors": pickled(canary)}
        here = world(hub, tmp_path, monkeypatch, listed)
        commit = hub.commit(
            "tester/net", {"extra.pkl": pickled(canary), "modeling.py": b"import os\nos.abort()\n"}
        )
        pulled = here.pull(f"tester/net@{commit}", known={})
        assert sorted(path.name for path in pulled.path.glob("*model*")) == [
            "model.onnx", "model.safetensors", "pytorch_model.bin",
        ]  # fmt: skip
        assert not list(pulled.path.glob("*extra*"))
        assert hub.asked("*/resolve/*/extra.pkl") == []
        assert main(["run", str(pulled.path), str(shot), "-o", str(tmp_path / "out")]) == 0
    capfd.readouterr()


def test_no_part_of_zoo_can_unpickle() -> None:
    """Neither the modules that do nor the functions of others that would."""
    for folder in ("zoo", "techniques", "cli", "plugins"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
                    names = {module, *(alias.name for alias in node.names)}
                    # torch's reader of weights raises the error of this module, which is all that is taken of it
                    reads = path.name == "weight_files.py" and names == {"", "pickle"}
                    assert reads or not {name.partition(".")[0] for name in names} & EXECUTING, path
                if isinstance(node, ast.Call):
                    called = ast.unparse(node.func)
                    # what a user names by its path is the user's own program
                    own = called == "exec" and path.name == "python_file.py"
                    running = ("eval", "exec", "torch.load", "yaml.load", "yaml.unsafe_load")
                    safe = called == "torch.load" and "weights_only=True" in ast.unparse(node)
                    assert own or safe or called not in running, path
                    refused = ast.unparse(node).replace("allow_pickle=False", "")
                    assert not (called.endswith(".load") and "allow_pickle" in refused), path


# ---------------------------------------------------------------------------------- programs named by downloads


PROGRAM = (
    "import os\nfrom torch import nn\nos.mkdir({canary!r})\ndef make():\n    return nn.Conv2d(4, 12, 1)\n"
)


@pytest.mark.parametrize(
    "name", ["make_net.py", "a/b.PY", "lib.so", "lib.so.1", "setup.exe", "x.dll", "x.sh"]
)
def test_an_artifact_with_a_program_in_it_is_refused(tmp_path: Path, canary: Path, name: str) -> None:
    good = tiny.bayer_artifact(tmp_path / "a")
    with pytest.raises(IntegrityError, match="of a program"):
        forged(good, tmp_path / "b", **{name: PROGRAM.format(canary=str(canary)).encode()})


@pytest.mark.parametrize("name", ["module:{}:make", "module:make_net.py:make", "module:../../x.py:make@0"])
def test_an_artifact_that_names_a_program_as_its_architecture_is_refused(
    tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    program = tmp_path / "make_net.py"
    program.write_text(PROGRAM.format(canary=str(canary)))
    monkeypatch.chdir(tmp_path)
    good = tiny.bayer_artifact(tmp_path / "a")
    with pytest.raises(IntegrityError, match="architecture"):
        write_artifact(
            tmp_path / "b", dataclasses.replace(good.manifest, architecture=name.format(program)), {"a": b""}
        )
    named = dataclasses.replace(good.manifest, architecture="module:make_net.py:make@0123456789ab")
    artifact = write_artifact(tmp_path / "c", named, {name: good.read(name) for name in good.manifest.files})
    with pytest.raises(ZooError):
        plugins.architecture(open_artifact(artifact.path).manifest.architecture)
