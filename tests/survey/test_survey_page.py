"""The page in a real browser: judgements by clicks and keys, closed half-way, on a phone."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.browser import PROGRAM, Browser
from zoo.survey.answers import parse_answers, read_answers
from zoo.survey.new_survey import make_survey
from zoo.survey.server import SurveyServer
from zoo.survey.survey_key import SurveyKey
from zoo.survey.survey_report import make_report

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed")

#: Chooses by the brightness of the pictures shown, which is the method: the left picture's minus the right one's.
BRIGHTER = """(async () => {
  const sums = [];
  for (const id of ["left", "right"]) {
    const image = document.querySelector("#" + id + " img");
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 8;
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    sums.push(context.getImageData(0, 0, 8, 8).data.reduce((a, b) => a + b));
  }
  return sums[0] - sums[1];
})()"""


@pytest.fixture
def survey(tmp_path: Path) -> SurveyKey:
    """Nine photographs by three methods, each brighter than the one before: 27 pairs and 3 repeats."""
    folders = [tmp_path / name for name in ("dark", "medium", "bright")]
    for level, folder in zip((40, 120, 200), folders, strict=True):
        folder.mkdir()
        for number in range(9):
            Image.fromarray(np.full((40, 60, 3), level + number, np.uint8)).save(folder / f"p{number}.png")
    return make_survey(folders, tmp_path / "survey", side=40, repeats=3).key


def judge(browser: Browser, count: int, *, keys: bool) -> None:
    for _ in range(count):
        left = browser.run(BRIGHTER) > 0
        if keys:
            browser.press("ArrowLeft" if left else "ArrowRight")
        else:
            browser.click("#left" if left else "#right")


def test_thirty_judgements_closed_half_way_and_gone_on_with(tmp_path: Path, survey: SurveyKey) -> None:
    page = (tmp_path / "survey" / "index.html").as_uri()
    with Browser(tmp_path / "profile") as browser:
        browser.open(page)
        assert browser.run("document.getElementById('count').textContent") == "1 of 30"
        judge(browser, 13, keys=False)
        browser.press("Backspace")
        assert browser.run("document.getElementById('count').textContent") == "13 of 30"
        judge(browser, 1, keys=False)
        browser.leave()
    with Browser(tmp_path / "profile") as browser:
        browser.open(page)
        assert browser.run("document.getElementById('count').textContent") == "14 of 30"
        judge(browser, 17, keys=True)
        assert browser.run("document.getElementById('done').hidden") is False
        content = browser.run("result()").encode()
    answers = parse_answers(content, "the page", survey)
    assert len(answers.judgements) == 30
    found = make_report(survey, [answers])
    assert list(found.scores) == ["bright", "medium", "dark"]
    assert (found.judges[0].consistent, found.judges[0].repeated) == (3, 3)
    assert sum(found.wins["bright"].values()) == 18
    assert 0 < (found.judges[0].left or 0) < 1
    places = {(each.pair, each.again): place for place, each in enumerate(answers.judgements)}
    repeats = [pair for pair, again in places if again]
    assert all(places[pair, True] > places[pair, False] for pair in repeats)


def test_on_a_phone_a_pixel_is_a_pixel_and_answers_are_sent(tmp_path: Path, survey: SurveyKey) -> None:
    with SurveyServer(tmp_path / "survey", tmp_path / "sent", port=0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with Browser(tmp_path / "profile") as browser:
                browser.phone(390, 844, 2)
                browser.open(f"http://127.0.0.1:{server.server_address[1]}/")
                assert browser.run("document.documentElement.scrollWidth") <= 390
                browser.run(BRIGHTER)
                assert browser.run("document.querySelector('#left img').getBoundingClientRect().width") == 20
                judge(browser, 29, keys=True)
                browser.click("#same")
                browser.run(
                    "new Promise(done => { const look = () => document.getElementById('sent').textContent "
                    "? done(1) : setTimeout(look, 20); look(); })"
                )
                assert "were sent" in browser.run("document.getElementById('sent').textContent")
        finally:
            server.shutdown()
            thread.join()
    (one,) = read_answers([tmp_path / "sent"], survey)
    assert [each.chosen for each in one.judgements].count("same") == 1
    kept = json.loads(next((tmp_path / "sent").iterdir()).read_text())
    assert set(kept) == {"format", "survey", "judge", "answers"}
