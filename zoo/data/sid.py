"""`sid`: the See-in-the-Dark photographs, from the folders and list files that the authors publish."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from zoo.contracts import Architecture, CropSize, Dataset, Sample, Split
from zoo.data.picture_files import refuse_or_skip
from zoo.data.random_crops import random_window
from zoo.data.raw_sample import raw_sample
from zoo.errors import InputError, UsageError
from zoo.options import option
from zoo.raw.decode import decode
from zoo.raw.pack import pack_mosaic
from zoo.raw.sniff import HEAD, has_raw_header, other_kind
from zoo.storage.atomic import open_linked, read_text, without_links

if TYPE_CHECKING:
    import numpy.typing as npt

_RATIO_LIMIT = 300.0
#: crops taken from a pair before the next one is opened: decoding a pair takes seconds
_CROPS_A_PAIR = 8
_EXPOSURE = re.compile(r"_(\d+(?:\.\d+)?)s\.[A-Za-z0-9]+$")
#: the authors leave these misaligned test images out of quantitative results
_MISALIGNED = ("10034", "10045", "10172")


@dataclass(frozen=True)
class SidConfig:
    """Options of `sid`."""

    root: str = option("", help="folder holding Sony/, Fuji/ and the list files")
    camera: Literal["Sony", "Fuji"] = option("Sony", help="which half of the data")
    skip_bad: bool = option(False, help="leave out files that cannot be used, instead of refusing them")


@dataclass(frozen=True)
class Pair:
    """A short and a long exposure of one scene.

    Attributes:
        ratio: How many times longer the second is, at most 300.
    """

    short: Path
    long: Path
    ratio: float
    scene: str


class SeeInTheDark(Dataset):
    """Chen et al., "Learning to See in the Dark", CVPR 2018.

    Splits are those of the list files (`Sony_train_list.txt`, ...). The exposure ratio comes from the file names;
    the target is LibRaw's development of the long exposure with the camera's white balance, 16 bits.
    """

    id: ClassVar[str] = "sid"
    summary: ClassVar[str] = "See-in-the-Dark: short and long exposures, from the authors' tree and lists"
    Config: ClassVar[type] = SidConfig
    tasks: ClassVar[frozenset[str]] = frozenset({"raw-to-rgb"})
    rectangular: ClassVar[bool] = True
    config: SidConfig

    def __init__(self, config: SidConfig | None = None) -> None:
        super().__init__(config)
        self._pairs: dict[Split, list[Pair]] = {}
        self._notes: list[str] = []

    def pairs(self, split: Split) -> list[Pair]:
        """Return the pairs of a split, in the order of the list file."""
        if split not in self._pairs:
            self._pairs[split] = self._read(split)
        return self._pairs[split]

    def _read(self, split: Split) -> list[Pair]:
        if not self.config.root:
            raise UsageError("sid needs the folder of the data.", hint="Name it:  --data 'sid(root=DIR)'")
        root = Path(self.config.root).expanduser()
        listing = root / f"{self.config.camera}_{split}_list.txt"
        try:
            lines = read_text(listing).splitlines()
        except InputError as error:
            raise InputError(
                f"The list file {listing} cannot be read: {error.message}",
                hint="The folder must contain the published lists next to Sony/ and Fuji/.",
            ) from error
        pairs = [
            _pair(root, line, f"{listing}:{number}") for number, line in enumerate(lines, 1) if line.strip()
        ]
        if split == "test":
            pairs = [pair for pair in pairs if pair.scene not in _MISALIGNED]
        faults = {
            str(path): fault for pair in pairs for path in (pair.short, pair.long) if (fault := _fault(path))
        }
        what = f"of {listing.name} cannot be used"
        refuse_or_skip(faults, what, self.id, self._notes, skip_bad=self.config.skip_bad)
        pairs = [pair for pair in pairs if not faults.keys() & {str(pair.short), str(pair.long)}]
        if not pairs:
            raise InputError(
                f"The list file {listing} contains no pairs{' that can be used' if faults else ''}."
            )
        return pairs

    def notes(self) -> Sequence[str]:
        splits: tuple[Split, ...] = ("train", "val", "test")
        for split in splits:
            self.pairs(split)
        return self._notes

    def scenes(self, split: Split) -> Sequence[str]:
        return list(dict.fromkeys(pair.scene for pair in self.pairs(split)))

    def identity(self) -> str:
        counts = "-".join(str(len(self.pairs(split))) for split in ("train", "val", "test"))
        return f"sid/{self.config.camera}({counts})"

    def crops(
        self, architecture: Architecture, size: CropSize, seed: int, start: int = 0
    ) -> Iterator[Sample]:
        pairs = self.pairs("train")
        number = start
        held: tuple[int, Sample] | None = None
        while True:
            visit = number // _CROPS_A_PAIR
            if held is None or held[0] != visit:
                epoch, position = divmod(visit, len(pairs))
                order = np.random.default_rng((seed, 1, epoch)).permutation(len(pairs))
                held = visit, _load(pairs[int(order[position])], architecture)
            rng = np.random.default_rng((seed, 2, number))
            multiple, scale = architecture.input.multiple_of, architecture.output.scale
            yield random_window(held[1], size, scale, multiple, number, rng)
            number += 1

    def frames(self, architecture: Architecture, split: Split, seed: int = 0) -> Iterator[Sample]:
        for pair in self.pairs(split):
            yield _load(pair, architecture)


def _pair(root: Path, line: str, where: str) -> Pair:
    words = line.split()
    if len(words) < 2:
        raise InputError(f"{where}: expected a short and a long file, found {line.strip()!r}.")
    short, long = (root / word for word in words[:2])
    for path in (short, long):
        if not without_links(path).is_relative_to(without_links(root)):
            raise InputError(f"{where}: {path} is outside {root}.")
    ratio = min(_seconds(long, where) / _seconds(short, where), _RATIO_LIMIT)
    return Pair(short, long, ratio, short.name.split("_", 1)[0])


def _fault(path: Path) -> str:
    """What is wrong with a RAW file, as far as its first bytes tell; "" for nothing."""
    try:
        with open_linked(path) as file:
            head = file.read(HEAD)
    except OSError as error:
        return f"{path}: {error.strerror or error}"
    except InputError as error:
        return error.message
    if not head:
        return f"{path} is empty (0 bytes)"
    return "" if has_raw_header(head) else f"{path} is {other_kind(head) or 'not a RAW file'}"


def _seconds(path: Path, where: str) -> float:
    match = _EXPOSURE.search(path.name)
    if match is None or float(match.group(1)) <= 0:
        raise InputError(
            f"{where}: the file name {path.name} does not end in its exposure time, as in _0.04s.ARW."
        )
    return float(match.group(1))


def _load(pair: Pair, architecture: Architecture) -> Sample:
    frame = decode(pair.short)
    if frame.kind != architecture.input.mosaic:
        raise UsageError(
            f"{pair.short} is from a {frame.kind} sensor; {architecture.id} expects {architecture.input.mosaic} files.",
            hint="Use --data 'sid(root=DIR,camera=Fuji)' with unet-xtrans, camera=Sony with the others.",
        )
    packed = pack_mosaic(frame, architecture.input, pair.ratio)
    target = _develop(pair.long)
    height, width = frame.mosaic.shape
    if target.shape[:2] != (height, width):
        raise InputError(
            f"{pair.long} develops to {target.shape[1]}x{target.shape[0]}, its short exposure is {width}x{height}."
        )
    picture = target.transpose(2, 0, 1).astype(np.float32) / np.float32(65535)
    if packed.top or packed.left:  # the packed frame starts that many pixels earlier
        picture = np.pad(picture, ((0, 0), (packed.top, 0), (packed.left, 0)), mode="reflect")
    return raw_sample(pair.short.stem, pair.scene, packed.data, picture, frame, architecture)


def _develop(path: Path) -> npt.NDArray[np.uint16]:
    import rawpy

    decode(path)  # says clearly what is wrong with a bad file
    with rawpy.imread(str(path)) as raw:
        return np.asarray(
            raw.postprocess(
                use_camera_wb=True, half_size=False, no_auto_bright=True, output_bps=16, user_flip=0
            )
        )
