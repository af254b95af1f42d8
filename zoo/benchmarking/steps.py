"""What each step of `zoo run` takes on one file: decode, pack, infer and write."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.contracts.random_inputs import random_inputs
from zoo.errors import UsageError
from zoo.images.writing import needs_whole
from zoo.raw.decode import RawFrame
from zoo.raw.pack import colour_cell
from zoo.runner.settings import Settings
from zoo.storage.atomic import write_bytes_atomic

if TYPE_CHECKING:
    from zoo.artifacts import Manifest
    from zoo.contracts import InputSpec
    from zoo.runner.runner import Runner

#: Any camera's will do: nothing is said about its colours.
_MATRIX = ((0.6461, -0.1164, -0.0857), (-0.3825, 1.1597, 0.2534), (-0.0416, 0.154, 0.6))
_BLACK, _WHITE = 512, 16383


@dataclass(frozen=True)
class Steps:
    """Medians over rounds.

    The first round, which fills caches, does not count. Decoding starts a process of its own, which is
    included.

    Attributes:
        milliseconds: Of each step; empty if the file could not be run.
        problem: Why it could not; "" if it could.
    """

    milliseconds: Mapping[str, float]
    problem: str = ""

    @property
    def total(self) -> float:
        """Return the milliseconds of all steps together."""
        return sum(self.milliseconds.values())

    @property
    def beside_inference(self) -> float:
        """Return the share of the time that is not inference, 0 to 1; 0 if no file could be run."""
        return 1 - self.milliseconds["infer"] / self.total if self.milliseconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for `--json`."""
        return {
            "steps_ms": {name: round(value, 3) for name, value in self.milliseconds.items()},
            "beside_inference": round(self.beside_inference, 4) if self.milliseconds else None,
            **({"steps_problem": self.problem} if self.problem else {}),
        }


def step_settings(manifest: Manifest) -> Settings:
    """Return how a runner must be opened for :func:`measure_steps`."""
    masks = needs_whole(manifest.output.channels)
    # In this process, so that the engine's own time is measured; the fresh process before it has shown that it lives.
    return Settings(format="tiff" if masks else "png", overwrite=True, supervised=False)


def measure_steps(
    runners: Mapping[str, Runner],
    files: Mapping[str, Path],
    *,
    rounds: int = 5,
    strict: bool = True,
    after_round: Callable[[], None] = lambda: None,
) -> dict[str, Steps]:
    """Run each runner on its file, interleaved, as `zoo run` does.

    Args:
        runners: By name.
        files: The file of each runner, by the same names.
        rounds: How often each is run.
        strict: Whether a file that cannot be run ends the measurement; otherwise its runner has no steps.
        after_round: Called when each runner has run once more.

    Raises:
        ZooError: A file fails, and `strict` is set.
    """
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in runners}
    problems: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds + 1):
            for name, runner in runners.items():
                if name in problems:
                    continue
                (result,) = runner.run([files[name]], folder)
                if result.error is not None:
                    if strict:
                        raise result.error
                    problems[name] = result.error.message.replace(f"{files[name].parent}/", "")
                    continue
                taken[name].append(result.steps)
            after_round()
    return {
        name: Steps({}, problems[name])
        if name in problems
        else Steps({step: statistics.median(each[step] for each in found[1:]) * 1000 for step in found[-1]})
        for name, found in taken.items()
    }


def frame_file(spec: InputSpec, width: int, height: int, folder: Path) -> Path:
    """Write a file such as `spec` describes, with soft shades and noise, and return its path.

    It is a dark DNG file for networks that take RAW, a file of arrays for those whose input is not an image, else a
    PNG picture.

    Args:
        spec: Input of the network.
        width: In pixels.
        height: In pixels.
        folder: Where the file is written.

    Raises:
        UsageError: The sides are too small.
    """
    import numpy as np

    if spec.kind == "tensor":
        given = random_inputs(spec)
        arrays = dict(zip([part.name for part in spec.parts], spec.packing.unpack(given), strict=True))
        path = folder / "inputs.npz"
        np.savez(path, **(arrays or {"input": given}))
        return path
    if min(width, height) < 2 * spec.multiple_of:
        raise UsageError(
            f"A frame of {width}x{height} is too small for this network.", hint="Try --frame 512x512"
        )
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    shades = 0.5 + 0.2 * np.sin(rows / 37) + 0.2 * np.sin(columns / 53)
    shades += rng.normal(0, 0.02, shades.shape).astype(np.float32)
    if spec.kind != "packed-raw":
        from PIL import Image

        path = folder / f"frame-{spec.kind}.png"
        picture = (np.clip(shades, 0, 1) * 255).astype(np.uint8)
        Image.fromarray(picture if spec.kind == "gray" else np.stack([picture] * 3, axis=-1)).save(path)
        return path
    from zoo.raw.dng import dng_bytes

    path = folder / f"frame-{spec.mosaic}.dng"
    mosaic = (_BLACK + shades * (_WHITE - _BLACK) / 100).astype(np.uint16)
    pattern = colour_cell(spec.mosaic or "bayer")
    frame = RawFrame(mosaic, pattern, (_BLACK,) * 4, (_WHITE,) * 4, (2.0, 1.0, 1.5))
    write_bytes_atomic(path, dng_bytes(frame, xyz_to_camera=np.array(_MATRIX)))
    return path
