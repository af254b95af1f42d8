"""`photos`: colour crops without labels, for compressing any image network against itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from zoo.contracts import Architecture, CropSize, Dataset, Sample, Split, sides_of
from zoo.data.picture_folders import ImageSet, Picture
from zoo.errors import UsageError
from zoo.options import option

if TYPE_CHECKING:
    import numpy.typing as npt

_VERSION = 1
#: evaluation crops taken from each photograph
_CROPS_A_PICTURE = 8


@dataclass(frozen=True)
class PhotosConfig:
    """Options of `photos`."""

    photos: tuple[str, ...] = option((), help="folders of photographs to add to the packaged ones")
    packaged: bool = option(True, help="use the photographs that scikit-image and scikit-learn ship")


class Photos(Dataset):
    """Random crops of photographs, (3, H, W) in [0, 1], no labels.

    A network that takes pictures is trained on them to give what it gave before it was compressed.
    """

    id: ClassVar[str] = "photos"
    summary: ClassVar[str] = (
        "unlabelled colour crops; the compressed network learns to agree with the original"
    )
    Config: ClassVar[type] = PhotosConfig
    tasks: ClassVar[frozenset[str]] = frozenset({"any", "classification"})
    rectangular: ClassVar[bool] = True
    config: PhotosConfig

    def __init__(self, config: PhotosConfig | None = None) -> None:
        super().__init__(config)
        self._pictures = ImageSet(self.config.photos, packaged=self.config.packaged)

    def scenes(self, split: Split) -> Sequence[str]:
        return [picture.scene for picture in self._pictures.of(split)]

    def identity(self) -> str:
        return f"photos/{_VERSION}({self._pictures.identity()})"

    def check(self, architecture: Architecture) -> None:
        if architecture.input.kind != "rgb" or architecture.input.channels != 3:
            raise UsageError(
                f"photos provides RGB images; {architecture.id} expects {architecture.input.kind} input.",
                hint="List the datasets:  zoo list datasets",
            )

    def crops(
        self, architecture: Architecture, size: CropSize, seed: int, start: int = 0
    ) -> Iterator[Sample]:
        self.check(architecture)
        number = start
        while True:
            rng = np.random.default_rng((seed, number))
            picture = self._pictures.draw(rng)
            yield self._sample(picture, number, sides_of(size), architecture, rng)
            number += 1

    def frames(self, architecture: Architecture, split: Split, seed: int = 0) -> Iterator[Sample]:
        self.check(architecture)
        for picture in self._pictures.of(split):
            for number in range(_CROPS_A_PICTURE):
                rng = np.random.default_rng((seed, number, *picture.scene.encode()))
                yield self._sample(picture, number, architecture.input.example, architecture, rng)

    def _sample(
        self,
        picture: Picture,
        number: int,
        size: tuple[int, int],
        architecture: Architecture,
        rng: np.random.Generator,
    ) -> Sample:
        pixels = _random_crop(self._pictures.pixels(picture), size, rng)
        inputs = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)
        return Sample(f"{picture.scene}#{number}", picture.scene, inputs, None)


def _random_crop(
    picture: npt.NDArray[np.uint8], size: tuple[int, int], rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Return a crop covering 30 to 100 % of the shorter side, flipped half the time, resized to (height, width)."""
    from PIL import Image

    height, width = picture.shape[:2]
    limit = min(height / size[0], width / size[1])
    scale = limit * float(rng.uniform(0.3, 1.0))
    rows, columns = max(1, int(size[0] * scale)), max(1, int(size[1] * scale))
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    pixels = picture[top : top + rows, left : left + columns]
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))
