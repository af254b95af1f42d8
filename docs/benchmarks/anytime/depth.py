"""The accuracy of a network with adaptive depth against the share of its blocks that images need.

    python docs/benchmarks/anytime/depth.py ARTIFACT NAME --data 'folder(root=DIR)' [--images 1000] [--write]

Each test image is run by itself, in the exported file, whose branches say which blocks were executed. That is repeated
with lower thresholds: positions then halt earlier, without another training. --write puts the table into the README in
this folder, where the mark NAME is.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import onnxruntime

import onnx
from onnx import TensorProto, helper, numpy_helper
from zoo.artifacts.artifact import open_artifact

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from curve import graphs, images_of_test
from marked import put_table

THRESHOLDS = (0.9, 0.5, 0.4, 0.3, 0.2, 0.1)
#: A branch with so many convolutions holds a block; what decides on the next one has at most two, of one channel.
_BLOCK = 2


def observed(data: bytes, threshold: float) -> tuple[onnxruntime.InferenceSession, int]:
    """Return a session of a file with another threshold, whose further outputs say whether each block is skipped."""
    model = onnx.load_from_string(data)
    for part in graphs(model.graph):
        for tensor in part.initializer:
            if tensor.name.endswith(".least"):
                tensor.CopyFrom(numpy_helper.from_array(np.array([1 - threshold], np.float32), tensor.name))
    blocks = [node.input[0] for node in model.graph.node if node.op_type == "If" and holds_block(node)]
    for name in blocks:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.BOOL, []))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session, len(blocks)


def holds_block(node: onnx.NodeProto) -> bool:
    """Return whether a branch of an If computes a block, and not a score."""
    layers = [each for attribute in node.attribute for each in attribute.g.node if each.op_type == "Conv"]
    return len(layers) >= _BLOCK and not any(each.name.startswith("halting_") for each in layers)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("artifact", type=Path)
    parser.add_argument("name")
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    artifact = open_artifact(options.artifact)
    images, labels = images_of_test(artifact, options.data, options.images)
    data = artifact.read("model.onnx")
    rows = []
    for threshold in THRESHOLDS:
        session, blocks = observed(data, threshold)
        right, run = 0, np.zeros(blocks)
        for image, label in zip(images, labels, strict=True):
            logits, *skipped = session.run(None, {"input": image[None]})
            right += int(logits.argmax() == label)
            run += ~np.array(skipped)
        shares = " ".join(f"{100 * each / len(images):.0f}" for each in run)
        rows.append(
            f"| {threshold:g} | {right / len(images):.2%} | {run.mean() / len(images):.1%} | {shares} |"
        )
    head = [
        "| threshold | top-1 | blocks run | of each block, in per cent of the images |",
        "|---:|---:|---:|---|",
    ]
    table = "\n".join(head + rows)
    print(table)
    if options.write:
        put_table(Path(__file__).with_name("README.md"), options.name, table)


if __name__ == "__main__":
    main()
