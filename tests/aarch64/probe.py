"""What ONNX Runtime computes of a checkpoint's golden input: run by both architectures' Pythons, and compared.

    python probe.py CHECKPOINT OUTPUT.npz

Both forms that the engine makes of the file: for processors that multiply signed int8, and for those that multiply
unsigned by signed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime

from zoo.artifacts import open_artifact
from zoo.artifacts.golden import read_golden
from zoo.artifacts.manifest import MODEL_NAME
from zoo.onnx.uint8 import prepare_for_onnxruntime
from zoo.registry import shipped_folder


def main() -> None:
    artifact, output = open_artifact(shipped_folder(sys.argv[1])), Path(sys.argv[2])
    inputs = read_golden(artifact)[0][0]
    written = artifact.read(MODEL_NAME)
    results = {}
    for name, unsigned in (("signed", False), ("unsigned", True)):
        model = prepare_for_onnxruntime(written, unsigned=unsigned)
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        (results[name],) = session.run(None, {session.get_inputs()[0].name: inputs})
    np.savez(output, **results)


if __name__ == "__main__":
    main()
