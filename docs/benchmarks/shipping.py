"""Write an artifact among the shipped checkpoints, under its name there, with notes on what it was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zoo.artifacts import open_artifact, write_artifact
from zoo.artifacts.card import card_text
from zoo.artifacts.manifest import MANIFEST_NAME

PHOTOS_FREE = (
    "photos-free: photographs of Debian's packages of desktop backgrounds, scaled down. lomiri-*: CC BY 4.0, CC BY-SA "
    "4.0 or CC0, by Aitzol Berasategi, Sander Klootwijk, Bolly, Lukas Baubkus, freespace and Jakkub Mede; mate-* and "
    "plasma-*: GPL-2+."
)


def ship(folder: Path, out: Path, metrics: dict[str, Any], *, weights: bool = True) -> None:
    """Copy the artifact in `folder` to `out`, with these metrics, a card of that name and, if wanted, the weights.

    A float network's weights can be read back from model.onnx.

    Raises:
        ZooError: The artifact is damaged, or `out` is taken.
    """
    artifact = open_artifact(folder)
    contents = {
        file: (folder / file).read_bytes()
        for file in artifact.manifest.files
        if file
        not in ("README.md", "metrics.json", MANIFEST_NAME, *(() if weights else ("model.safetensors",)))
    }
    if not weights and metrics["command"].startswith("zoo "):
        metrics = metrics | {"command": f"{metrics['command']} --runner-only"}
    contents["metrics.json"] = (json.dumps(metrics, indent=1) + "\n").encode()
    contents["README.md"] = card_text(out.name, artifact.manifest, metrics).encode()
    write_artifact(out, artifact.manifest, contents)
