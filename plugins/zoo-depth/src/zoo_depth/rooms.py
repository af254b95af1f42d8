"""`rooms`: furnished rooms that are drawn by casting rays, with the depth of each pixel; no file is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from zoo.contracts import Architecture, CropSize, Dataset, Sample, Split, crop_size, sides_of
from zoo.data.random_crops import drawn
from zoo.errors import UsageError
from zoo.options import option

if TYPE_CHECKING:
    import numpy.typing as npt

    Vectors = npt.NDArray[np.float64]

_VERSION = 1
#: Metres: no room has a greater depth.
LARGEST = 10.0
#: Half of the horizontal angle of view, as a tangent.
_VIEW = 0.7
#: Of ten rooms, the last two are for testing, and the one before for validation.
_TURN, _TEST, _VAL = 10, 8, 7
_FAR = 1e9


@dataclass(frozen=True)
class RoomsConfig:
    """Options of `rooms`."""

    rooms: int = option(200, minimum=10, maximum=100_000, help="how many rooms; a fifth of them for testing")
    furniture: int = option(6, minimum=0, maximum=32, help="the most boxes and balls in a room")
    noise: float = option(
        2.0, minimum=0.0, maximum=64.0, unit="of 255", help="deviation of the camera's noise"
    )


class Rooms(Dataset):
    """Views of rooms with boxes and balls, seen from random places: images, and depths as shares of 10 m.

    A scene is a room. Training crops are views from places that are drawn each time.
    """

    contract = 1
    id: ClassVar[str] = "rooms"
    summary: ClassVar[str] = "synthetic rooms with the depth of each pixel, made when they are needed"
    Config: ClassVar[type] = RoomsConfig
    tasks: ClassVar[frozenset[str]] = frozenset({"depth"})
    rectangular: ClassVar[bool] = True
    config: RoomsConfig

    def scenes(self, split: Split) -> Sequence[str]:
        return [f"room-{number}" for number in self._numbers(split)]

    def identity(self) -> str:
        c = self.config
        return f"rooms/{_VERSION}({c.rooms};{c.furniture};{c.noise:g})"

    def check(self, architecture: Architecture) -> None:
        if architecture.input.kind != "rgb":
            raise UsageError(
                f"rooms provides RGB images; {architecture.id} expects {architecture.input.kind}.",
                hint="List the datasets:  zoo list datasets",
            )

    def crops(
        self, architecture: Architecture, size: CropSize, seed: int, start: int = 0
    ) -> Iterator[Sample]:
        self.check(architecture)
        for number, room, rng in drawn(self._numbers("train"), seed, start):
            yield self._view(room, f"room-{room}#{number}", size, rng)

    def frames(self, architecture: Architecture, split: Split, seed: int = 0) -> Iterator[Sample]:
        self.check(architecture)
        for room in self._numbers(split):
            size = crop_size(*architecture.input.example)
            yield self._view(room, f"room-{room}", size, np.random.default_rng((seed, room)))

    def _numbers(self, split: Split) -> list[int]:
        wanted = {"test": range(_TEST, _TURN), "val": range(_VAL, _TEST), "train": range(_VAL)}[split]
        return [number for number in range(self.config.rooms) if number % _TURN in wanted]

    def _view(self, room: int, name: str, size: CropSize, rng: np.random.Generator) -> Sample:
        """Furnish the room, which its number decides, and look at it from a place that `rng` decides."""
        found = _Room(np.random.default_rng((_VERSION, room)), self.config.furniture)
        image, depth = found.seen(sides_of(size), rng)
        image = image + rng.normal(0, self.config.noise / 255, image.shape)
        inputs = np.rint(np.clip(image, 0, 1) * 255).astype(np.float32) / np.float32(255)
        return Sample(name, f"room-{room}", np.ascontiguousarray(inputs.transpose(2, 0, 1)), depth[None])


class _Room:
    """A room that stands on the plane y = 0, with boxes and balls on its floor. Lengths are in metres."""

    def __init__(self, rng: np.random.Generator, furniture: int) -> None:
        self._sides = np.array([rng.uniform(3, 6.5), rng.uniform(2.3, 3.2), rng.uniform(3, 6.5)])
        self._light = self._sides * [rng.uniform(0.3, 0.7), 0.95, rng.uniform(0.3, 0.7)]
        self._walls = rng.uniform(0.35, 0.95, (6, 3))
        self._stripes = rng.uniform(0.15, 0.8)
        self._things = []
        for _ in range(int(rng.integers(furniture + 1))):
            half = rng.uniform(0.12, 0.55, 3)
            ball = rng.random() < 0.4
            middle = np.array([rng.uniform(0.6, side - 0.6) for side in self._sides])
            middle[1] = half[0] if ball else half[1]
            self._things.append((ball, middle, half, rng.uniform(0.1, 1, 3)))

    def seen(
        self, size: tuple[int, int], rng: np.random.Generator
    ) -> tuple[Vectors, npt.NDArray[np.float32]]:
        """Return what a camera sees, (H, W, 3), and depths (H, W) along its axis as shares of :data:`LARGEST`."""
        eye = np.array([rng.uniform(0.5, side - 0.5) for side in self._sides])
        eye[1] = rng.uniform(1.1, 1.8)
        # Towards the far half of the room, so that walls seldom fill the image.
        aim = self._sides - eye + rng.uniform(-0.6, 0.6, 3) * self._sides
        turn, tilt = np.arctan2(aim[0], aim[2]), rng.uniform(-0.3, 0.1)
        rows, columns = size
        across = np.linspace(-_VIEW, _VIEW, columns)[None, :].repeat(rows, axis=0)
        down = -np.linspace(-1, 1, rows)[:, None].repeat(columns, axis=1) * _VIEW * rows / columns
        rays = np.stack([across, down, np.ones_like(across)], axis=-1)
        rays = _turned(_turned(rays, tilt, 1, 2), turn, 0, 2)
        distance, colors, normals = self._walls_hit(eye, rays)
        for ball, middle, half, color in self._things:
            hit, facing = _ball(eye - middle, rays, half[0]) if ball else _box(eye - middle, rays, half)
            near = hit < distance
            distance = np.where(near, hit, distance)
            colors = np.where(near[..., None], color, colors)
            normals = np.where(near[..., None], facing, normals)
        places = eye + distance[..., None] * rays
        towards = self._light - places
        length = np.linalg.norm(towards, axis=-1, keepdims=True)
        lit = np.abs((normals * towards / length).sum(-1, keepdims=True)) / (1 + 0.08 * length**2)
        # Rays advance by one metre along the axis of the camera, so their length is the depth.
        depth = np.minimum(distance / LARGEST, 1).astype(np.float32)
        return colors * (0.25 + 0.85 * lit), depth

    def _walls_hit(self, eye: Vectors, rays: Vectors) -> tuple[Vectors, Vectors, Vectors]:
        """Return where rays leave the room, the colours there, with stripes, and the normals."""
        with np.errstate(divide="ignore", invalid="ignore"):
            leave = np.where(rays > 0, (self._sides - eye) / rays, -eye / rays)
        leave = np.where(np.isfinite(leave), leave, _FAR)
        axis = leave.argmin(axis=-1)
        distance = np.take_along_axis(leave, axis[..., None], -1)[..., 0]
        places = eye + distance[..., None] * rays
        wall = 2 * axis + (np.take_along_axis(rays, axis[..., None], -1)[..., 0] > 0)
        along = np.take_along_axis(places, (axis[..., None] + 1) % 3, -1)
        striped = np.where((along / self._stripes) % 1 < 0.5, 1.0, 0.85)
        return distance, self._walls[wall] * striped, np.eye(3)[axis]


def _turned(rays: Vectors, angle: float, first: int, second: int) -> Vectors:
    """Rotate vectors in the plane of two axes."""
    turned = rays.copy()
    turned[..., first] = np.cos(angle) * rays[..., first] + np.sin(angle) * rays[..., second]
    turned[..., second] = -np.sin(angle) * rays[..., first] + np.cos(angle) * rays[..., second]
    return turned


def _ball(eye: Vectors, rays: Vectors, radius: float) -> tuple[Vectors, Vectors]:
    """Return where rays from `eye` meet a ball around 0, far away if nowhere, and its normals."""
    square, half = (rays**2).sum(-1), rays @ eye
    inside = half**2 - square * (eye @ eye - radius**2)
    near = (-half - np.sqrt(np.maximum(inside, 0))) / square
    hit = np.where((inside > 0) & (near > 0), near, _FAR)
    places = eye + np.where(hit < _FAR, hit, 0)[..., None] * rays
    return hit, places / np.linalg.norm(places, axis=-1, keepdims=True)


def _box(eye: Vectors, rays: Vectors, half: Vectors) -> tuple[Vectors, Vectors]:
    """Return where rays from `eye` enter a box around 0, far away if nowhere, and its normals."""
    with np.errstate(divide="ignore", invalid="ignore"):
        to_sides = np.stack([(-half - eye) / rays, (half - eye) / rays])
    enter, leave = np.nan_to_num(to_sides.min(0), nan=-_FAR), np.nan_to_num(to_sides.max(0), nan=_FAR)
    axis = enter.argmax(axis=-1)
    first = np.take_along_axis(enter, axis[..., None], -1)[..., 0]
    hit = np.where((first > 0) & (first < leave.min(-1)), first, _FAR)
    return hit, np.eye(3)[axis]
