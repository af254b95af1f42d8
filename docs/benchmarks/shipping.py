"""Write an artifact among the shipped checkpoints, under its name there, with notes on what it was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zoo.artifacts import open_artifact, write_artifact
from zoo.artifacts.card import card_text
from zoo.artifacts.manifest import MANIFEST_NAME
from zoo.contracts import SilentReporter
from zoo.evaluation.evaluator import evaluate_artifact

PHOTOS_FREE = (
    "photos-free: photographs of Debian's packages of desktop backgrounds, scaled down. lomiri-*: CC BY 4.0, CC BY-SA "
    "4.0 or CC0, by Aitzol Berasategi, Sander Klootwijk, Bolly, Lukas Baubkus, freespace and Jakkub Mede; mate-* and "
    "plasma-*: GPL-2+."
)


def measure_again(folder: Path, metrics: dict[str, Any], name: str, data: str) -> None:
    """Put the quality on other data that no training saw into `metrics`, under the name to be shipped."""
    quality = evaluate_artifact(str(folder), reporter=SilentReporter(), data=data).quality
    how = f"mean over {quality.images} images that no training saw: zoo eval {name} --data '{data}'"
    for figure in metrics["figures"]:
        if figure["key"] in quality.values:
            figure |= {"before": None, "after": round(quality.values[figure["key"]], 4), "how": how}
    metrics["training"]["evaluated_on"] = [score.scene for score in quality.scores]


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
    command = metrics["command"]
    if not weights and command.startswith("zoo ") and "--runner-only" not in command:
        metrics = metrics | {"command": f"{command} --runner-only"}
    contents["metrics.json"] = (json.dumps(metrics, indent=1) + "\n").encode()
    contents["README.md"] = card_text(out.name, artifact.manifest, metrics).encode()
    write_artifact(out, artifact.manifest, contents)
