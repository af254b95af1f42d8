"""What a survey asks, and which picture is whose: the file that stays with whoever made the page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from zoo.contracts.limits import Limits
from zoo.errors import InputError
from zoo.schema import StrictTable, parse_json
from zoo.schema.reader import read
from zoo.storage.atomic import read_bytes

FORMAT = 1
KEY_NAME = "survey.json"
_LARGEST = 4 << 20
MOST_PAIRS = 2000


@dataclass(frozen=True)
class AskedPair:
    """Two crops of one photograph, as two methods show it.

    Attributes:
        photo: Name of the photograph.
        first: Index of a method.
        second: Index of another.
    """

    photo: str
    first: Annotated[int, Limits(0, 99)]
    second: Annotated[int, Limits(0, 99)]


@dataclass(frozen=True)
class SurveyKey:
    """A survey.

    Attributes:
        id: Of the survey, which answers state.
        methods: Names, as the folders are called.
        pairs: In the order of their numbers.
        repeats: Pairs that each judge is asked twice.
        psnr_db: Of the crops against the reference, by photograph, one for each method; empty without a reference.
        ssim: As `psnr_db`.
    """

    id: str
    methods: Annotated[tuple[str, ...], Limits(2, 100)]
    pairs: Annotated[tuple[AskedPair, ...], Limits(1, MOST_PAIRS)]
    repeats: Annotated[int, Limits(0, MOST_PAIRS)]
    psnr_db: Mapping[str, tuple[float, ...]]
    ssim: Mapping[str, tuple[float, ...]]

    def to_json(self) -> str:
        """Return the content of the file."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n"


def read_key(path: Path) -> SurveyKey:
    """Read a survey.json, or that of a folder.

    Raises:
        InputError: It cannot be read or is malformed.
    """
    path = path / KEY_NAME if path.is_dir() else path
    table = StrictTable(
        parse_json(read_bytes(path, _LARGEST), str(path), error=InputError), str(path), error=InputError
    )
    table.check_format("survey", FORMAT)
    figures = {name: _figures(table.table(name)) for name in ("psnr_db", "ssim")}
    key = read(SurveyKey, table, **figures)
    count = len(key.methods)
    if any(pair.first == pair.second or max(pair.first, pair.second) >= count for pair in key.pairs):
        table.refuse("names methods that it does not have", "pairs")
    if any(len(values) != count for values in (*key.psnr_db.values(), *key.ssim.values())):
        table.refuse("has figures for another number of methods", "psnr_db")
    return key


def _figures(table: StrictTable) -> dict[str, tuple[float, ...]]:
    """The figures of each photograph, one for each method."""
    return {name: table.numbers(name, longest=100) for name in table}
