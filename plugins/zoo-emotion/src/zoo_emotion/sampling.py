"""From the frames of a clip to a sample, for networks that take clips and for those that take one picture."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.contracts import Architecture, CropSize, Sample, sides_of
from zoo.errors import UsageError
from zoo_emotion import EMOTIONS

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.contracts import FloatArray

    #: Returns frame k of a clip, (height, width) in [0, 1].
    Frame = Callable[[int], FloatArray]


def check_network(architecture: Architecture, owner: str, classes: int = len(EMOTIONS)) -> None:
    """Check that a network takes clips, or pictures, and has an output for each class.

    Args:
        architecture: The network.
        owner: Id of the dataset, for the message.
        classes: How many the data has.

    Raises:
        UsageError: It does not.
    """
    parts = architecture.input.parts
    clip = (
        len(parts) == 2 and len(parts[0].shape) == 4 and parts[0].shape[1] == 1 and parts[1].kind == "integer"
    )
    if not clip and architecture.input.kind not in ("gray", "rgb"):
        raise UsageError(
            f"{owner} provides gray clips (frames, 1, H, W) with their length, or pictures; {architecture.id} takes "
            f"something else.",
            hint="Networks for it:  videonet:lstm, videonet:attention, emotion-cnn",
        )
    if architecture.output.kind != "logits" or architecture.output.channels < classes:
        raise UsageError(
            f"{owner} has {classes} classes, {architecture.id} only {architecture.output.channels} outputs.",
            hint="Take a network with an output for each class.",
        )


def face_size(architecture: Architecture, size: CropSize | None = None) -> tuple[int, int]:
    """Return the height and width of a frame: of a clip those that the network states, of a picture those of a crop.

    Args:
        architecture: The network.
        size: Of the crop; None for the network's example.
    """
    parts = architecture.input.parts
    if parts:
        height, width = parts[0].shape[-2:]
        return height, width
    return architecture.input.example if size is None else sides_of(size)


def sample_of(
    architecture: Architecture, name: str, scene: str, total: int, frame: Frame, label: int,
    rng: np.random.Generator | None = None,
) -> Sample:  # fmt: skip
    """Return a sample of some frames of a clip, in order; of one frame for a network that takes one picture.

    Evaluation takes frames at equal distances, the first and the last among them, or the last one. Training draws one
    out of each of as many parts, or any.

    Args:
        architecture: The network.
        name: Of the sample.
        scene: Of the clip.
        total: How many frames the clip has.
        frame: Returns one of them.
        label: The number of the class.
        rng: For training: what draws, and mirrors half of the clips.
    """
    target = np.array(label, np.int64)
    mirrored = rng is not None and rng.random() < 0.5

    def seen(number: int) -> npt.NDArray[Any]:
        found = frame(number)
        return np.ascontiguousarray(found[:, ::-1] if mirrored else found)

    spec = architecture.input
    if not spec.parts:
        number = total - 1 if rng is None else int(rng.integers(total))
        return Sample(name, scene, np.repeat(seen(number)[None], spec.channels, axis=0), target)
    most = spec.parts[0].shape[0]
    numbers = _drawn(total, min(total, most), rng)
    faces = np.stack([seen(number) for number in numbers])[:, None]
    filled = np.concatenate([faces, np.zeros((most - len(faces), *faces.shape[1:]), np.float32)])
    given = {spec.parts[0].name: filled[None], spec.parts[1].name: np.array([len(faces)])}
    return Sample(name, scene, spec.pack(given)[0], target)


def _drawn(total: int, count: int, rng: np.random.Generator | None) -> Sequence[int]:
    """Return the numbers of `count` frames of `total`, in order."""
    if rng is None:
        return [round(number) for number in np.linspace(0, total - 1, count)]
    edges = np.linspace(0, total, count + 1).astype(int)
    return [int(rng.integers(low, high)) for low, high in itertools.pairwise(edges)]
