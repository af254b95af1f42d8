"""One RAW file to one picture the way the project that zoo continues did it: torch, numpy and PIL, nothing else.

    python docs/benchmarks/engines/original.py WEIGHTS.pt FILE PICTURE.png RATIO

Prints the seconds of each step as JSON.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import rawpy
import torch
from PIL import Image

from zoo.architectures.unet_module import UNet


def pack_raw(raw: rawpy.RawPy) -> np.ndarray:
    """The four colours of the Bayer pattern as channels of half the size, (H/2, W/2, 4)."""
    image = raw.raw_image_visible.astype(np.float32)
    image = np.maximum(image - 512, 0) / (16383 - 512)
    image = np.expand_dims(image, axis=2)
    height, width = image.shape[:2]
    return np.concatenate(
        (
            image[0:height:2, 0:width:2, :],
            image[0:height:2, 1:width:2, :],
            image[1:height:2, 1:width:2, :],
            image[1:height:2, 0:width:2, :],
        ),
        axis=2,
    )


def main(weights: str, file: str, picture: str, ratio: str) -> None:
    marks = [time.perf_counter()]
    net = UNet()
    net.load_state_dict(torch.load(weights, weights_only=True))
    net.eval()
    marks.append(time.perf_counter())
    packed = np.expand_dims(pack_raw(rawpy.imread(file)), axis=0) * float(ratio)
    inputs = torch.from_numpy(np.minimum(packed, 1.0)).permute(0, 3, 1, 2)
    marks.append(time.perf_counter())
    with torch.no_grad():
        output = net(inputs)
    marks.append(time.perf_counter())
    result = output.permute(0, 2, 3, 1).numpy()
    result = np.minimum(np.maximum(result, 0), 1)
    Image.fromarray((result[0] * 255).astype("uint8")).save(picture)
    marks.append(time.perf_counter())
    steps = dict(zip(("load", "pack", "infer", "write"), np.diff(marks).tolist(), strict=True))
    sys.stdout.write(json.dumps(steps))


if __name__ == "__main__":
    main(*sys.argv[1:])
