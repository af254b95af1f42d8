"""`clips`: videos as folders of pictures, in a folder for each emotion."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from zoo.contracts import Architecture, CropSize, Dataset, InputSpec, Sample, SampleFiles, Split
from zoo.data.picture_files import PictureFile, check_pictures, find_pictures, folder_of, refuse_or_skip
from zoo.data.picture_folders import ImageCache
from zoo.data.random_crops import drawn, for_training
from zoo.data.splits import held_out, interleaved
from zoo.errors import InputError
from zoo.images.pixels import as_input, read_rgb8
from zoo.images.resizing import resize_middle
from zoo.options import option
from zoo_emotion import EMOTIONS
from zoo_emotion.face_detection import Box, find_face
from zoo_emotion.sampling import check_network, face_size, sample_of

if TYPE_CHECKING:
    from zoo.contracts import FloatArray

_VERSION = 1
_GRAY = InputSpec("gray", 1)
#: Where a clip is looked at to find its face, as shares of its length.
_LOOKED_AT = (0.5, 0.0, 1.0)


@dataclass(frozen=True)
class ClipsConfig:
    """Options of `clips`."""

    root: str = option("", help="folder with a folder per emotion, which hold a folder of frames per clip")
    faces: bool = option(
        False, help="crop each clip to the face that OpenCV finds in it; needs zoo-emotion[faces]"
    )
    test_share: float = option(0.2, minimum=0.0, maximum=1.0, help="share of each class held out")
    val_share: float = option(0.1, minimum=0.0, maximum=0.9, help="share of the rest for validation")
    skip_bad: bool = option(
        False, help="leave out files and clips that cannot be used, instead of refusing them"
    )


@dataclass(frozen=True)
class _Clip:
    name: str
    label: str
    frames: tuple[PictureFile, ...]
    face: Box | None = None


class Clips(Dataset):
    """Clips whose frames are pictures in the order of their names, ``ROOT/happiness/clip7/0001.jpg``.

    A scene is a clip. Classes are numbered as the package numbers emotions, or, if one has another name, in the order
    of their names.
    """

    contract = 1
    id: ClassVar[str] = "clips"
    summary: ClassVar[str] = "your own clips, as folders of frames in a folder per class"
    Config: ClassVar[type] = ClipsConfig
    tasks: ClassVar[frozenset[str]] = frozenset({"classification"})
    rectangular: ClassVar[bool] = True
    config: ClipsConfig

    def __init__(self, config: ClipsConfig | None = None) -> None:
        super().__init__(config)
        self._notes: list[str] = []
        self._clips = {clip.name: clip for clip in self._found(folder_of(self.config.root, self.id, "root"))}
        labels = sorted({clip.label for clip in self._clips.values()})
        self._classes = EMOTIONS if set(labels) <= set(EMOTIONS) else tuple(labels)
        self._splits = self._split()
        self._pictures: ImageCache[tuple[Path, Box | None]] = ImageCache(_read)

    def _found(self, root: Path) -> list[_Clip]:
        usable, faults = check_pictures(find_pictures(root), decode=self.config.skip_bad)
        self._skip(faults, "cannot be used")
        frames: dict[tuple[str, str], list[PictureFile]] = defaultdict(list)
        alone: dict[str, str] = {}
        for file in usable:
            parts = PurePosixPath(file.name).parts
            if len(parts) == 3:
                frames[parts[0], parts[1]].append(file)
            else:
                alone[file.name] = str(file.path)
        if not frames:
            raise InputError(
                f"{root} has no clips: pictures in folders of clips in folders of classes.",
                hint="Sort them into DIR/CLASS/CLIP/",
            )
        self._skip(alone, "in no folder of a clip")
        clips = [_Clip(f"{label}/{clip}", label, tuple(files)) for (label, clip), files in frames.items()]
        return self._with_faces(clips) if self.config.faces else clips

    def _with_faces(self, clips: Sequence[_Clip]) -> list[_Clip]:
        """Return the clips in which a face is found, with where it is; the others are refused or left out."""
        found, faults = [], {}
        for clip in clips:
            places = dict.fromkeys(round(share * (len(clip.frames) - 1)) for share in _LOOKED_AT)
            faces = (find_face(read_rgb8(clip.frames[place].path)) for place in places)
            face = next((each for each in faces if each is not None), None)
            if face is None:
                faults[clip.name] = f"the clip {clip.name}"
            else:
                found.append(_Clip(clip.name, clip.label, clip.frames, face))
        self._skip(faults, "in which no face was found")
        if not found:
            raise InputError("No face was found in any clip.", hint="Leave out faces=true.")
        return found

    def _skip(self, faults: dict[str, str], what: str) -> None:
        refuse_or_skip(faults, what, self.id, self._notes, skip_bad=self.config.skip_bad)

    def _split(self) -> dict[Split, list[_Clip]]:
        labels = {clip.name: clip.label for clip in self._clips.values()}
        test = held_out(labels, self.config.test_share, "test")
        rest = {name: label for name, label in labels.items() if name not in test}
        val = held_out(rest, self.config.val_share, "val")
        names: dict[Split, set[str]] = {"train": rest.keys() - val, "val": val, "test": test}
        return {
            split: [self._clips[name] for name in interleaved({name: labels[name] for name in found})]
            for split, found in names.items()
        }

    def scenes(self, split: Split) -> Sequence[str]:
        return [clip.name for clip in self._splits[split]]

    def class_names(self) -> Sequence[str]:
        return self._classes

    def notes(self) -> Sequence[str]:
        return self._notes

    def files(self) -> Sequence[SampleFiles]:
        return [
            SampleFiles(clip.name, split, tuple(file.path for file in clip.frames), (clip.label,))
            for split, clips in self._splits.items()
            for clip in clips
        ]

    def identity(self) -> str:
        return self._identity

    @cached_property
    def _identity(self) -> str:
        digest = hashlib.sha256()
        for split, clips in self._splits.items():
            for clip in clips:
                digest.update(f"{split}/{clip.name}/{clip.face}\n".encode())
                for file in clip.frames:
                    digest.update(f"{file.name}/{file.digest}\n".encode())
        return f"clips/{_VERSION}({len(self._clips)};{digest.hexdigest()})"

    def check(self, architecture: Architecture) -> None:
        check_network(architecture, self.id, len(self._classes))

    def crops(
        self, architecture: Architecture, size: CropSize, seed: int, start: int = 0
    ) -> Iterator[Sample]:
        self.check(architecture)
        for number, clip, rng in drawn(for_training(self._splits["train"], self.id), seed, start):
            sides = face_size(architecture, size)
            yield self._sample(clip, f"{clip.name}#{number}", architecture, sides, rng)

    def frames(self, architecture: Architecture, split: Split, seed: int = 0) -> Iterator[Sample]:
        self.check(architecture)
        for clip in self._splits[split]:
            yield self._sample(clip, clip.name, architecture, face_size(architecture))

    def _sample(
        self,
        clip: _Clip,
        name: str,
        architecture: Architecture,
        size: tuple[int, int],
        rng: np.random.Generator | None = None,
    ) -> Sample:
        def frame(number: int) -> FloatArray:
            file = clip.frames[number]
            picture = self._pictures.get((file.path, clip.face))
            gray: FloatArray = as_input(resize_middle(picture, size, 1.0, "bilinear"), _GRAY, file.path)[0]
            return gray

        label = self._classes.index(clip.label)
        return sample_of(architecture, name, clip.name, len(clip.frames), frame, label, rng)


def _read(key: tuple[Path, Box | None]) -> np.ndarray:
    """Return a picture, cut to a face if one is stated."""
    path, face = key
    picture = read_rgb8(path)
    if face is None:
        return picture
    top, bottom, left, right = face
    cut = picture[top:bottom, left:right]
    return np.ascontiguousarray(cut) if cut.size else picture
