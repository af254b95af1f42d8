"""Answers files: what a judge sends back, checked before anything is counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from zoo.contracts.limits import Limits
from zoo.errors import InputError
from zoo.schema import StrictTable, parse_json
from zoo.schema.reader import read
from zoo.storage.atomic import read_bytes
from zoo.survey.survey_key import FORMAT, MOST_PAIRS, SurveyKey

LARGEST_ANSWERS = 1 << 20
_JUDGE = "[0-9a-f]{16}"
_DAY_MS = 86_400_000


@dataclass(frozen=True)
class Judgement:
    """One answer.

    Attributes:
        pair: Number of the pair.
        again: Whether it is the hidden repeat.
        swapped: Whether the second picture was on the left.
        chosen: The better picture.
        ms: Milliseconds that it took.
    """

    pair: Annotated[int, Limits(0, MOST_PAIRS)]
    again: bool
    swapped: bool
    chosen: Literal["first", "second", "same"]
    ms: Annotated[int, Limits(0, _DAY_MS)]


@dataclass(frozen=True)
class Answers:
    """What one judge answered."""

    judge: str
    judgements: tuple[Judgement, ...]


def parse_answers(content: bytes, source: str, key: SurveyKey) -> Answers:
    """Return the answers in a file to a survey.

    Raises:
        InputError: It is malformed, belongs to another survey, or answers what was not asked.
    """
    if len(content) > LARGEST_ANSWERS:
        raise InputError(f"{source} is larger than any answers to a survey.")
    table = StrictTable(parse_json(content, source, error=InputError), source, error=InputError)
    table.check_format("answers", FORMAT)
    if table.text("survey", longest=100) != key.id:
        table.refuse("belongs to another survey", "survey")
    judge = table.text("judge", pattern=_JUDGE)
    rows = table.list_of_tables("answers", most=len(key.pairs) + key.repeats)
    table.close()
    judgements = tuple(read(Judgement, row) for row in rows)
    seen = set()
    for judgement, row in zip(judgements, rows, strict=True):
        if judgement.pair >= len(key.pairs):
            row.refuse("is no pair of the survey", "pair")
        if (judgement.pair, judgement.again) in seen:
            row.refuse("is answered twice", "pair")
        seen.add((judgement.pair, judgement.again))
    if sum(each.again for each in judgements) > key.repeats:
        table.refuse("holds more repeats than were asked", "answers")
    return Answers(judge, judgements)


def read_answers(paths: Iterable[Path], key: SurveyKey) -> list[Answers]:
    """Read answers files, and all in folders; of one judge the file with the most answers counts.

    Raises:
        InputError: A file is refused, as :func:`parse_answers` says, or there is none.
    """
    found: dict[str, Answers] = {}
    for path in paths:
        for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
            one = parse_answers(read_bytes(file, LARGEST_ANSWERS), str(file), key)
            known = found.get(one.judge)
            if known is None or len(one.judgements) > len(known.judgements):
                found[one.judge] = one
    if not found:
        raise InputError("There are no answers.", hint="Name the files that the judges sent back.")
    return list(found.values())
