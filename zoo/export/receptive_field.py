"""How far an exported network looks, measured on its file: what a tile needs around it to be that part of the frame.

On a long, narrow frame everything beyond a boundary is replaced, and the outputs that change show how far the boundary
is seen. The result is then put to the test: a tile that is computed by itself must be what it is in the frame. That
also finds outputs that depend on where in the frame they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zoo.contracts.architecture import WHOLE_FRAME
from zoo.errors import ZooError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.contracts import FloatArray, InputSpec, OutputSpec, Session

#: Lengths of the frames, in input pixels. What is seen from the middle of the longest to its end is seen everywhere.
_LENGTHS = (256, 1024, 2048)
_WIDTH = 32
#: Side of a tile without its halo.
_OWN = 16
#: Root mean square of the difference of a tile that counts as none: 80 dB, for outputs in [0, 1].
_SAME = 1e-4
#: Mean levels of the frames: activations that are off, or clipped, at one level pass changes on at another.
_LEVELS = (0.5, 0.15, 0.85)


def measure_halo(session: Session, inputs: InputSpec, outputs: OutputSpec) -> int | None:
    """Return the halo of a network, see :class:`zoo.contracts.InputSpec`.

    Args:
        session: The exported file in an engine.
        inputs: A stated halo is returned as it is if tiles with it agree with the frame.
        outputs: Of the network.

    Returns:
        Input pixels, a multiple of `inputs.multiple_of` where measured; WHOLE_FRAME if tiles of no size agree with the
        frame; None if it cannot be measured: the output is no image, or nothing changes it.
    """
    if not outputs.scale:
        return inputs.halo
    vectors = [part for part in inputs.parts if not part.has_sides]
    constant = tuple(
        (channels, float(round((part.low + part.high) / 2)) if part.kind == "integer" else part.low)
        for part, channels in zip(vectors, inputs.packing.constant, strict=False)
    )
    probe = _Probe(session, inputs.channels, inputs.multiple_of, outputs.scale, constant)
    try:
        if inputs.fixed_size:
            return inputs.halo if inputs.halo is not None else probe.halo(inputs.example)
        if inputs.halo is not None and probe.tile_agrees(inputs.halo):
            return inputs.halo
        halo = probe.halo()
        known = halo is None or halo == WHOLE_FRAME or probe.tile_agrees(halo)
    except ZooError:  # the engine refuses frames of these sizes
        return inputs.halo
    return halo if known else WHOLE_FRAME


@dataclass(frozen=True)
class _Probe:
    session: Session
    channels: int
    step: int
    scale: int
    #: Channels of inputs that are not images, and the number that they hold everywhere.
    constant: tuple[tuple[range, float], ...] = ()

    def halo(self, fixed: tuple[int, int] | None = None) -> int | None:
        """Return how far outputs look along rows and columns. fixed: the only size there is."""
        found: list[int] = []
        for axis in (2, 3):
            reach = self._reach(axis, fixed)
            if reach == WHOLE_FRAME:
                return reach
            found += [] if reach is None else [reach]
        return max(found, default=None)

    def tile_agrees(self, halo: int) -> bool:
        """Return whether a tile in the middle of a frame, computed with this halo, is that part of the frame."""
        halo, around, own = (self._rounded(size) for size in (halo, max(2 * _WIDTH, halo), _OWN))
        for axis in (2, 3):
            frame = self._frame(axis, 2 * (around + halo) + own, seed=0)
            # The border is darker than the middle, as what a network that looks at all of it must notice.
            tile = _part(frame, axis, around, frame.shape[axis] - around).copy()
            frame = self._held(frame * np.float32(0.2))
            _part(frame, axis, around, frame.shape[axis] - around)[:] = tile
            first, size = halo * self.scale, own * self.scale
            alone = _part(self.session.run(np.ascontiguousarray(tile)), axis, first, first + size)
            first += around * self.scale
            inside = _part(self.session.run(frame), axis, first, first + size)
            if not np.sqrt(np.mean(np.square(alone - inside, dtype=np.float64))) <= _SAME:
                return False
        return True

    def _reach(self, axis: int, fixed: tuple[int, int] | None) -> int | None:
        """Return how far outputs look along an axis; None if no output changes."""
        for length in [fixed[axis - 2]] if fixed else _LENGTHS:
            reaches: list[int] = []
            for seed, level in enumerate(_LEVELS):
                reach = self._reach_within(axis, self._rounded(length), fixed, seed, level)
                reaches += [] if reach is None else [reach]
                if reach == WHOLE_FRAME:
                    break  # what can be seen is longer than this frame, or without end
            if WHOLE_FRAME not in reaches:
                return max(reaches, default=None)
        return WHOLE_FRAME

    def _reach_within(
        self, axis: int, length: int, fixed: tuple[int, int] | None, seed: int, level: float
    ) -> int | None:
        """Return how far a boundary in the middle of a frame is seen; WHOLE_FRAME where it is seen at an end."""
        frame = self._frame(axis, length, seed, level, fixed)
        other = self._frame(axis, length, seed + 100, level / 2, fixed)
        middle = self._rounded(length // 2)
        before, reach, seen = self.session.run(frame), 0, False
        for beyond in (slice(middle, length), slice(0, middle)):
            changed = frame.copy()
            at = (slice(None),) * axis + (beyond,)
            changed[at] = other[at]
            # Both frames are of one size, so that what does not see the change is the same bit for bit.
            differs = (self.session.run(changed) != before).any(axis=tuple({0, 1, 2, 3} - {axis}))
            places = np.flatnonzero(differs) // self.scale
            if not len(places):
                continue
            seen = True
            far = middle - places[0] if beyond.start else places[-1] + 1 - middle
            if far > 0:
                reach = max(reach, self._rounded(int(far)))
            if places[0 if beyond.start else -1] == (0 if beyond.start else length - 1):
                return WHOLE_FRAME
        return reach if seen else None

    def _frame(
        self, axis: int, length: int, seed: int, level: float = 0.5, fixed: tuple[int, int] | None = None
    ) -> FloatArray:
        """Return noise around a mean, (1, C, length, width) or, along the other axis, (1, C, width, length)."""
        width = self._rounded(_WIDTH)
        sides: Sequence[int] = fixed or ((length, width) if axis == 2 else (width, length))
        noise = np.random.default_rng(seed).random((1, self.channels, *sides), dtype=np.float32)
        frame = noise * np.float32(2 * min(level, 1 - level)) + np.float32(level - min(level, 1 - level))
        return self._held(frame)

    def _held(self, frame: FloatArray) -> FloatArray:
        """The frame with the numbers of inputs that are not images, which are the same in all frames."""
        for channels, number in self.constant:
            frame[:, channels] = number
        return frame

    def _rounded(self, size: int) -> int:
        return -(-size // self.step) * self.step


def _part(array: FloatArray, axis: int, start: int, stop: int) -> FloatArray:
    """Return a view of a range along an axis."""
    return array[(slice(None),) * axis + (slice(start, stop),)]
