"""Inputs that are named one by one: as files of images or arrays, or as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.contracts import InputSpec
from zoo.errors import InputError, UsageError
from zoo.images.pixels import SUFFIXES, as_input, read_pixels, read_rgb8
from zoo.images.resizing import resize_middle
from zoo.runner.array_input import load_arrays
from zoo.suggest import did_you_mean

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.artifacts.manifest import Manifest
    from zoo.contracts import FloatArray
    from zoo.contracts.input_parts import InputPart

#: What a run without files is called, and what it writes is named after.
NO_FILE = Path("inputs")
_IMAGES = ("rgb", "gray")


def parse_named(texts: Sequence[str]) -> dict[str, str]:
    """Return what stands for each input, from texts such as "left=a.png" and "level=0.5,3".

    Raises:
        UsageError: A text has no name, or two have the same.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and name and value) or name in found:
            why = "is named twice" if name in found else "is not NAME=VALUE"
            raise UsageError(
                f"--input {text}: the input {why}.",
                hint="Name each once, with a file or numbers:  --input left=a.png --input level=0.5,3",
            )
        found[name] = value
    return found


def files_of_run(manifest: Manifest, named: Mapping[str, str], files: Sequence[Path]) -> list[Path]:
    """Return the files that a run takes one after another, where inputs are named besides.

    Args:
        manifest: Of the network.
        named: The inputs that are named, which are the same for all files.
        files: Those that hold the others.

    Raises:
        UsageError: The network has no such input, files are missing, or there is nothing left for them.
    """
    names = [part.name for part in manifest.input.parts]
    if not names:
        raise UsageError(
            f"{manifest.architecture} has one input, which has no name.",
            hint="Name files:  zoo run ARTIFACT FILE",
        )
    unknown = sorted(set(named) - set(names))
    if unknown:
        raise UsageError(
            f"{manifest.architecture} has no input '{unknown[0]}'{did_you_mean(unknown[0], names) or '.'}",
            hint=f"Its inputs: {', '.join(map(str, manifest.input.parts))}",
        )
    left = [name for name in names if name not in named]
    if bool(left) != bool(files):
        what = f"Nothing is given for the inputs {', '.join(left)}" if left else "All inputs are named"
        raise UsageError(
            f"{what}{'' if left else ', so files are too much'}.",
            hint=f"Name them, or files that hold them:  --input {left[0]}=FILE"
            if left
            else "Leave the files out.",
        )
    return list(files) or [NO_FILE]


def read_named(path: Path, spec: InputSpec, named: Mapping[str, str]) -> FloatArray:
    """Return the inputs that are named, and those that a file holds, as one array, (N, C, H, W).

    Args:
        path: A file of arrays for all inputs that are not named, or an image for the only one. Those that are named go
            before what the file holds.
        spec: The inputs of the network.
        named: A file or numbers for each of the others; where the file of arrays holds several samples, for all.

    Raises:
        InputError: A file cannot be used, or what is given is not what the network expects.
    """
    arrays = {part.name: _given(named[part.name], part, spec) for part in spec.parts if part.name in named}
    left = [part for part in spec.parts if part.name not in named]
    if len(left) == 1 and path.suffix.lower() in SUFFIXES:
        arrays[left[0].name] = _image(path, left[0], spec)
    elif left:
        arrays = {**load_arrays(path, left), **arrays}
    count = max(len(array) for array in arrays.values())
    return spec.pack(
        {
            name: np.repeat(array, count, axis=0) if len(array) == 1 else array
            for name, array in arrays.items()
        }
    )


def _given(text: str, part: InputPart, spec: InputSpec) -> npt.NDArray[np.float32]:
    """One input with a batch dimension, from the name of a file or from numbers."""
    path = Path(text).expanduser()
    if path.suffix.lower() in SUFFIXES:
        return _image(path, part, spec)
    if path.exists():
        return load_arrays(path, [part])[part.name]
    try:
        numbers = np.array([float(each) for each in text.split(",")], dtype=np.float32)
    except ValueError:
        raise InputError(
            f"--input {part.name}={text} names neither a file that exists nor numbers.",
            hint=f"It is {part}: name a file of it, or its numbers, separated by commas.",
        ) from None
    wanted = int(np.prod(part.shape, dtype=np.int64))
    if len(numbers) not in (1, wanted):
        raise InputError(
            f"--input {part.name}={text} has {len(numbers)} numbers; {part} has {wanted}.",
            hint="Give all of them, or one for all places.",
        )
    shape = (1, *part.shape)
    return np.full(shape, numbers[0]) if len(numbers) == 1 else numbers.reshape(shape)


def _image(path: Path, part: InputPart, spec: InputSpec) -> npt.NDArray[np.float32]:
    """An image, (1, C, H, W) in [0, 1]; in the size of the network if that is fixed, resized and cut to the middle."""
    if part.kind not in _IMAGES:
        raise InputError(
            f"{path} is an image; the input {part} is not one.",
            hint=f"Name a file of arrays (.npz, .npy, .safetensors) or numbers:  --input {part.name}=...",
        )
    takes = InputSpec(
        "rgb" if part.kind == "rgb" else "gray", part.shape[0], example=(part.shape[-2], part.shape[-1])
    )
    fixed = spec.fixed_size or not spec.packing.planes
    pixels = (
        resize_middle(read_rgb8(path), takes.example, 1.0, None) if fixed else read_pixels(path, upright=True)
    )
    return as_input(pixels, takes, path)[None]
