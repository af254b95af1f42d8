"""A small artifact with everything that a published one has, and what is where it was published."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from support import tiny
from support.loopback_hub import LoopbackHub
from zoo.artifacts import Artifact, write_artifact
from zoo.artifacts.figures import Figure
from zoo.artifacts.golden import GOLDEN_NAME, golden_bytes
from zoo.publishing.bundle import make_bundle
from zoo.publishing.destination import PublishRequest
from zoo.registry import Checkpoint

HOME = "tester/tiny-net"
METRICS: dict[str, Any] = {
    "baseline": "tiny",
    "figures": [
        Figure("file_mb", "model.onnx", "MB", 2.0, 1.0, "size of the file").to_json(),
        Figure("psnr_db", "PSNR", "dB", 27.5, 27.1, "zoo eval x --data darkroom").to_json(),
    ],
    "training": {"data": "darkroom", "starting_weights": "small"},
    "sample": "sample.png",
}


def artifact(target: Path, *, psnr: float = 27.1, without: tuple[str, ...] = ()) -> Artifact:
    """The artifact; another `psnr` gives another version."""
    model = tiny.small_unet()
    inputs = np.random.default_rng(2).random((1, 4, 32, 48), dtype=np.float32)
    figures = [METRICS["figures"][0], {**METRICS["figures"][1], "after": psnr}]
    picture = target.parent / "sample.png"
    Image.new("RGB", (8, 8)).save(picture)
    contents = {
        "model.onnx": model,
        GOLDEN_NAME: golden_bytes([(inputs, tiny.run(model, inputs))]),
        "metrics.json": json.dumps({**METRICS, "figures": figures}).encode(),
        "recipe.toml": b"# how\n",
        "sample.png": picture.read_bytes(),
        "README.md": b"# tiny\n",
    }
    kept = {name: content for name, content in contents.items() if name not in without}
    return write_artifact(target, tiny.manifest(), kept)


def expected(artifact: Artifact, request: PublishRequest) -> dict[str, bytes]:
    """What is to be found in the repository, by name."""
    files = make_bundle(artifact, request.publication(artifact, {})).files.values()
    return {
        file.name: file.source if isinstance(file.source, bytes) else file.source.read_bytes()
        for file in files
    }


def is_pinned(entry: Checkpoint, hub: LoopbackHub, commit: str) -> bool:
    """Whether a registry entry names the commit and exactly the bytes that are there."""
    there = hub.files(HOME, commit)
    return entry.sources[0] == f"hf:{HOME}@{commit}" and all(
        hashlib.sha256(there[name]).hexdigest() == file.sha256 and len(there[name]) == file.size
        for name, file in entry.files.items()
    )
