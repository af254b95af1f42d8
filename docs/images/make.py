"""Make docs/images/before-after.png from a shipped checkpoint.

    python docs/images/make.py [CHECKPOINT] [SCENE]

The scene is a photograph that no training saw, made into a dark DNG file by the darkroom. Left: what LibRaw develops
from the file as it is. Middle: the same, amplified to the right brightness. Right: what the checkpoint gives.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import numpy as np
import rawpy
from PIL import Image

import zoo
from zoo.data.darkroom import Darkroom

_SIDE = 400


def develop(data: bytes, amplification: float) -> np.ndarray:
    with rawpy.imread(io.BytesIO(data)) as raw:
        linear = raw.postprocess(
            use_camera_wb=True, no_auto_bright=True, gamma=(1, 1), output_bps=16, user_flip=0
        )
    amplified = np.clip(linear.astype(np.float32) / 65535 * amplification, 0, 1)
    return np.rint(amplified ** (1 / 2.2) * 255).astype(np.uint8)


def main(checkpoint: str = "lighter-unet-int8", scene: str = "rocket") -> None:
    exposure = next(e for picture, e in Darkroom().exposures("test") if picture.scene == scene)
    with tempfile.TemporaryDirectory() as folder:
        dng = Path(folder, "dark.dng")
        dng.write_bytes(exposure.dng)
        with zoo.load(checkpoint, ratio=exposure.shot.ratio) as runner:
            picture = runner.develop(dng)
    panels = [develop(exposure.dng, 1.0), develop(exposure.dng, exposure.shot.ratio), picture]
    top, left = ((side - _SIDE) // 2 for side in picture.shape[:2])
    strip = np.concatenate([panel[top : top + _SIDE, left : left + _SIDE] for panel in panels], axis=1)
    Image.fromarray(strip).save(Path(__file__).with_name("before-after.png"), optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
