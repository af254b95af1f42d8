"""Pipes, devices, sockets and links that go round in circles, where a file is expected: nothing waits for them."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zoo.architectures.module_file import ModuleArchitecture
from zoo.artifacts import open_artifact
from zoo.checkpoints.foreign_files import artifact_of_file
from zoo.data.box_labels import read_coco, read_yolo
from zoo.data.label_files import read_labels
from zoo.data.picture_files import _checked
from zoo.download.named_registry import load_registries
from zoo.errors import ZooError
from zoo.images.pixels import image_size, read_pixels
from zoo.raw.decode import decode
from zoo.recipes.recipe_toml import read as read_recipe
from zoo.storage.array_files import open_arrays
from zoo.storage.atomic import read_text
from zoo.survey.survey_key import read_key
from zoo.training.weight_files import read_weight_file

#: What reads files that a user names, or that lie in a folder that one names; and how they are called.
READERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "artifact": (open_artifact, ""),
    "RAW file": (decode, ".dng"),
    "picture": (read_pixels, ".png"),
    "size of a picture": (image_size, ".jpg"),
    "picture of a folder": (lambda path: _checked(path, decode=True), ".png"),
    "recipe": (read_recipe, ".toml"),
    "registry": (lambda path: load_registries(str(path)), ".toml"),
    "weights": (read_weight_file, ".safetensors"),
    "pickled weights": (read_weight_file, ".pth"),
    "arrays": (open_arrays, ".npz"),
    "table of labels": (read_labels, ".csv"),
    "boxes of COCO": (read_coco, ".json"),
    "boxes of YOLO": (lambda path: read_yolo(path, (10, 10)), ".txt"),
    "list": (read_text, ".txt"),
    "survey": (read_key, ""),
    "network": (lambda path: artifact_of_file(str(path)) or read_text(path), ".onnx"),
    "program": (lambda path: ModuleArchitecture(f"{path}:factory"), ".py"),
}
KINDS = ("pipe", "device", "socket", "circle", "folder", "nothing")


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    def strike(*_: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, strike)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def make(kind: str, path: Path) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            here = os.getcwd()
            os.chdir(path.parent)  # such a name must be short
            listener.bind(path.name)
            os.chdir(here)
    elif kind == "circle":
        path.symlink_to(path.name)
    elif kind == "folder":
        path.mkdir()


@pytest.mark.parametrize("reader", READERS)
def test_whatever_lies_where_a_file_is_expected_is_an_error_that_names_it(
    tmp_path: Path, reader: str
) -> None:
    read, suffix = READERS[reader]
    for kind in KINDS:
        path = tmp_path / f"odd-{kind}{suffix}"
        make(kind, path)
        with pytest.raises(ZooError, match=f"odd-{kind}|/dev/zero"):
            read(path)


@pytest.mark.parametrize("name", ["zoo.json", "model.onnx"])
@pytest.mark.parametrize("kind", ["pipe", "device", "circle", "folder"])
def test_whatever_lies_in_an_artifact_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    from support import tiny

    made = tiny.bayer_artifact(tmp_path / "made").path
    os.unlink(made / name)
    make(kind, made / name)
    with pytest.raises(ZooError, match=name):
        open_artifact(made).verify()
