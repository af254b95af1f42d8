"""Which data may serve a network is decided by its task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.contracts import Architecture, InputSpec, OutputSpec
from zoo.data.choose import choose_dataset
from zoo.errors import UsageError
from zoo.tasks.image_to_image import ImageToImageTask


class Sharpening(ImageToImageTask):
    id = "sharpening"


class Network(Architecture):
    id = "network"
    summary = "specs"
    input = InputSpec("rgb", 3)
    output = OutputSpec("rgb", 3, scale=2)


def test_a_task_may_name_others_whose_data_serves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abcdefgh":
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / f"{name}.png")
    network = Network()
    network.task = Sharpening()  # type: ignore[assignment]
    with pytest.raises(UsageError, match="the task of network is sharpening"):
        choose_dataset(f"pairs(target={tmp_path})", (), network)
    monkeypatch.setattr(Sharpening, "data_of", frozenset({"image-to-image"}))
    assert choose_dataset(f"pairs(target={tmp_path})", (), network)[1].id == "pairs"


def test_a_folder_alone_is_refused_with_the_datasets_that_it_may_be(tmp_path: Path) -> None:
    network = Network()
    network.task = "image-to-image"
    with pytest.raises(UsageError, match="is a folder") as caught:
        choose_dataset(str(tmp_path), (), network)
    assert f"'folder(root={tmp_path})'" in str(caught.value)
