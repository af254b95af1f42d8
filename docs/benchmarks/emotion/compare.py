"""The networks of zoo-emotion compared: trained for as many steps on drawn faces, in float and in int8.

    python docs/benchmarks/emotion/compare.py [--steps N] [--out DIR] [--write]

Each network is trained from random weights and quantized by ptq; both files are measured on the clips that are held
out. --write puts the table into the README in this folder. Needs zoo-emotion.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import zoo
from zoo import plugins
from zoo.artifacts.artifact import open_artifact
from zoo.contracts.random_inputs import random_inputs
from zoo.data.choose import open_dataset
from zoo.onnx.check import load_checked_model
from zoo.runner.timing import measure_latency
from zoo.tasks.scorers import wilson_interval

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from marked import put_table

NETWORKS = ("emotion-cnn", "videonet:lstm", "videonet:attention")
DATA = "drawn-faces(clips=1000,strength={strength})"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--strength", type=float, default=0.5, help="of the expressions")
    parser.add_argument("--out", type=Path, default=Path("out/emotion"))
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    data = DATA.format(strength=options.strength)
    made: dict[str, tuple[str, str, Path]] = {}
    for name in NETWORKS:
        place = options.out / name.replace(":", "-")
        quantized = place.with_name(f"{place.name}-int8")
        if not (place / "zoo.json").exists():
            zoo.apply(
                name, None, data=data, steps=options.steps, batch=16, learning_rate=2e-3, out=place, threads=1
            )
        if not (quantized / "zoo.json").exists():
            zoo.apply(name, "ptq", weights=str(place), data=data, out=quantized, threads=1, max_loss=None)
        made |= {f"{name} float": (name, "float", place), f"{name} int8": (name, "int8", quantized)}
    lines = ["| network | | top-1 | bytes | ms |", "|---|---|---:|---:|---:|"]
    artifacts = {key: open_artifact(folder) for key, (_, _, folder) in made.items()}
    engine = plugins.engine("onnxruntime")
    sessions = {key: engine.open(load_checked_model(each), threads=1) for key, each in artifacts.items()}
    inputs = {key: random_inputs(each.manifest.input) for key, each in artifacts.items()}
    images = len(open_dataset(data)[1].scenes("test"))
    latencies = measure_latency(sessions, inputs, rounds=101)
    for key, (name, kind, folder) in made.items():
        found = {figure["key"]: figure["after"] for figure in artifacts[key].metrics["figures"]}["top1"]
        low, high = wilson_interval(found * images, images)
        size = (folder / "model.onnx").stat().st_size
        shown = f"{found:.1%} ({low:.1%} to {high:.1%})"
        lines.append(f"| `{name}` | {kind} | {shown} | {size:,} | {latencies[key].low:.2f} |")
    print("\n".join(lines))
    if options.write:
        put_table(Path(__file__).with_name("README.md"), "heads", "\n".join(lines))


if __name__ == "__main__":
    main()
