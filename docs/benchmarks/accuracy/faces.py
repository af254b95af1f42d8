"""The three networks of MTCNN, from `pip install --no-deps --target WEIGHTS facenet-pytorch`.

They find faces in pictures: windows that the first, of 12 x 12, proposes are judged by the second, of 24 x 24, and the
third, of 48 x 48, each with the probability of a face and four corrections of the window (the third with ten
coordinates, too). Here each judges whole pictures, cut out of photographs with faces and without.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reference import Floats, Reference, right_class
from torch.nn import functional as F

from zoo.contracts import InputSpec, OutputSpec

#: Their classes, and the side of their windows.
_NETWORKS = {"PNet": 12, "RNet": 24, "ONet": 48}


def face_detectors(weights: Path) -> dict[str, Reference]:
    """Return the networks by id, if they are installed in a folder."""
    if not (weights / "facenet_pytorch").is_dir():
        return {}
    if str(weights) not in sys.path:
        sys.path.append(str(weights))
    found = {}
    for name, side in _NETWORKS.items():
        spec = InputSpec("rgb", 3, 1, (side, side), fixed_size=True, mean=(0.5,) * 3, std=(128 / 255,) * 3)
        key = f"mtcnn-{name.lower()}"
        found[key] = Reference(
            key, spec, OutputSpec("tensor", 2), lambda name=name: _network(name),
            lambda side=side: [picture for picture, _ in _pictures(side)[::20]],
            lambda side=side: [each for at, each in enumerate(_pictures(side)) if at % 20], right_class, "%",
            (side, side), "tensor", several=True,
        )  # fmt: skip
    return found


def _network(name: str) -> torch.nn.Module:
    from facenet_pytorch.models import mtcnn

    return getattr(mtcnn, name)().eval()  # type: ignore[no-any-return]


def _pictures(side: int) -> list[tuple[Floats, Any]]:
    """The 100 faces (1) and 100 other pictures (0) of scikit-image, each at four places and mirrored."""
    from skimage.data import lfw_subset

    faces = torch.from_numpy(np.asarray(lfw_subset(), np.float32))[:, None]
    found: list[tuple[Floats, Any]] = []
    for number, face in enumerate(faces):
        for top in (0, 1):
            for left in (0, 1):
                cut = face[None, :, top : top + 24, left : left + 24]
                picture = F.interpolate(cut, size=(side, side), mode="bilinear", antialias=True)[0]
                for each in (picture, picture.flip(2)):
                    found.append((each.expand(3, -1, -1).contiguous().numpy(), int(number < 100)))
    return found
