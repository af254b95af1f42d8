"""The report of a search: one page that needs nothing else, and a plot that is valid SVG."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from support.searching import request, run
from zoo.search.front_report import write_report

pytest.importorskip("optuna")
pytestmark = [pytest.mark.usefixtures("third_party"), pytest.mark.xdist_group("search")]


def test_a_report_shows_every_candidate_and_loads_nothing(tmp_path: Path) -> None:
    wanted = request(tmp_path, trials=9, limits={"size": 240e3})
    result = run(wanted)
    page = write_report(wanted, result, {"score": {"ptq|qat": 0.75}, "size": {}}).read_text()
    drawn = ElementTree.fromstring((tmp_path / "front.svg").read_text())
    circles = [each for each in drawn.iter() if each.tag.endswith("circle")]
    assert len(circles) == len(result.points)
    titles = [each[0].text or "" for each in circles]
    assert {title.splitlines()[0] for title in titles} == {point.outcome.recipe for point in result.points}
    assert sum(each.get("class") == "best" for each in circles) == len(result.front)
    assert any(each.get("class") == "over" for each in circles)
    assert "75%" in page
    for point in result.front:
        assert (
            f"zoo apply &#x27;{point.outcome.recipe}&#x27; small-unet --steps {point.outcome.steps}" in page
        )
    for table in page.split("<table>")[1:]:
        rows = table.partition("</table>")[0].split("<tr")[1:]
        assert len({len(re.findall("<t[hd]", row)) for row in rows}) == 1
    assert not re.search(r"<script|src=|href=|@import|url\(", page)


def test_nothing_measured_is_reported_too(tmp_path: Path) -> None:
    wanted = request(tmp_path, space="qat(bits=4)")
    page = write_report(wanted, run(wanted), {}).read_text()
    assert "nothing was measured" in page
    assert "it always fails" in page
