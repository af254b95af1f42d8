"""Put what `zoo train` or `zoo apply` wrote among the shipped checkpoints: its training data, and comparable figures.

    python docs/benchmarks/flagship/ship.py FOLDER checkpoints/ID --steps 4000 --hours 1.4

PSNR and SSIM become those on the photographs and exposures that the other checkpoints were measured on, which no
training saw.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from zoo.artifacts import open_artifact

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shipping import PHOTOS_FREE, measure_again, ship

DATA = "darkroom(photos=[photos])"
TRAINED_ON_TOO = ["flower", "mate-twowings", "plasma-eveningglow"]
NOTES = [
    "Trained by docs/benchmarks/flagship/train.py on the packaged photographs of the splits train and val, and on "
    f"those of {PHOTOS_FREE}",
    "It can be trained further: training ended when the time did, not when it ceased to help.",
    "For RAW files of any Bayer camera, correctly exposed to 300 times too dark: docs/benchmarks/flagship.",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--hours", type=float, required=True)
    parser.add_argument("--rates", default="1e-3, by a cosine to 0")
    arguments = parser.parse_args()
    name = arguments.out.name
    artifact = open_artifact(arguments.folder)
    metrics = artifact.metrics()
    measure_again(arguments.folder, metrics, name, DATA)
    if not artifact.manifest.recipe:
        for figure in metrics["figures"]:
            figure["before"] = None
    training = metrics["training"]
    seen = "trained_on" if "trained_on" in training else "calibrated_on"
    training[seen] = sorted({*training[seen], *TRAINED_ON_TOO})
    if not artifact.manifest.recipe:
        training |= {
            "steps": [arguments.steps], "hours": [arguments.hours], "batch": "8, then 4, then 2",
            "crop": "64, then 96, then 128", "learning_rate": arguments.rates, "precision": ["bfloat16"],
            "starting_weights": "random", "starting_weights_sha256": None,
        }  # fmt: skip
        metrics["command"] = (
            f"python docs/benchmarks/flagship/train.py --architecture {artifact.manifest.architecture} "
            f"--photos photos-free --minutes {60 * arguments.hours:.0f} --state state"
        )
    ship(arguments.folder, arguments.out, metrics | {"notes": [*NOTES, *metrics["notes"]]})


if __name__ == "__main__":
    main()
