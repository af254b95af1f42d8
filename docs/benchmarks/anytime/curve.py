"""The accuracy of a network with early exits against what it computes, for any threshold.

    python docs/benchmarks/anytime/curve.py ARTIFACT --data 'folder(root=DIR)' [--name NAME] [--write]

The answers of each exit to all test images are found by running the exported file with every other exit closed. From
them follows what any threshold would do: which images leave where, with which accuracy, and how many multiplications
an image takes on average. --write puts the table into the README in this folder and the curve into
docs/images/anytime.svg; with --name deep into the tables of that name and docs/images/deep-anytime.svg.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import onnx
from onnx import numpy_helper
from zoo import plugins
from zoo.artifacts.artifact import Artifact, open_artifact
from zoo.cost import onnx_cost
from zoo.data.choose import choose_dataset
from zoo.evaluation.evaluator import deployed_architecture

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "images"))

from charts import FAINT, GRID, svg, text
from marked import put_table

_DOCS = Path(__file__).resolve().parents[2]
#: What no entropy is below, and what all are below.
CLOSED, OPEN = -1.0, 1e9
ENTROPIES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.3, 1.7)


def graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """Return a graph and all graphs inside it."""
    inner = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return [graph, *(each for part in inner for each in graphs(part))]


def with_entropies(data: bytes, entropies: Sequence[float]) -> bytes:
    """Return a file with other thresholds, one for each exit."""
    model = onnx.load_from_string(data)
    for part in graphs(model.graph):
        for tensor in part.initializer:
            prefix, _, name = tensor.name.partition(".")
            if name == "entropy":
                value = np.array([entropies[int(prefix.removeprefix("decision_")) - 1]], np.float32)
                tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return model.SerializeToString()


def exits_of(data: bytes) -> int:
    """Return how many exits a file has."""
    tensors = [tensor for part in graphs(onnx.load_from_string(data).graph) for tensor in part.initializer]
    return sum(tensor.name.startswith("decision_") and tensor.name.endswith(".entropy") for tensor in tensors)


def answers(data: bytes, exits: int, images: np.ndarray) -> list[np.ndarray]:
    """Return the logits (N, classes) of each exit, and of the end, for all images."""
    found = []
    for number in range(exits + 1):
        only = [OPEN if each == number else CLOSED for each in range(exits)]
        session = plugins.engine("onnxruntime").open(with_entropies(data, only), threads=1)
        found.append(np.concatenate([session.run(part) for part in np.array_split(images, 20)]))
    return found


def multiplications(data: bytes, exits: int, shape: tuple[int, ...]) -> list[int]:
    """Return the multiplications up to each exit, those of the exits passed included, and in all."""
    total, found = 0, []
    for layer in onnx_cost(data, shape).layers:
        total += layer.macs
        if layer.name in [f"exit_{number}.classifier" for number in range(1, exits + 1)]:
            found.append(total)
    return [*found, total]


def entropy_of(logits: np.ndarray) -> np.ndarray:
    """Return the entropy of the classes in nats, (N,)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    shares = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    return -(shares * np.log(np.maximum(shares, 1e-300))).sum(axis=1)


def images_of_test(artifact: Artifact, data: str, most: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the test images (N, C, H, W) of a dataset for a network, and their labels (N,); 0 for all of them."""
    network = deployed_architecture(artifact)
    _, dataset = choose_dataset(data, (), network)
    samples = list(dataset.frames(network, "test"))
    if most and most < len(samples):
        samples = [samples[place] for place in np.random.default_rng(0).permutation(len(samples))[:most]]
    return np.stack([each.inputs for each in samples]), np.array([int(each.target) for each in samples])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument(
        "--original", type=int, default=0, help="multiplications of the network before the recipe"
    )
    parser.add_argument(
        "--name", default="", help="of the tables and the picture, where they are not the first"
    )
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    artifact = open_artifact(options.artifact)
    images, labels = images_of_test(artifact, options.data)
    data = artifact.read("model.onnx")
    exits = exits_of(data)
    logits, macs = answers(data, exits, images), multiplications(data, exits, (1, *images.shape[1:]))
    right = [each.argmax(axis=1) == labels for each in logits]
    entropies = [entropy_of(each) for each in logits]
    lines = [
        "| entropy below | leave at "
        + " | at ".join(str(number) for number in range(1, exits + 1))
        + " | reach the end | top-1 | M MACs per image | less than without exits |",
        "|---:|" + "---:|" * (exits + 4),
    ]
    whole, curve = options.original or macs[-1], []
    for limit in ENTROPIES:
        left = np.full(len(labels), exits)
        for number in reversed(range(exits)):
            left[entropies[number] < limit] = number
        accuracy = float(np.mean([right[at][image] for image, at in enumerate(left)]))
        mean = float(np.mean([macs[at] for at in left]))
        curve.append((mean / whole, accuracy))
        shares = " | ".join(f"{np.mean(left == number):.1%}" for number in range(exits + 1))
        lines.append(f"| {limit:g} | {shares} | {accuracy:.2%} | {mean / 1e6:.1f} | {whole / mean:.2f}x |")
    table = "\n".join(lines)
    alone = ", ".join(
        f"{np.mean(each):.2%} at {cost / 1e6:.1f} M" for each, cost in zip(right, macs, strict=True)
    )
    print(table)
    print(f"Every image at one exit: {alone}")
    if options.write:
        page, name = Path(__file__).with_name("README.md"), options.name and f"{options.name}-"
        put_table(page, f"{name}curve", table)
        put_table(page, f"{name}alone", f"Every image at one exit: {alone}.\n")
        (_DOCS / "images" / f"{name}anytime.svg").write_text(drawn(curve))


def drawn(curve: list[tuple[float, float]]) -> str:
    """Return the curve of (share of multiplications, accuracy) as a document."""
    width, height, left, top, right, bottom = 640, 320, 60, 24, 616, 270
    low, high = min(y for _, y in curve) - 0.01, max(y for _, y in curve) + 0.01

    def at(x: float, y: float) -> tuple[float, float]:
        return left + (right - left) * x / 1.1, bottom - (bottom - top) * (y - low) / (high - low)

    parts = []
    for percent in range(int(100 * low) + 1, int(100 * high) + 1, 2):
        _, y = at(0, percent / 100)
        parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="{GRID}"/>')
        parts.append(text(left - 8, y + 4, f"{percent} %", 12, FAINT, ' text-anchor="end"'))
    for percent in range(0, 101, 20):
        x, _ = at(percent / 100, low)
        parts.append(text(x, bottom + 20, f"{percent} %", 12, FAINT, ' text-anchor="middle"'))
    points = [at(*each) for each in curve]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    parts.append(f'<path d="M{path}" fill="none" stroke="#2563eb" stroke-width="2"/>')
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="#2563eb"/>' for x, y in points]
    parts.append(
        text((left + right) / 2, height - 10, "multiplications per image, of the network without exits", 12, FAINT,
             ' text-anchor="middle"')
    )  # fmt: skip
    return svg(width, height, parts, "Accuracy against multiplications, one point for each threshold")


if __name__ == "__main__":
    main()
