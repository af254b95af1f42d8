"""`darkroom`: photographs turned into dark RAW exposures; nothing to download."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from zoo.contracts import Architecture, CropSize, Dataset, Sample, Split, sides_of
from zoo.data.cameras import CAMERAS
from zoo.data.exposure import Shot, colour_matrix, draw_shot, expose
from zoo.data.picture_folders import ImageSet, Picture
from zoo.data.raw_sample import raw_sample
from zoo.data.varied import quick_generator, spoil, vary_camera
from zoo.errors import InputError, UsageError
from zoo.images.srgb import linear_to_srgb, srgb_to_linear
from zoo.options import option
from zoo.raw.decode import decode
from zoo.raw.dng import dng_bytes
from zoo.raw.pack import Mosaic, colour_cell, pack_mosaic, pixels_per_side

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.raw.decode import RawFrame

    FloatArray = npt.NDArray[np.float32]

#: bumped when the simulation changes, so that fingerprints do
_VERSION = 2
#: Of varied crops, the share of cameras that were not calibrated.
_OTHER_CAMERAS = 0.5


@dataclass(frozen=True)
class DarkroomConfig:
    """Options of `darkroom`."""

    photos: tuple[str, ...] = option((), help="folders of photographs to add to the packaged ones")
    packaged: bool = option(True, help="use the photographs that scikit-image and scikit-learn ship")
    min_ratio: float = option(100.0, minimum=1.0, maximum=1000.0, help="minimum darkening", unit="times")
    max_ratio: float = option(300.0, minimum=1.0, maximum=1000.0, help="maximum darkening", unit="times")
    varied: bool = option(False, help="train on variations of the cameras, phones, and hot pixels, too")


@dataclass(frozen=True)
class Exposure:
    """One simulated shot: the file's bytes, the picture wanted (H, W, 3) in [0, 1], and how it was made."""

    dng: bytes
    target: FloatArray
    shot: Shot


class Darkroom(Dataset):
    """Real photographs, taken back to linear light, darkened 100 to 300 times, with a real camera's noise.

    Each exposure is written as a DNG file and read back through LibRaw, as a user's file is.
    """

    id: ClassVar[str] = "darkroom"
    summary: ClassVar[str] = "photographs turned into dark, noisy DNG files; nothing to download"
    Config: ClassVar[type] = DarkroomConfig
    tasks: ClassVar[frozenset[str]] = frozenset({"raw-to-rgb"})
    rectangular: ClassVar[bool] = True
    config: DarkroomConfig

    def __init__(self, config: DarkroomConfig | None = None) -> None:
        super().__init__(config)
        if self.config.min_ratio > self.config.max_ratio:
            raise UsageError(
                f"darkroom: min_ratio {self.config.min_ratio:g} is above max_ratio {self.config.max_ratio:g}."
            )
        self._pictures = ImageSet(self.config.photos, packaged=self.config.packaged)

    def scenes(self, split: Split) -> Sequence[str]:
        return [picture.scene for picture in self._pictures.of(split)]

    def identity(self) -> str:
        ratios = f"{self.config.min_ratio:g}-{self.config.max_ratio:g}" + ";varied" * self.config.varied
        return f"darkroom/{_VERSION}({ratios};{self._pictures.identity()})"

    def check(self, architecture: Architecture) -> None:
        _mosaic(architecture)
        if not self.scenes("train"):
            raise InputError("There are no photographs for training.", hint="Add some: --photos DIR")

    def crops(
        self, architecture: Architecture, size: CropSize, seed: int, start: int = 0
    ) -> Iterator[Sample]:
        mosaic = _mosaic(architecture)
        number = start
        while True:
            varied = self.config.varied
            rng = quick_generator(seed, number) if varied else np.random.default_rng((seed, number))
            picture = self._pictures.draw(rng)
            height, width = (pixels_per_side(mosaic) * side for side in sides_of(size))
            linear = _random_scene(self._pictures.pixels(picture), (height, width), rng)
            name = f"{picture.scene}#{number}"
            if varied:
                yield self._varied(name, picture.scene, linear, architecture, rng)
            else:
                yield _sample(name, picture.scene, self._expose(linear, rng, mosaic), architecture)
            number += 1

    def frames(self, architecture: Architecture, split: Split, seed: int = 0) -> Iterator[Sample]:
        for picture, exposure in self.exposures(split, seed, _mosaic(architecture)):
            yield _sample(picture.scene, picture.scene, exposure, architecture)

    def exposures(
        self, split: Split, seed: int = 0, mosaic: Mosaic = "bayer"
    ) -> Iterator[tuple[Picture, Exposure]]:
        """Yield the simulated files of a split, one per photograph; deterministic."""
        period = len(colour_cell(mosaic))
        for picture in self._pictures.of(split):
            rng = np.random.default_rng((seed, *picture.scene.encode()))
            pixels = self._pictures.pixels(picture)
            height, width = (side - side % period for side in pixels.shape[:2])
            yield picture, self._expose(srgb_to_linear(pixels[:height, :width]), rng, mosaic)

    def _expose(self, linear: FloatArray, rng: np.random.Generator, mosaic: Mosaic) -> Exposure:
        shot = draw_shot(rng, CAMERAS, (self.config.min_ratio, self.config.max_ratio))
        frame = expose(linear, shot, rng, mosaic)
        data = dng_bytes(frame, xyz_to_camera=colour_matrix(shot.camera), camera=shot.camera.name)
        return Exposure(data, linear_to_srgb(linear), shot)

    def _varied(
        self, name: str, scene: str, linear: FloatArray, architecture: Architecture, rng: np.random.Generator
    ) -> Sample:
        """A crop of any camera. It does not become a file, which would take longer than all else."""
        camera = CAMERAS[int(rng.integers(len(CAMERAS)))]
        if rng.random() < _OTHER_CAMERAS:
            camera = vary_camera(camera, rng)
        shot = draw_shot(rng, (camera,), (self.config.min_ratio, self.config.max_ratio))
        frame = spoil(expose(linear, shot, rng, _mosaic(architecture)), rng)
        return _packed_sample(name, scene, frame, shot, linear_to_srgb(linear), architecture)


def _mosaic(architecture: Architecture) -> Mosaic:
    """Return the kind of the files that the network takes; refuse one that takes none."""
    if architecture.input.kind != "packed-raw" or architecture.input.mosaic is None:
        raise UsageError(
            f"darkroom makes RAW files; {architecture.id} expects {architecture.input.kind} input.",
            hint="List the datasets:  zoo list datasets",
        )
    return architecture.input.mosaic


def _sample(name: str, scene: str, exposure: Exposure, architecture: Architecture) -> Sample:
    return _packed_sample(name, scene, decode(exposure.dng), exposure.shot, exposure.target, architecture)


def _packed_sample(
    name: str, scene: str, frame: RawFrame, shot: Shot, target: FloatArray, architecture: Architecture
) -> Sample:
    packed = pack_mosaic(frame, architecture.input, shot.ratio)
    picture = np.ascontiguousarray(target.transpose(2, 0, 1))
    return raw_sample(name, scene, packed.data, picture, frame, architecture)


def _random_scene(
    picture: npt.NDArray[np.uint8], sides: tuple[int, int], rng: np.random.Generator
) -> FloatArray:
    """Return a linear window of a picture, (*sides, 3).

    It is scaled down by up to 2 and flipped, and transposed if it is a square; brightness and tint vary.
    Averaging while scaling down takes the photograph's own noise and compression marks away.
    """
    from PIL import Image

    height, width = picture.shape[:2]
    limit = min(height / sides[0], width / sides[1])
    scale = min(float(rng.choice((1.0, 1.0, rng.uniform(1.0, 2.0)))), limit)
    rows, columns = (max(1, round(side * scale)) for side in sides)
    top = int(rng.integers(height - rows + 1))
    left = int(rng.integers(width - columns + 1))
    pixels = picture[top : top + rows, left : left + columns]
    if (rows, columns) != sides:
        resample = Image.Resampling.BOX if scale > 1 else Image.Resampling.BICUBIC
        pixels = np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(sides[::-1], resample))
    if rng.random() < 0.5:
        pixels = pixels[::-1]
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    if rng.random() < 0.5 and sides[0] == sides[1]:
        pixels = pixels.transpose(1, 0, 2)
    linear = srgb_to_linear(pixels)
    # Other light on the same scene: without it a few dozen photographs teach their colours by heart.
    tint = np.exp(rng.normal(0, 0.12, 3)) * np.exp(rng.uniform(-1.0, 0.35))
    return np.asarray(np.clip(linear * tint.astype(np.float32), 0, 1), dtype=np.float32)
