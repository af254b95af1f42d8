"""`drawn-faces`: clips of faces that are drawn as lines, for trials and tests without a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from zoo.contracts import Architecture, CropSize, Dataset, Sample, Split
from zoo.data.random_crops import drawn
from zoo.options import option
from zoo_emotion import EMOTIONS
from zoo_emotion.sampling import check_network, face_size, sample_of

if TYPE_CHECKING:
    from zoo.contracts import FloatArray

_VERSION = 1
_TURN, _TEST, _VAL = 5, 4, 3
#: Of each emotion at its height: how far the corners of the mouth rise and how wide it opens, how far the brows rise
#: and how much their inner ends do, how wide the eyes open, and after which share of a clip it begins.
_EXPRESSIONS: dict[str, tuple[float, float, float, float, float, float]] = {
    "anger": (-0.4, 0.1, -0.6, -1.0, 0.2, 0.1),
    "contempt": (0.3, 0.0, 0.0, -0.2, -0.3, 0.5),
    "disgust": (-0.6, 0.3, -0.5, -0.4, -0.7, 0.2),
    "fear": (-0.3, 0.6, 0.8, 0.9, 0.8, 0.2),
    "happiness": (1.0, 0.4, 0.1, 0.0, -0.2, 0.1),
    "neutral": (0.0, 0.0, 0.0, 0.0, 0.0, 0.5),
    "sadness": (-0.8, 0.0, 0.1, 1.0, -0.4, 0.3),
    "surprise": (0.0, 1.0, 1.0, 0.1, 1.0, 0.5),
}


@dataclass(frozen=True)
class DrawnFacesConfig:
    """Options of `drawn-faces`."""

    clips: int = option(200, minimum=40, maximum=100_000, help="how many clips; a fifth of them for testing")
    frames: int = option(
        12, minimum=1, maximum=256, help="the most frames of a clip; some are a third shorter"
    )
    noise: float = option(12.0, minimum=0.0, maximum=128.0, unit="of 255", help="deviation of the noise")
    strength: float = option(1.0, minimum=0.0, maximum=2.0, help="how strong expressions are")


class DrawnFaces(Dataset):
    """A face per clip, whose expression develops from neutral to one of eight; a scene is a clip."""

    contract = 1
    id: ClassVar[str] = "drawn-faces"
    summary: ClassVar[str] = "clips of drawn faces with one of eight emotions, made when they are needed"
    Config: ClassVar[type] = DrawnFacesConfig
    tasks: ClassVar[frozenset[str]] = frozenset({"classification"})
    rectangular: ClassVar[bool] = True
    config: DrawnFacesConfig

    def scenes(self, split: Split) -> Sequence[str]:
        return [_named(number) for number in self._numbers(split)]

    def identity(self) -> str:
        c = self.config
        return f"drawn-faces/{_VERSION}({c.clips};{c.frames};{c.noise:g};{c.strength:g})"

    def class_names(self) -> Sequence[str]:
        return EMOTIONS

    def check(self, architecture: Architecture) -> None:
        check_network(architecture, self.id)

    def crops(
        self, architecture: Architecture, size: CropSize, seed: int, start: int = 0
    ) -> Iterator[Sample]:
        self.check(architecture)
        for number, clip, rng in drawn(self._numbers("train"), seed, start):
            sides = face_size(architecture, size)
            yield self._sample(clip, f"{_named(clip)}#{number}", architecture, sides, rng)

    def frames(self, architecture: Architecture, split: Split, seed: int = 0) -> Iterator[Sample]:
        self.check(architecture)
        for clip in self._numbers(split):
            yield self._sample(clip, _named(clip), architecture, face_size(architecture))

    def _numbers(self, split: Split) -> list[int]:
        wanted = {"test": range(_TEST, _TURN), "val": range(_VAL, _TEST), "train": range(_VAL)}[split]
        # Eight clips in a row have one class each, so that every split has all of them.
        return [number for number in range(self.config.clips) if number // len(EMOTIONS) % _TURN in wanted]

    def _sample(
        self,
        clip: int,
        name: str,
        architecture: Architecture,
        size: tuple[int, int],
        rng: np.random.Generator | None = None,
    ) -> Sample:
        face = _Face(clip, self.config, size)
        return sample_of(architecture, name, _named(clip), face.total, face.frame, clip % len(EMOTIONS), rng)


class _Face:
    """The face of a clip: its features are the same in all frames, its expression is not."""

    def __init__(self, clip: int, config: DrawnFacesConfig, size: tuple[int, int]) -> None:
        self._clip, self._config, self._size = clip, config, size
        rng = np.random.default_rng((_VERSION, clip))
        self.total = int(rng.integers(max(1, 2 * config.frames // 3), config.frames + 1))
        *expression, begin = _EXPRESSIONS[EMOTIONS[clip % len(EMOTIONS)]]
        own = rng.normal(0, 0.12, len(expression))
        self._expression = np.array(expression) * rng.uniform(0.75, 1.1) * config.strength
        self._own, self._begin = own, begin + rng.uniform(-0.1, 0.1)
        self._shift, self._drift = rng.uniform(-0.12, 0.12, 2), rng.uniform(-0.05, 0.05, 2)
        self._scale, self._width = rng.uniform(0.85, 1.1), rng.uniform(0.62, 0.8)
        self._skin, self._dark, self._back = (
            rng.uniform(0.55, 0.8),
            rng.uniform(0.05, 0.2),
            rng.uniform(0.2, 0.95),
        )

    def frame(self, number: int) -> FloatArray:
        """Draw a frame, (height, width) in [0, 1]."""
        time = number / max(1, self.total - 1)
        amount = float(np.clip((time - self._begin) / 0.4, 0, 1))
        rise, open_mouth, brow, inner, wide = self._own + amount * self._expression
        height, width = self._size
        dx, dy = self._shift + time * self._drift
        y = (np.linspace(-1, 1, height)[:, None] - dy) / self._scale
        x = (np.linspace(-1, 1, width)[None, :] - dx) / self._scale
        picture = np.full(self._size, self._back)
        picture = _blend(picture, (x / self._width) ** 2 + (y / 0.95) ** 2 - 1, self._skin, 0.15)
        for side in (-1, 1):
            eye = ((x - 0.3 * side) / 0.14) ** 2 + ((y + 0.2) / (0.07 * max(0.2, 1 + wide))) ** 2 - 1
            picture = _blend(picture, eye, self._dark, 0.6)
            along = (x - 0.3 * side) * side  # from the inner end to the outer one
            line = y + 0.42 + 0.1 * brow - 0.6 * inner * np.clip(along, -0.18, 0.18)
            picture = _blend(picture, (line / 0.035) ** 2 + (along / 0.18) ** 4 - 1, self._dark, 0.8)
        curve = y - 0.45 + 0.18 * rise * ((x / 0.32) ** 2 - 0.5)
        mouth = (curve / (0.04 + 0.14 * max(0.0, open_mouth))) ** 2 + (x / 0.32) ** 4 - 1
        picture = _blend(picture, mouth, self._dark, 0.8)
        noise = np.random.default_rng((_VERSION, self._clip, number)).normal(
            0, self._config.noise / 255, self._size
        )
        return np.clip(picture + noise, 0, 1).astype(np.float32)


def _blend(picture: FloatArray, outside: FloatArray, tone: float, soft: float) -> FloatArray:
    """Fill the part where `outside` is negative with a tone, with a soft edge."""
    share = np.clip(0.5 - outside / (2 * soft), 0, 1)
    return picture + share * (tone - picture)


def _named(clip: int) -> str:
    return f"{EMOTIONS[clip % len(EMOTIONS)]}-{clip}"
