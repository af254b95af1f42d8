"""Put what `zoo train` or `zoo apply` wrote among the shipped checkpoints, with notes for its card.

    python docs/benchmarks/checkpoints/ship.py FOLDER checkpoints/ID [--note TEXT ...] [--photos-free] [--runner-only]
        [--data DATA]

`--photos-free` notes whose photographs those are; `--runner-only` leaves model.safetensors out. `python -m zoo.registry
checkpoints/ID ID SUMMARY` prints the entry for registry.toml.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from zoo.artifacts import open_artifact

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shipping import PHOTOS_FREE, measure_again, ship


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--note", action="append", default=[])
    parser.add_argument("--photos-free", action="store_true")
    parser.add_argument("--runner-only", action="store_true")
    parser.add_argument("--data", help="measure the quality again on this data, which no training saw")
    arguments = parser.parse_args()
    metrics = open_artifact(arguments.folder).metrics()
    notes = [*arguments.note, *([f"Trained on {PHOTOS_FREE}"] if arguments.photos_free else [])]
    metrics |= {"notes": [*notes, *metrics["notes"]]}
    if arguments.data:
        measure_again(arguments.folder, metrics, arguments.out.name, arguments.data)
    ship(arguments.folder, arguments.out, metrics, weights=not arguments.runner_only)


if __name__ == "__main__":
    main()
