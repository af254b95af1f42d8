"""`degradations`: photographs, and what a bad camera would have made of them: smaller, blurred, noisy, compressed."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from zoo.contracts import Architecture, CropSize, Dataset, InputSpec, Sample, Split, sides_of
from zoo.data.picture_folders import ImageSet, Picture
from zoo.data.random_crops import random_window
from zoo.errors import UsageError
from zoo.images.pixels import as_input
from zoo.options import option

if TYPE_CHECKING:
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

_VERSION = 1
#: Pixels of the result around a crop that blurring and reducing look at.
_MARGIN = 4
#: How many deviations a Gaussian reaches.
_REACH = 3


@dataclass(frozen=True)
class DegradationsConfig:
    """Options of `degradations`. Each photograph is degraded by random amounts between none and these."""

    photos: tuple[str, ...] = option((), help="folders of photographs to add to the packaged ones")
    packaged: bool = option(True, help="use the photographs that scikit-image and scikit-learn ship")
    blur: float = option(
        0.0, minimum=0.0, maximum=20.0, unit="pixel",
        help="largest deviation of a Gaussian blur, in pixels of the photograph",
    )  # fmt: skip
    noise: float = option(
        0.0,
        minimum=0.0,
        maximum=255.0,
        unit="of 255",
        help="largest deviation of Gaussian noise, after reducing",
    )
    jpeg: int | None = option(
        None, minimum=1, maximum=100, help="lowest JPEG quality, the highest being 95; none: no JPEG"
    )
    reduce: Literal["bicubic", "bilinear", "box", "lanczos"] = option(
        "bicubic", help="how photographs are reduced for a network that enlarges them"
    )


class Degradations(Dataset):
    """Windows of photographs as targets, and inputs that are made of them in the order of a camera.

    Blurred, reduced by the network's scale, with noise added, rounded to 8 bits, then compressed. A scene is a
    photograph; splits go by a hash of its name.
    """

    contract = 1
    id: ClassVar[str] = "degradations"
    summary: ClassVar[str] = "photographs, reduced, blurred, with noise and JPEG artefacts, to be restored"
    Config: ClassVar[type] = DegradationsConfig
    tasks: ClassVar[frozenset[str]] = frozenset({"super-resolution", "image-to-image"})
    rectangular: ClassVar[bool] = True
    config: DegradationsConfig

    def __init__(self, config: DegradationsConfig | None = None) -> None:
        super().__init__(config)
        self._pictures = ImageSet(self.config.photos, packaged=self.config.packaged)

    def scenes(self, split: Split) -> Sequence[str]:
        return [picture.scene for picture in self._pictures.of(split)]

    def identity(self) -> str:
        c = self.config
        made = f"{c.blur:g};{c.noise:g};{c.jpeg};{c.reduce}"
        return f"degradations/{_VERSION}({self._pictures.identity()};{made})"

    def check(self, architecture: Architecture) -> None:
        takes, gives = architecture.input, architecture.output
        if takes.kind not in ("gray", "rgb") or gives.kind not in ("gray", "rgb"):
            raise UsageError(
                f"degradations provides images for images; {architecture.id} maps {takes.kind} to {gives.kind}.",
                hint="List the datasets:  zoo list datasets",
            )
        c = self.config
        if gives.scale == 1 and not c.blur and not c.noise and c.jpeg is None:
            raise UsageError(
                f"{architecture.id} does not enlarge images, and nothing else is wrong with them.",
                hint="Degrade them:  --data 'degradations(blur=1.5,noise=10,jpeg=40)'",
            )

    def crops(
        self, architecture: Architecture, size: CropSize, seed: int, start: int = 0
    ) -> Iterator[Sample]:
        self.check(architecture)
        for number in count(start):
            rng = np.random.default_rng((seed, number))
            picture = self._pictures.draw(rng)
            yield self._crop(picture, size, number, architecture, rng)

    def frames(self, architecture: Architecture, split: Split, seed: int = 0) -> Iterator[Sample]:
        self.check(architecture)
        scale, multiple = architecture.output.scale, architecture.input.multiple_of
        for picture in self._pictures.of(split):
            rng = np.random.default_rng((seed, *picture.scene.encode()))
            pixels = self._pictures.pixels(picture)
            height, width = (side - side % (scale * multiple) for side in pixels.shape[:2])
            pixels = pixels[:height, :width]
            yield self._sample(
                picture.scene, picture, self._degraded(pixels, scale, rng), pixels, architecture
            )

    # ------------------------------------------------------------------------------------------- details

    def _crop(
        self,
        picture: Picture,
        size: CropSize,
        number: int,
        architecture: Architecture,
        rng: np.random.Generator,
    ) -> Sample:
        """A random window with enough around it, degraded; then without what is around it, and turned at random."""
        scale, pixels = architecture.output.scale, self._pictures.pixels(picture)
        rows, columns = sides_of(size)
        height, width = (side // scale for side in pixels.shape[:2])
        whole = Sample(picture.scene, picture.scene, np.empty((1, height, width), np.float32), None)
        if height < rows or width < columns:
            random_window(whole, size, scale, architecture.input.multiple_of, number, rng)  # refuses it
        top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
        around = _MARGIN + -(-int(_REACH * self.config.blur) // scale)
        above, before = min(around, top), min(around, left)
        wide = pixels[
            (top - above) * scale : (top + rows + around) * scale,
            (left - before) * scale : (left + columns + around) * scale,
        ]
        wide = wide[: wide.shape[0] // scale * scale, : wide.shape[1] // scale * scale]
        made = self._degraded(wide, scale, rng)[above : above + rows, before : before + columns]
        target = pixels[top * scale : (top + rows) * scale, left * scale : (left + columns) * scale]
        sample = self._sample(f"{picture.scene}#{number}", picture, made, target, architecture)
        turned = random_window(sample, size, scale, architecture.input.multiple_of, number, rng)
        return Sample(sample.name, sample.scene, turned.inputs, turned.target)

    def _sample(
        self, name: str, picture: Picture, made: Pixels, target: Pixels, architecture: Architecture
    ) -> Sample:
        gives = architecture.output
        wanted = InputSpec("gray" if gives.kind == "gray" else "rgb", gives.channels)
        return Sample(
            name,
            picture.scene,
            as_input(made, architecture.input, picture.path),
            as_input(target, wanted, picture.path),
        )

    def _degraded(self, pixels: Pixels, scale: int, rng: np.random.Generator) -> Pixels:
        """Return (H, W, 3), 8 bits, as (H / scale, W / scale, 3); sides must be multiples of the scale."""
        from PIL import Image, ImageFilter

        c = self.config
        image = Image.fromarray(np.ascontiguousarray(pixels))
        if c.blur:
            image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, c.blur))))
        if scale > 1:
            method: Any = Image.Resampling[c.reduce.upper()]
            image = image.resize((image.width // scale, image.height // scale), method)
        if c.noise:
            deviation = np.float32(rng.uniform(0, c.noise))
            noise = rng.standard_normal((image.height, image.width, 3), dtype=np.float32)
            noisy = np.asarray(image, np.float32) + deviation * noise
            image = Image.fromarray(np.rint(np.clip(noisy, 0, 255)).astype(np.uint8))
        if c.jpeg is not None:
            held = io.BytesIO()
            quality = int(rng.integers(min(c.jpeg, 95), max(c.jpeg, 95) + 1))
            image.save(held, "JPEG", quality=quality)
            image = Image.open(held)
        return np.asarray(image)
