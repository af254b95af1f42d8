"""Observers of post-training quantization compared on the shipped networks.

    python docs/benchmarks/observers/compare.py [--photos DIR] [--net unet ...] [--images N] [--write]

Each way to quantize is applied as `zoo apply 'ptq(...)' NET` does it (32 calibration crops of 128 x 128), exported,
and run by ONNX Runtime through the runner's tiles on the test images of darkroom. Two figures are taken: PSNR of the
picture against the photograph, and PSNR against the picture that the float file makes, which tells how much was
changed at all. --write puts the tables into the README beside this script.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from zoo import plugins
from zoo.contracts import Architecture, Context, Sample
from zoo.data.calibration import CALIBRATION_BATCHES, calibration_crops
from zoo.data.darkroom import Darkroom, DarkroomConfig
from zoo.evaluation.predict import make_predictor
from zoo.export.exporter import export_onnx
from zoo.images.decibels import psnr
from zoo.training.weights import load_start

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from marked import put_table

OBSERVERS = ("auto", "minmax", "moving-average", "percentile", "entropy", "mse")
#: heads of the columns, and the options they stand for
COLUMNS = {
    "per channel": {"bias_correction": "false"},
    "per channel, corrected": {},
    "per tensor": {"per_channel": "false", "bias_correction": "false"},
    "per tensor, corrected": {"per_channel": "false"},
    "6 bits, per channel, corrected": {"bits": "6"},
}
BATCH, SIDE = 4, 128


@dataclass(frozen=True)
class Scores:
    """Means over images, in dB: against the photographs, and against the float file's images."""

    quality: float
    fidelity: float


class Bench:
    """One network with its test images and what its float file makes of them."""

    def __init__(self, name: str, dataset: Darkroom, images: int | None) -> None:
        self.architecture: Architecture = plugins.architecture(name)
        self.net = self.architecture.build().eval()
        load_start(self.net, self.architecture, name)
        frames = dataset.frames(self.architecture, "test")
        self.frames: list[Sample] = [frame for _, frame in zip(range(images or 99), frames, strict=False)]
        crops = list(calibration_crops(dataset, self.architecture, SIDE, 0, CALIBRATION_BATCHES * BATCH))
        inputs = [
            torch.from_numpy(np.stack([c.inputs for c in crops[k : k + BATCH]]))
            for k in range(0, len(crops), BATCH)
        ]
        self.context = Context(self.architecture, inputs[0][:1], calibration=lambda: iter(inputs))
        self.float_pictures = list(self.pictures(export_onnx(self.net, self.architecture)))

    def pictures(self, data: bytes) -> Iterator[np.ndarray]:
        predict = make_predictor(plugins.engine("onnxruntime").open(data), self.architecture)
        for frame in self.frames:
            yield predict(frame.inputs)

    def score(self, pictures: list[np.ndarray]) -> Scores:
        quality, fidelity = [], []
        for frame, picture, reference in zip(self.frames, pictures, self.float_pictures, strict=True):
            height, width = frame.target.shape[1:]
            quality.append(
                psnr(float(np.mean((picture[:, :height, :width] - frame.target) ** 2, dtype=np.float64)))
            )
            fidelity.append(psnr(float(np.mean((picture - reference) ** 2, dtype=np.float64))))
        return Scores(float(np.mean(quality)), float(np.mean(fidelity)))

    def quantized(self, options: dict[str, str]) -> Scores:
        technique = plugins.technique("ptq", options)
        net = technique.rewrite(copy.deepcopy(self.net), self.context)
        net = technique.finish(net.eval(), self.context)
        return self.score(list(self.pictures(export_onnx(net, self.architecture))))


def tables(name: str, dataset: Darkroom, images: int | None) -> str:
    """The two tables of a network, in Markdown."""
    started = time.monotonic()
    bench = Bench(name, dataset, images)
    scores = {}
    for observer in OBSERVERS:
        for head, options in COLUMNS.items():
            scores[observer, head] = bench.quantized({"observer": observer, **options})
            print(
                name,
                observer,
                head,
                scores[observer, head],
                f"{time.monotonic() - started:.0f} s",
                flush=True,
            )
    for head in ("per channel", "per channel, corrected", "per tensor", "per tensor, corrected"):
        scores["dynamic", head] = bench.quantized({"mode": "dynamic", **COLUMNS[head]})
        print(
            name, "dynamic", head, scores["dynamic", head], f"{time.monotonic() - started:.0f} s", flush=True
        )
    exact = bench.score(bench.float_pictures)
    parts = [f"## `{name}`", f"{len(bench.frames)} test images; the float file: {exact.quality:.2f} dB."]
    for title, figure in (
        ("PSNR against the photographs, dB", "quality"),
        ("PSNR against the float file's images, dB", "fidelity"),
    ):
        lines = [f"| {title} | " + " | ".join(COLUMNS) + " |", "|---" + "|---:" * len(COLUMNS) + "|"]
        for row in (*OBSERVERS, "dynamic"):
            cells = [
                f"{getattr(scores[row, head], figure):.2f}" if (row, head) in scores else ""
                for head in COLUMNS
            ]
            lines.append(f"| `{row}` | " + " | ".join(cells) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", action="append", default=[])
    parser.add_argument("--net", action="append")
    parser.add_argument("--images", type=int)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    dataset = Darkroom(DarkroomConfig(photos=tuple(arguments.photos)))
    nets = arguments.net or ["unet", "lighter-unet"]
    found = "\n\n".join(tables(name, dataset, arguments.images) for name in nets)
    print(found)
    if arguments.write:
        put_table(Path(__file__).with_name("README.md"), "observers", found)


if __name__ == "__main__":
    main()
