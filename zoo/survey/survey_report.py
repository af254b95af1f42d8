"""What the answers to a survey say: scores, how consistent judges are, and whether PSNR and SSIM agree with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from zoo.survey.answers import Answers, Judgement
from zoo.survey.bradley_terry import MethodScore, fit_scores
from zoo.survey.survey_key import SurveyKey

_SIGN = {"first": 1, "second": -1, "same": 0}
_ROW, _LEFT, _WIDTH = 34, 160, 560


@dataclass(frozen=True)
class Judge:
    """One judge.

    Attributes:
        judge: Its random id.
        answers: How many.
        repeated: Pairs that were asked twice.
        consistent: Of those, how many were answered the same.
        left: Share of the choices that fell on the left picture; None without any.
    """

    judge: str
    answers: int
    repeated: int
    consistent: int
    left: float | None


@dataclass(frozen=True)
class Agreement:
    """How often people chose the picture that a measure says is better; ties of people do not count.

    Attributes:
        agreed: Choices that agree.
        of: All choices of pictures that the measure tells apart.
    """

    agreed: int
    of: int


@dataclass(frozen=True)
class SurveyReport:
    """The report.

    Attributes:
        scores: By method, best first.
        wins: By method, then by method: how often the one was chosen over the other; ties count half.
        judges: One for each file.
        agreement: By measure, "PSNR" and "SSIM", where a reference was given.
    """

    scores: Mapping[str, MethodScore]
    wins: Mapping[str, Mapping[str, float]]
    judges: Sequence[Judge]
    agreement: Mapping[str, Agreement]

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for `--json`."""
        return {
            "scores": {name: asdict(score) for name, score in self.scores.items()},
            "wins": {name: dict(row) for name, row in self.wins.items()},
            "judges": [asdict(judge) for judge in self.judges],
            "agreement": {name: asdict(each) for name, each in self.agreement.items()},
        }


def make_report(key: SurveyKey, answers: Sequence[Answers]) -> SurveyReport:
    """Return what answers say. Repeats tell of the judge alone, and count for no method."""
    import numpy as np

    count = len(key.methods)
    wins = np.zeros((count, count))
    for judgement in _first(answers):
        pair, sign = key.pairs[judgement.pair], _SIGN[judgement.chosen]
        wins[pair.first, pair.second] += (1 + sign) / 2
        wins[pair.second, pair.first] += (1 - sign) / 2
    scores = dict(zip(key.methods, fit_scores(wins), strict=True))
    table = {
        name: dict(zip(key.methods, row, strict=True))
        for name, row in zip(key.methods, wins.tolist(), strict=True)
    }
    measured = {"PSNR": key.psnr_db, "SSIM": key.ssim}
    return SurveyReport(
        dict(sorted(scores.items(), key=lambda item: -item[1].value)),
        table,
        [_judge(each) for each in answers],
        {name: _agreement(key, values, answers) for name, values in measured.items() if values},
    )


def draw_scores(report: SurveyReport) -> str:
    """Return an SVG picture: a line for each method, its score and its interval."""
    ends = [end for score in report.scores.values() for end in (score.low, score.high)]
    low, high = min(ends), max(ends)
    scale = (_WIDTH - _LEFT - 40) / ((high - low) or 1)

    def at(value: float) -> float:
        return _LEFT + 20 + (value - low) * scale

    height = _ROW * len(report.scores) + 40
    parts = [f'<line x1="{at(0):.1f}" x2="{at(0):.1f}" y1="8" y2="{height - 32}" stroke="#bbb"/>']
    for place, (name, score) in enumerate(report.scores.items()):
        y = 24 + _ROW * place
        parts.append(
            f'<text x="{_LEFT}" y="{y + 4}" text-anchor="end">{escape(name[:24])}</text>'
            f'<line x1="{at(score.low):.1f}" x2="{at(score.high):.1f}" y1="{y}" y2="{y}" stroke="#1e64be" '
            'stroke-width="2"/>'
            f'<circle cx="{at(score.value):.1f}" cy="{y}" r="5" fill="#1e64be">'
            f"<title>{score.value:.2f}</title></circle>"
        )
    parts.append(f'<text x="{at(low):.1f}" y="{height - 10}">{low:.1f}</text>')
    parts.append(f'<text x="{at(high):.1f}" y="{height - 10}" text-anchor="end">{high:.1f}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}">'
        '<style>text{font:13px sans-serif;fill:#333}</style><rect width="100%" height="100%" fill="#fff"/>'
        f"{''.join(parts)}</svg>"
    )


def _first(answers: Sequence[Answers]) -> list[Judgement]:
    return [each for one in answers for each in one.judgements if not each.again]


def _judge(answers: Answers) -> Judge:
    first = {each.pair: each.chosen for each in answers.judgements if not each.again}
    again = [each for each in answers.judgements if each.again and each.pair in first]
    sides = [(each.chosen == "first") != each.swapped for each in answers.judgements if each.chosen != "same"]
    return Judge(
        answers.judge,
        len(answers.judgements),
        len(again),
        sum(each.chosen == first[each.pair] for each in again),
        sum(sides) / len(sides) if sides else None,
    )


def _agreement(
    key: SurveyKey, values: Mapping[str, tuple[float, ...]], answers: Sequence[Answers]
) -> Agreement:
    agreed = total = 0
    for judgement in _first(answers):
        pair, sign = key.pairs[judgement.pair], _SIGN[judgement.chosen]
        measured = values.get(pair.photo)
        if measured is None or not sign or measured[pair.first] == measured[pair.second]:
            continue
        total += 1
        agreed += (measured[pair.first] > measured[pair.second]) == (sign > 0)
    return Agreement(agreed, total)
