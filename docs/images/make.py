"""Make the photographs of the documentation from a shipped checkpoint.

    python docs/images/make.py [CHECKPOINT] [SCENE]

The scene is a photograph that no training saw, made into a dark DNG file by the darkroom. before-after.jpg shows it
three times: as LibRaw develops the file, the same amplified to the right brightness, and as the checkpoint develops it.
before.jpg and after.jpg are the last two, for the slider.
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

_HERE = Path(__file__).parent
_SIDE = 400
#: height and width of a picture of the slider
_SLIDER = 400, 640


def develop(data: bytes, amplification: float) -> np.ndarray:
    with rawpy.imread(io.BytesIO(data)) as raw:
        linear = raw.postprocess(
            use_camera_wb=True, no_auto_bright=True, gamma=(1, 1), output_bps=16, user_flip=0
        )
    amplified = np.clip(linear.astype(np.float32) / 65535 * amplification, 0, 1)
    return np.rint(amplified ** (1 / 2.2) * 255).astype(np.uint8)


def middle(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]


def save(picture: np.ndarray, name: str) -> None:
    Image.fromarray(picture).save(_HERE / name, quality=85, optimize=True)


def main(checkpoint: str = "lighter-unet-int8", scene: str = "china") -> None:
    exposure = next(e for picture, e in Darkroom().exposures("test") if picture.scene == scene)
    with tempfile.TemporaryDirectory() as folder:
        dng = Path(folder, "dark.dng")
        dng.write_bytes(exposure.dng)
        with zoo.load(checkpoint, ratio=exposure.shot.ratio) as runner:
            picture = runner.develop(dng)
    dark, amplified = (develop(exposure.dng, ratio) for ratio in (1.0, exposure.shot.ratio))
    panels = [middle(each, _SIDE, _SIDE) for each in (dark, amplified, picture)]
    save(np.concatenate(panels, axis=1), "before-after.jpg")
    save(middle(amplified, *_SLIDER), "before.jpg")
    save(middle(picture, *_SLIDER), "after.jpg")


if __name__ == "__main__":
    main(*sys.argv[1:])
