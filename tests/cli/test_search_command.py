"""`zoo search`: what it prints before, after and instead of a search."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.searching import run
from zoo.search.search_request import SearchRequest
from zoo_cli.main import main

pytest.importorskip("optuna")
pytestmark = [pytest.mark.usefixtures("third_party"), pytest.mark.xdist_group("search")]

SEARCH = ["search", "small-unet", "--space", "channel-prune(ratio=0.1..0.3:0.1)?+{ptq,qat}(bits={4,8})"]


#: Data that is quick to evaluate on.
QUICK = ["--crop", "32", "--batch", "2", "--images", "1"]


def test_a_dry_run_shows_the_space_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "search"
    assert main([*SEARCH, *QUICK, "--size", "2MB", "--ray", "auto", "--out", str(out), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "16 recipes, 4 legal combinations of techniques" in printed
    assert "channel-prune(ratio=0.1)+ptq(bits=4)" in printed
    assert "Expected to take" in printed
    assert "a training step" in printed
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--size", "two"], 2, "--size is 'two', which is not a budget"),
        (["--latency", "0ms"], 2, "Write it as in:  --latency 20ms"),
        (["--goal", "speed"], 2, "There is no goal 'speed'"),
        (["--max-loss", "much", "--out", "none"], 2, "which is not a loss"),
        (["--latency", "20ms", "--device", "jetson-nano"], 2, "cannot be measured on this machine"),
        (["--latency-model", "none.json"], 5, "none.json"),
        (["--pick", "knee"], 2, "--pick needs the folder of a search"),
        (["--resume", "nowhere"], 5, "does not hold a search"),
    ],
)
def test_what_is_wrong_is_named_before_any_work(
    arguments: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*SEARCH, *arguments]) == code
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("*"))


def test_a_finished_search_is_shown_again_without_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = SearchRequest(
        "small-unet", "ptq(bits={4,8})", tmp_path, {"images": 1}, ("score", "size"), steps=0
    )
    wanted.save()
    run(wanted, name="zoo-search")
    assert main(["search", "--resume", str(tmp_path), "--size", "200kB", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [point["recipe"] for point in found["front"]] == ["ptq(bits=4)"]
    assert main(["search", "--resume", str(tmp_path), "--size", "100kB"]) == 0
    assert "No candidate keeps the budget. The nearest is ptq(bits=4): size +25%." in capsys.readouterr().out
