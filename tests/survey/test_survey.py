"""A survey from pictures to a report, with answers as judges and as attackers send them."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.errors import InputError, OutputError, UsageError
from zoo.survey.answers import parse_answers, read_answers
from zoo.survey.bradley_terry import fit_scores
from zoo.survey.new_survey import make_survey
from zoo.survey.server import SurveyServer
from zoo.survey.survey_key import SurveyKey, read_key
from zoo.survey.survey_report import draw_scores, make_report
from zoo_cli.main import main


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Three methods that blur four photographs less and less, and the photographs."""
    rng = np.random.default_rng(0)
    for name in ("photos", "coarse", "middling", "fine"):
        (tmp_path / name).mkdir()
    for number in range(4):
        photo = rng.integers(0, 255, (90, 120, 3), np.uint8)
        Image.fromarray(photo).save(tmp_path / "photos" / f"p{number}.png")
        for name, noise in (("coarse", 90), ("middling", 40), ("fine", 10)):
            shown = np.clip(photo + rng.normal(0, noise, photo.shape), 0, 255).astype(np.uint8)
            Image.fromarray(shown).save(tmp_path / name / f"p{number}.png")
    return [tmp_path / name for name in ("coarse", "middling", "fine")]


@pytest.fixture
def key(folders: list[Path], tmp_path: Path) -> SurveyKey:
    make_survey(folders, tmp_path / "survey", photos=tmp_path / "photos", side=48, repeats=2)
    return read_key(tmp_path / "survey")


def answers(key: SurveyKey, judge: str = "0123456789abcdef", **changes: object) -> dict[str, object]:
    """What a judge answers who sees which method is finer, and answers the repeats the same."""
    rows = [
        {"pair": number, "again": again, "swapped": bool(number % 2), "ms": 900,
         "chosen": "first" if pair.first > pair.second else "second"}
        for again in (False, True)
        for number, pair in enumerate(key.pairs[: 2 if again else None])
    ]  # fmt: skip
    return {"format": 1, "survey": key.id, "judge": judge, "answers": rows, **changes}


def test_each_two_methods_meet_equally_often_and_the_page_names_none(tmp_path: Path, key: SurveyKey) -> None:
    meetings = [(pair.first, pair.second) for pair in key.pairs]
    assert sorted(meetings) == [(0, 1)] * 4 + [(0, 2)] * 4 + [(1, 2)] * 4
    page = (tmp_path / "survey" / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 12
    text = re.sub("base64,[A-Za-z0-9+/=]+", "", page)
    assert not [word for word in ("coarse", "middling", "p0", "://") if word in text]
    assert all(values[0] < values[1] < values[2] for values in key.psnr_db.values())


def test_fewer_pairs_than_there_are_are_spread_evenly(folders: list[Path], tmp_path: Path) -> None:
    made = make_survey(folders, tmp_path / "few", most=6, side=48)
    meetings = [(pair.first, pair.second) for pair in made.key.pairs]
    assert sorted(meetings) == [(0, 1)] * 2 + [(0, 2)] * 2 + [(1, 2)] * 2


def test_what_cannot_be_asked_is_refused(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2 to 12"):
        make_survey(folders[:1], tmp_path / "out")
    with pytest.raises(UsageError, match="same name"):
        make_survey([folders[0], folders[0]], tmp_path / "out")
    with pytest.raises(OutputError, match="not a survey"):
        make_survey(folders, tmp_path / "photos", replace=True)
    Image.new("RGB", (10, 10)).save(folders[1] / "p0.png")
    with pytest.raises(InputError, match=r"p0\.png is 10 x 10"):
        make_survey(folders, tmp_path / "out")
    for path in folders[1].iterdir():
        path.unlink()
    with pytest.raises(InputError, match="same name in all folders"):
        make_survey(folders, tmp_path / "out")


def test_scores_are_those_that_the_wins_came_from() -> None:
    truth = np.array([-1.0, 0.0, 1.0])
    chance = 1 / (1 + np.exp(truth[None, :] - truth[:, None]))
    wins = 4000 * (chance - np.diag(np.diag(chance)))
    scores = fit_scores(wins)
    assert [score.value for score in scores] == pytest.approx(truth, abs=0.01)
    assert all(score.low < value < score.high for score, value in zip(scores, truth, strict=True))
    few = fit_scores(wins / 100)
    assert few[0].high - few[0].low == pytest.approx(10 * (scores[0].high - scores[0].low), rel=0.1)


def test_an_interval_holds_the_truth_in_95_of_100_surveys() -> None:
    rng = np.random.default_rng(1)
    truth = np.array([0.6, 0.0, -0.6])
    chance = 1 / (1 + np.exp(truth[None, :] - truth[:, None]))
    inside = 0
    for _ in range(300):
        wins = np.triu(rng.binomial(60, chance), 1)
        scores = fit_scores(wins + np.tril(60 - wins.T, -1) * 1.0)
        inside += sum(score.low <= value <= score.high for score, value in zip(scores, truth, strict=True))
    assert 0.92 <= inside / 900 <= 0.98


def test_a_method_that_always_wins_has_a_finite_score() -> None:
    best, worst = fit_scores(np.array([[0.0, 20.0], [0.0, 0.0]]))
    assert 1 < best.value < 10
    assert best.value == -worst.value
    assert np.isfinite([best.low, best.high]).all()


def test_the_report_ranks_methods_and_tells_of_judges_and_measures(key: SurveyKey) -> None:
    careful = parse_answers(json.dumps(answers(key)).encode(), "a", key)
    rows = [dict(row, chosen="same" if row["again"] else "first") for row in answers(key)["answers"]]  # type: ignore[attr-defined]
    careless = parse_answers(json.dumps(answers(key, "f" * 16, answers=rows)).encode(), "b", key)
    found = make_report(key, [careful, careful])
    assert list(found.scores) == ["fine", "middling", "coarse"]
    assert (found.judges[0].consistent, found.judges[0].repeated) == (2, 2)
    assert (found.agreement["PSNR"].agreed, found.agreement["PSNR"].of) == (24, 24)
    assert (make_report(key, [careless]).judges[0].consistent) == 0
    picture = draw_scores(found)
    assert picture.startswith("<svg")
    assert picture.count("<circle") == 3


def test_hostile_answers_are_refused(key: SurveyKey) -> None:
    good = answers(key)
    rows = good["answers"]
    assert isinstance(rows, list)
    hostile: dict[str, object] = {
        "no table": [],
        "another survey": {**good, "survey": "x"},
        "a newer format": {**good, "format": 2},
        "a path as judge": {**good, "judge": "../../etc/passwd"},
        "markup as judge": {**good, "judge": "<script>alert(1)"},
        "unknown key": {**good, "more": 1},
        "answers no list": {**good, "answers": {"pair": 1}},
        "too many": {**good, "answers": rows * 100},
        "no such pair": {**good, "answers": [{**rows[0], "pair": 500}]},
        "negative pair": {**good, "answers": [{**rows[0], "pair": -1}]},
        "fraction": {**good, "answers": [{**rows[0], "pair": 0.5}]},
        "twice": {**good, "answers": [rows[0], rows[0]]},
        "too many repeats": {**good, "answers": [{**row, "again": True} for row in rows[:5]]},
        "unknown choice": {**good, "answers": [{**rows[0], "chosen": "both"}]},
        "time": {**good, "answers": [{**rows[0], "ms": 1e300}]},
        "missing": {**good, "answers": [{"pair": 0}]},
    }
    contents = {what: json.dumps(value).encode() for what, value in hostile.items()}
    contents |= {
        "deep": b"[" * 100_000,
        "NaN": json.dumps({**good, "answers": [{**rows[0], "ms": float("nan")}]}).encode(),
        "key twice": json.dumps(good).encode().replace(b'"format": 1', b'"format": 1, "format": 1'),
        "no JSON": b"\xff\x00",
        "large": b" " * (2 << 20),
    }
    for what, content in contents.items():
        with pytest.raises(InputError):
            parse_answers(content, what, key)


def test_of_one_judge_the_longest_file_counts(tmp_path: Path, key: SurveyKey) -> None:
    whole = answers(key)
    part = {**whole, "answers": whole["answers"][:3]}  # type: ignore[index]
    folder = tmp_path / "answers"
    folder.mkdir()
    for name, content in (("a", part), ("b", whole), ("c", answers(key, "b" * 16))):
        (folder / f"{name}.json").write_text(json.dumps(content))
    assert [len(each.judgements) for each in read_answers([folder], key)] == [14, 14]
    with pytest.raises(InputError, match="no answers"):
        read_answers([], key)


@pytest.fixture
def server(tmp_path: Path, key: SurveyKey) -> Iterator[SurveyServer]:
    with SurveyServer(tmp_path / "survey", tmp_path / "sent", port=0) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(server: SurveyServer, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=20)
    connection.request(method, path, body)
    reply = connection.getresponse()
    return reply.status, reply.read()


def test_the_server_gives_the_page_alone_and_keeps_good_answers(
    tmp_path: Path, key: SurveyKey, server: SurveyServer
) -> None:
    assert ask(server, "GET", "/") == (200, (tmp_path / "survey" / "index.html").read_bytes())
    for path in ("/survey.json", "/../survey.json", "/%2e%2e/x", "//etc/passwd", "/answers"):
        assert ask(server, "GET", path)[0] == 404
    sent = json.dumps(answers(key)).encode()
    assert ask(server, "POST", "/answers", sent)[0] == 200
    assert [path.name for path in (tmp_path / "sent").iterdir()] == ["answers-0123456789abcdef.json"]
    assert ask(server, "POST", "/answers", b"{}")[0] == 400
    assert ask(server, "POST", "/other", sent)[0] == 404
    assert ask(server, "POST", "/answers", b" " * (2 << 20))[0] == 413
    assert len(list((tmp_path / "sent").iterdir())) == 1


def test_the_server_takes_so_many_answers_a_minute(key: SurveyKey, server: SurveyServer) -> None:
    replies = [ask(server, "POST", "/answers", b"{}")[0] for _ in range(32)]
    assert replies == [400] * 30 + [429] * 2


def test_the_command_makes_and_counts_a_survey(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "asked"
    assert main(["survey", "new", *map(str, folders), "-o", str(out), "--crop", "48", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == 12
    sent = tmp_path / "sent.json"
    sent.write_text(json.dumps(answers(read_key(out))))
    plot = tmp_path / "plot.svg"
    assert main(["survey", "report", str(sent), "--survey", str(out), "--plot", str(plot), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scores"]["fine"]["value"] > 0 > found["scores"]["coarse"]["value"]
    assert plot.read_text().startswith("<svg")
    assert main(["survey", "report", str(sent), "--survey", str(out)]) == 0
    assert "fine" in capsys.readouterr().out
    sent.write_text("{}")
    assert main(["survey", "report", str(sent), "--survey", str(out)]) == InputError.exit_code


def test_connections_that_dawdle_are_cut_off_and_no_more_than_some_are_taken(
    server: SurveyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.survey.server._REQUEST_SECONDS", 0.2)
    monkeypatch.setattr("zoo.survey.server._AT_ONCE", 5)
    address = ("127.0.0.1", server.server_address[1])
    waiting = [socket.create_connection(address) for _ in range(8)]
    for each in waiting:
        each.settimeout(20)
        with contextlib.suppress(OSError):  # those that were not taken
            each.sendall(b"POST /answers HTTP/1.0\r\nContent-Length: 9\r\n\r\n{")
    for each in waiting:
        with contextlib.suppress(ConnectionError):
            while each.recv(1000):
                pass
        each.close()
    for attempt in range(40):
        try:
            assert ask(server, "GET", "/")[0] == 200
            break
        except ConnectionError:  # the places of those before are not free yet
            assert attempt < 39
            time.sleep(0.5)
