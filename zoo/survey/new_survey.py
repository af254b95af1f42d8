"""Making a survey: crops of the same place from each method's pictures, and the page that shows them in pairs."""

from __future__ import annotations

import base64
import io
import itertools
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.contracts import Reporter, SilentReporter
from zoo.errors import InputError, MissingDependencyError, OutputError, UsageError
from zoo.images.pixels import SUFFIXES, read_rgb8
from zoo.storage.atomic import atomic_folder, check_folder_target, without_links
from zoo.survey.survey_key import KEY_NAME, MOST_PAIRS, AskedPair, SurveyKey

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Picture = npt.NDArray[np.uint8]

PAGE_NAME = "index.html"
_MOST_METHODS = 12
#: Pages above this are slow to load on a phone.
_LARGEST_PAGE = 256 << 20


@dataclass(frozen=True)
class NewSurvey:
    """What was made.

    Attributes:
        folder: Holds the page, which judges get, and the key, which they do not.
        key: The key.
        bytes: Of the page.
    """

    folder: Path
    key: SurveyKey
    bytes: int


def make_survey(
    folders: Sequence[Path],
    out: Path,
    *,
    photos: Path | None = None,
    side: int = 400,
    most: int = 60,
    repeats: int = 6,
    seed: int = 0,
    title: str = "Which picture looks better?",
    replace: bool = False,
    reporter: Reporter | None = None,
) -> NewSurvey:
    """Write a survey of the pictures that have the same name in all folders.

    A crop lies where the methods differ most. Each pair of methods is asked about each photograph, or as many pairs of
    them, spread evenly, as `most` allows.

    Args:
        folders: One for each method, whose name is the folder's.
        out: The folder to write.
        photos: Folder of reference pictures of the same names; where they have the same size, PSNR and SSIM of the
            crops are kept in the key.
        side: Of a crop, in pixels.
        most: Pairs that a judge is asked about, repeats not counted.
        repeats: Pairs that each judge is asked twice, unknowingly.
        seed: Of the choice of pairs.
        title: The question.
        replace: Whether an existing survey is replaced.
        reporter: Is told of each photograph.

    Raises:
        UsageError: There are fewer than two folders, or two of one name.
        InputError: A picture cannot be read, or has another size than that of another method.
        OutputError: The folder cannot be written.
    """
    import numpy as np

    reporter = reporter or SilentReporter()
    _check_target(out, replace)
    methods = _names(folders)
    names = _common(folders, photos)
    rng = np.random.default_rng(seed)
    pairs = _pairs(names, len(methods), min(most, MOST_PAIRS), rng)
    crops: dict[tuple[str, int], Picture] = {}
    psnr_db: dict[str, tuple[float, ...]] = {}
    ssim: dict[str, tuple[float, ...]] = {}
    reporter.start("crop", len(names), "photographs")
    for name in names:
        pictures = [read_rgb8(_file(folder, name)) for folder in folders]
        _check_sizes(pictures, folders, name)
        top, left = _most_different(pictures, side)
        cut = np.s_[top : top + side, left : left + side]
        crops |= {(name, method): picture[cut] for method, picture in enumerate(pictures)}
        wanted = None if photos is None else read_rgb8(_file(photos, name))
        if wanted is not None and wanted.shape == pictures[0].shape:
            scores = [_scores(picture[cut], wanted[cut]) for picture in pictures]
            psnr_db[name] = tuple(round(each["psnr_db"], 3) for each in scores)
            if all("ssim" in each for each in scores):
                ssim[name] = tuple(round(each["ssim"], 5) for each in scores)
        reporter.advance()
    reporter.finish()
    key = SurveyKey(secrets.token_hex(8), methods, tuple(pairs), min(repeats, len(pairs)), psnr_db, ssim)
    page = _page(key, crops, title).encode()
    if len(page) > _LARGEST_PAGE:
        raise UsageError(
            f"The page would have {len(page) >> 20} MB.",
            hint="Ask about fewer pairs (--pairs) or smaller crops (--crop).",
        )
    with atomic_folder(out, replace=replace) as folder:
        (folder / PAGE_NAME).write_bytes(page)
        (folder / KEY_NAME).write_text(key.to_json())
    return NewSurvey(out, key, len(page))


def _check_target(out: Path, replace: bool) -> None:
    check_folder_target(out, replace=replace)
    if replace and out.is_dir() and any(out.iterdir()) and not (out / KEY_NAME).is_file():
        raise OutputError(
            f"{out} exists and is not a survey, so it is not replaced.",
            hint="Name another folder with --out.",
        )


def _names(folders: Sequence[Path]) -> tuple[str, ...]:
    methods = tuple(without_links(folder).name for folder in folders)
    if not 2 <= len(methods) <= _MOST_METHODS:
        raise UsageError(f"A survey compares 2 to {_MOST_METHODS} folders of pictures.")
    if len(set(methods)) < len(methods):
        raise UsageError("Two folders have the same name, which is the method's.", hint="Rename one.")
    return methods


def _files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder of pictures.")
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES}


def _file(folder: Path, name: str) -> Path:
    return _files(folder)[name]


def _common(folders: Sequence[Path], photos: Path | None) -> list[str]:
    """The names that all folders have."""
    found = [set(_files(folder)) for folder in (*folders, *([] if photos is None else [photos]))]
    names = sorted(set.intersection(*found))
    if not names:
        raise InputError(
            "No picture has the same name in all folders.", hint="Run each method on the same files."
        )
    return names


def _pairs(names: Sequence[str], methods: int, most: int, rng: np.random.Generator) -> list[AskedPair]:
    everything = [
        AskedPair(name, *combination)
        for combination in itertools.combinations(range(methods), 2)
        for name in rng.permutation(names).tolist()
    ]
    # Taken in turns, so that each two methods meet equally often.
    rounds = [everything[start :: len(names)] for start in range(len(names))]
    return list(itertools.islice(itertools.chain.from_iterable(rounds), most))


def _check_sizes(pictures: Sequence[Picture], folders: Sequence[Path], name: str) -> None:
    for picture, folder in zip(pictures, folders, strict=True):
        if picture.shape != pictures[0].shape:
            height, width = picture.shape[:2]
            raise InputError(
                f"{_file(folder, name)} is {width} x {height}; that of {folders[0]} is "
                f"{pictures[0].shape[1]} x {pictures[0].shape[0]}."
            )


def _most_different(pictures: Sequence[Picture], side: int) -> tuple[int, int]:
    """Where in the pictures a crop begins in which they differ most."""
    import numpy as np

    spread = np.ptp(np.stack([picture.mean(axis=2) for picture in pictures]), axis=0)
    height, width = spread.shape
    sums = np.pad(spread.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    rows, columns = min(side, height), min(side, width)
    totals = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns] + sums[:-rows, :-columns]
    top, left = np.unravel_index(int(totals.argmax()), totals.shape)
    return int(top), int(left)


def _scores(picture: Picture, wanted: Picture) -> dict[str, float]:
    import numpy as np

    from zoo.images.decibels import psnr

    shown, target = (
        each.transpose(2, 0, 1).astype(np.float32) / np.float32(255) for each in (picture, wanted)
    )
    try:
        from zoo.tasks.image_scores import compare_images

        return compare_images(shown, target)
    except (ImportError, MissingDependencyError):  # scikit-image is part of the extra 'compress'
        return {"psnr_db": psnr(float(np.mean(np.square(shown - target, dtype=np.float64))))}


def _page(key: SurveyKey, crops: dict[tuple[str, int], Picture], title: str) -> str:
    """The page: pictures and pairs by number, nothing of names."""
    used = sorted({(pair.photo, method) for pair in key.pairs for method in (pair.first, pair.second)})
    # In an order that says nothing of the method.
    order = {place: number for number, place in enumerate(sorted(used, key=lambda _: secrets.token_bytes(8)))}
    pictures = [""] * len(order)
    for place, number in order.items():
        pictures[number] = _data_uri(crops[place])
    data = {
        "survey": key.id,
        "title": title,
        "repeats": key.repeats,
        "pairs": [[order[pair.photo, pair.first], order[pair.photo, pair.second]] for pair in key.pairs],
        "pictures": pictures,
    }
    template = resources.files("zoo.survey").joinpath("page.html").read_text()
    return template.replace("/*DATA*/", _in_script(data))


def _in_script(data: object) -> str:
    """JSON that may stand in a script element."""
    return json.dumps(data).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _data_uri(picture: Picture) -> str:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
