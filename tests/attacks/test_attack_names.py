"""File names made to reach out of their folder, or to be taken for others, are refused wherever names come from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from support import tiny
from zoo.artifacts import Artifact, FileEntry, open_artifact, write_artifact
from zoo.artifacts.manifest import parse_manifest
from zoo.download import pull
from zoo.errors import IntegrityError, ZooError
from zoo.registry import parse_registry
from zoo.storage.atomic import write_bytes_atomic
from zoo.storage.safe_names import unsafe_name

NAMES = {
    "parent": "../evil",
    "parent within": "a/../../evil",
    "hidden parent": "a/./../../evil",
    "parent with backslashes": "..\\..\\evil",
    "only dots": "..",
    "itself": ".",
    "absolute": "/tmp/evil",
    "two slashes": "//evil",
    "drive": "C:\\evil",
    "drive, relative": "C:evil",
    "share": "\\\\server\\share\\evil",
    "stream": "model.onnx:evil",
    "null": "model.onnx\0.txt",
    "line feed": "evil\nname",
    "escape": "\x1b[2Jevil",
    "right to left": "evil\u202excod.exe",
    "zero width": "model\u200b.onnx",
    "line separator": "evil\u2028",
    "half of a pair": "evil\ud800",
    "device": "CON",
    "device with suffix": "nul.onnx",
    "device in a folder": "a/COM1/b",
    "trailing dot": "model.onnx.",
    "trailing space": "model.onnx ",
    "leading space": " model.onnx",
    "no name": "",
    "empty part": "a//b",
    "trailing slash": "a/",
    "300 characters": "x" * 300,
    "300 characters in parts": "/".join(["x" * 20] * 15),
    "300 bytes": "\u00e9" * 150,
    "wildcard": "*.onnx",
    "pipe": "a|b",
}
CLASHES = {
    "case": ("model.onnx", "Model.ONNX"),
    "composed and decomposed": ("\u00e9.txt", "e\u0301.txt"),
    "sharp s": ("stra\u00dfe", "STRASSE"),
    "kelvin sign": ("k", "\u212a"),
    "a file and a folder": ("model.onnx", "model.onnx/evil"),
    "a folder in another case": ("a/b", "A/b"),
    "the manifest": ("zoo.json", "zoo.json"),
    "the manifest in another case": ("model.onnx", "ZOO.json"),
    "inside the manifest": ("model.onnx", "zoo.json/evil"),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    contents = {"model.onnx": tiny.small_unet()}
    return write_artifact(tmp_path_factory.mktemp("good") / "a", tiny.manifest(golden=None), contents)


def manifest_with(good: Artifact, *names: str) -> bytes:
    content = json.loads((good.path / "zoo.json").read_text())
    content["files"] = dict.fromkeys(names, content["files"]["model.onnx"])
    return json.dumps(content).encode()


def registry_with(*names: str) -> bytes:
    files = "\n".join(f'{json.dumps(name)} = {{ sha256 = "{"0" * 64}", size = 1 }}' for name in names)
    text = (
        f'format = 1\n[checkpoint.evil]\nsummary = "s"\narchitecture = "unet"\nrecipe = ""\n'
        f'fingerprint = "{tiny.FINGERPRINT}"\nsources = ["package"]\n[checkpoint.evil.files]\n{files}\n'
    )
    return text.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_that_reaches_out_is_refused_in_manifest_and_registry(good: Artifact, name: str) -> None:
    assert unsafe_name(name)
    with pytest.raises(IntegrityError):
        parse_manifest(manifest_with(good, "model.onnx", name), "zoo.json")
    with pytest.raises(IntegrityError):
        parse_registry(registry_with("zoo.json", name), "registry.toml")


@pytest.mark.parametrize("names", CLASHES.values(), ids=CLASHES)
def test_names_that_some_systems_take_for_one_are_refused(good: Artifact, names: tuple[str, str]) -> None:
    with pytest.raises(IntegrityError):
        parse_manifest(manifest_with(good, *names), "zoo.json")


def test_ordinary_names_are_taken(good: Artifact) -> None:
    for name in (
        "model.onnx",
        "a/b/c.txt",
        ".eval_results/x.yaml",
        "b\u00e4r.png",
        "x" * 200,
        "a b",
        "console",
    ):
        assert unsafe_name(name) is None
    assert parse_manifest(manifest_with(good, "model.onnx", "a/b", "a/c", "\u00e9.txt"), "zoo.json").files


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_no_artifact_is_written_with_such_a_name(good: Artifact, tmp_path: Path, name: str) -> None:
    (tmp_path / "inside").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ZooError):
        write_artifact(tmp_path / "inside" / "a", good.manifest, {name: b"evil"})
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["../evil", "/tmp/zoo-evil", "a/../../evil"])
def test_nothing_is_pulled_to_outside_the_target(good: Artifact, tmp_path: Path, name: str) -> None:
    """A publisher whose folder really holds the file; the manifest of the folder is what an unpinned pull believes."""
    source = tmp_path / "from" / "source"
    source.mkdir(parents=True)
    (tmp_path / "from" / "evil").write_bytes(b"evil")
    (source / "zoo.json").write_bytes(manifest_with(good, "model.onnx", name))
    registry = registry_with("zoo.json", "model.onnx").decode().replace('["package"]', f'["file:{source}"]')
    known = parse_registry(registry.encode(), "registry.toml")
    entries = {
        "zoo.json": FileEntry(sha((source / "zoo.json").read_bytes()), (source / "zoo.json").stat().st_size),
        name: FileEntry(sha(b"evil"), 4),
    }
    forged = {"evil": dataclasses.replace(known["evil"], files=entries)}
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ZooError):
        pull("evil", tmp_path / "to" / "target", known=forged)
    left = set(tmp_path.rglob("*")) - set(before)
    assert not [path for path in left if path.is_file()]
    assert not Path("/tmp/zoo-evil").exists()


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# ---------------------------------------------------------------------------------------------------- links


def replaced(folder: Path, make: Any) -> None:
    (folder / "model.onnx").rename(folder.parent / "elsewhere.onnx")
    make(folder.parent / "elsewhere.onnx", folder / "model.onnx")


@pytest.fixture
def artifact(good: Artifact, tmp_path: Path) -> Path:
    described = dataclasses.replace(good.manifest, files={})
    return write_artifact(tmp_path / "a", described, {"model.onnx": good.read("model.onnx")}).path


@pytest.mark.parametrize("target", ["../elsewhere.onnx", "/etc/passwd", "model.onnx", "missing"])
def test_a_symbolic_link_in_an_artifact_is_refused_wherever_it_leads(artifact: Path, target: str) -> None:
    replaced(artifact, lambda old, new: new.symlink_to(target))
    with pytest.raises(IntegrityError, match="symbolic link"):
        open_artifact(artifact)


def test_a_link_that_takes_a_files_place_after_opening_is_not_followed(artifact: Path) -> None:
    opened = open_artifact(artifact)
    replaced(artifact, lambda old, new: new.symlink_to(old))
    for read in (opened.verify, lambda: opened.read("model.onnx")):
        with pytest.raises(ZooError, match="symbolic link"):
            read()


def test_a_linked_folder_in_an_artifact_is_refused(artifact: Path) -> None:
    (artifact / "more").symlink_to("/etc")
    with pytest.raises(IntegrityError, match="symbolic link"):
        open_artifact(artifact)


def test_a_hard_link_to_another_file_is_not_the_file_that_the_manifest_lists(artifact: Path) -> None:
    secret = artifact.parent / "secret"
    secret.write_bytes(b"secret")
    (artifact / "model.onnx").unlink()
    os.link(secret, artifact / "model.onnx")
    with pytest.raises(IntegrityError, match=r"than the .* bytes its manifest lists"):
        open_artifact(artifact).read("model.onnx")


def test_writing_in_the_place_of_a_link_leaves_what_it_leads_to_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    os.link(precious, tmp_path / "hard")
    (tmp_path / "soft").symlink_to("precious")
    for name in ("hard", "soft"):
        write_bytes_atomic(tmp_path / name, b"new")
        assert (tmp_path / name).read_bytes() == b"new"
        assert not (tmp_path / name).is_symlink()
    assert precious.read_bytes() == b"precious"


@pytest.mark.parametrize("what", ["pipe", "socket"])
def test_what_is_no_regular_file_is_refused_without_waiting_for_it(artifact: Path, what: str) -> None:
    (artifact / "model.onnx").unlink()
    if what == "pipe":
        os.mkfifo(artifact / "model.onnx")
    else:
        socket.socket(socket.AF_UNIX).bind(os.path.relpath(artifact / "model.onnx"))
    with pytest.raises(IntegrityError, match="a device or a pipe"):
        open_artifact(artifact)


@pytest.mark.parametrize("surplus", ["extra", "extra/deeper", "sample"])
def test_a_folder_that_the_manifest_does_not_need_is_refused(tmp_path: Path, surplus: str) -> None:
    made = tiny.bayer_artifact(tmp_path / "made")
    (made.path / surplus).mkdir(parents=True)
    with pytest.raises(IntegrityError, match="does not belong to the artifact"):
        open_artifact(made.path)
