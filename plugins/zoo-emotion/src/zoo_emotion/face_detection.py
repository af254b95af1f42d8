"""Finding the face in a picture with the detector that comes with OpenCV.

Viola and Jones, "Rapid Object Detection using a Boosted Cascade of Simple Features", CVPR 2001.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import MissingDependencyError

if TYPE_CHECKING:
    import numpy.typing as npt

_CASCADE = "haarcascade_frontalface_default.xml"
#: Added on each side of what is found, as a share of it: the detector leaves out chin and forehead.
_AROUND = 0.1
#: Faces narrower than this share of the picture's shorter side are not looked for.
_LEAST = 0.1

Box = tuple[int, int, int, int]


def find_face(picture: npt.NDArray[np.uint8]) -> Box | None:
    """Return top, bottom, left and right of the largest face in a picture (H, W, 3); None if there is none.

    Raises:
        MissingDependencyError: OpenCV is not installed, or has no detector.
    """
    cv2, detector = _opencv()
    least = max(20, int(_LEAST * min(picture.shape[:2])))
    gray = cv2.equalizeHist(cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY))
    found = detector.detectMultiScale(gray, scaleFactor=1.1, minNeighbors=5, minSize=(least, least))
    if not len(found):
        return None
    left, top, width, height = max(
        (tuple(map(int, each)) for each in found), key=lambda each: each[2] * each[3]
    )
    more = round(_AROUND * width)
    rows, columns = picture.shape[:2]
    return (
        max(0, top - more),
        min(rows, top + height + more),
        max(0, left - more),
        min(columns, left + width + more),
    )


@lru_cache(maxsize=1)
def _opencv() -> tuple[Any, Any]:
    """Return OpenCV and its detector."""
    hint = "Install it with, in the folder of the clone:  pip install './plugins/zoo-emotion[faces]'"
    try:
        import cv2
    except ImportError as error:
        raise MissingDependencyError(
            "Cropping to faces needs the package 'opencv-python-headless', which is not installed here.",
            hint=hint,
        ) from error
    folder = getattr(getattr(cv2, "data", None), "haarcascades", "")
    if not hasattr(cv2, "CascadeClassifier") or not Path(folder, _CASCADE).is_file():
        raise MissingDependencyError(
            f"Cropping to faces needs the face detector of OpenCV 4; OpenCV {cv2.__version__} here has none.",
            hint=hint,
        )
    return cv2, cv2.CascadeClassifier(str(Path(folder, _CASCADE)))
