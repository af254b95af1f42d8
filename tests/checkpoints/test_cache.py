"""`zoo pull` and `zoo cache`: what is there is listed, verified, and removed when nobody needs it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.loopback_hub import LoopbackHub
from support.pulling import REPOSITORY, World, artifact_files, registry_text, world
from zoo import registry
from zoo.checkpoints.places import lock_path, partial_path, record_path
from zoo.errors import IntegrityError, OutputError
from zoo.storage.file_lock import file_lock
from zoo_cli.main import main

Run = Callable[..., Any]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The registry of the world is the user's own."""
    with LoopbackHub() as hub:
        made = world(hub, tmp_path, monkeypatch)
        monkeypatch.setenv("ZOO_REGISTRY", str(made.registry))
        registry.checkpoints.cache_clear()
        yield made
    registry.checkpoints.cache_clear()


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command; with --json its document, else what it printed. `code` is what it must return."""

    def run(*args: str, code: int = 0) -> Any:
        assert main(args) == code
        out, err = capfd.readouterr()
        run.err = err  # type: ignore[attr-defined]
        return json.loads(out) if "--json" in args else out

    return run


def test_a_pull_tells_what_it_did(here: World, run: Run) -> None:
    told = run("pull", "small@v1", "--json")
    assert told["fresh"]
    assert told["pinned"]
    assert told["registry"] == str(here.registry)
    assert told["bytes"] == sum(map(len, here.files.values()))
    assert set(told["files"]) == set(here.files)
    assert here.is_right(Path(told["path"]))
    assert run("pull", "small").startswith("Already there: small (0.1 MB) in ")
    unpinned = here.hub.commit(REPOSITORY, {**here.files, "notes.txt": b"not in the manifest"})
    assert "(0.1 MB, unpinned)" in run("pull", f"{REPOSITORY}@{unpinned}")
    assert "unpinned: no registry lists it" in run.err  # type: ignore[attr-defined]


def test_a_pull_for_a_device_takes_what_running_needs_and_a_later_one_the_rest(here: World, run: Run) -> None:
    told = run("pull", "small", "--device", "jetson-nano", "--json")
    assert sorted(told["files"]) == [
        "README.md",
        "config.json",
        "golden.safetensors",
        "model.onnx",
        "zoo.json",
    ]
    assert told["not_fetched"] == ["metrics.json", "model.safetensors", "recipe.toml", "sample.png"]
    assert sorted(os.listdir(told["path"])) == sorted(told["files"])
    assert here.asked("model.safetensors") == 0
    assert not run("pull", "small", "--device", "host", "--json")["fresh"]
    (listed,) = run("cache", "list", "--json")["checkpoints"]
    assert not listed["whole"]
    assert "for a device" in run("cache", "list")
    run("cache", "verify")
    # It runs: the missing picture is the error, not the artifact.
    run("run", "small", str(here.root / "none.dng"), "-o", str(here.root), code=5)
    assert run("pull", "small", "--json")["not_fetched"] == []
    assert here.asked("model.onnx") == 1
    assert here.is_right(Path(told["path"]))
    assert not run("pull", "small", "--device", "jetson-nano", "--json")["fresh"]


def test_a_folder_pulled_for_a_device_is_completed_and_a_foreign_one_refused(here: World, run: Run) -> None:
    out = here.root / "out"
    run("pull", "small", "--device", "host", "--out", str(out))
    run("pull", "small", "--out", str(out))
    assert here.is_right(out)
    (out / "mine.txt").write_text("x")
    run("pull", "small", "--out", str(out), code=OutputError.exit_code)
    assert "is not the checkpoint small" in run.err  # type: ignore[attr-defined]
    assert (out / "mine.txt").exists()
    run("pull", "small", "--device", "none", code=2)


def test_the_list_tells_sizes_use_and_origin(here: World, run: Run) -> None:
    assert run("cache", "list", "--json")["checkpoints"] == []
    folder = here.pull(known=None).path
    here.pull(f"{REPOSITORY}@{here.commit}", known={})
    os.utime(record_path(folder), (0, time.time() - 3 * 86_400))
    hub, small = sorted(run("cache", "list", "--json")["checkpoints"], key=lambda each: each["pinned"])
    assert (small["id"], hub["id"]) == ("small", f"{REPOSITORY}@{here.commit}")
    assert (small["pinned"], small["current"], small["whole"]) == (True, True, True)
    assert (hub["pinned"], hub["current"], hub["registry"]) == (False, False, None)
    assert small["size"] == sum(map(len, here.files.values()))
    assert small["last_use"] == pytest.approx(time.time() - 3 * 86_400, abs=60)
    text = run("cache", "list")
    assert "3 days ago" in text
    assert "unpinned" in text
    run("run", "small", str(here.root / "none.dng"), "-o", str(here.root), code=5)
    assert "3 days ago" not in run("cache", "list")


def test_verify_sets_damaged_checkpoints_aside_and_prune_removes_them(here: World, run: Run) -> None:
    folder = here.pull(known=None).path
    other = here.pull(f"{REPOSITORY}@{here.commit}", known={}).path
    assert "2 of 2 checkpoints are intact" in run("cache", "verify")
    (folder / "model.onnx").write_bytes(here.files["model.onnx"][:-1] + b"x")
    (other / "README.md").unlink()
    told = run("cache", "verify", "--json", code=IntegrityError.exit_code)
    assert [bool(each["problem"]) for each in told] == [True, True]
    assert "zoo pull small" in run.err or REPOSITORY in run.err  # type: ignore[attr-defined]
    assert not folder.exists()
    assert not other.exists()
    others = run("cache", "list", "--json")["others"]
    assert [each["what"] for each in others] == ["damaged checkpoint"] * 2
    assert len(run("cache", "prune", "--dry-run", "--json")["removed"]) == 2
    assert len(list((here.cache / "quarantine").iterdir())) == 2
    assert "Removed 2 items" in run("cache", "prune")
    assert not list((here.cache / "quarantine").iterdir())
    assert run("pull", "small", "--json")["fresh"]


def test_prune_removes_what_no_registry_lists_any_more_and_keeps_the_rest(here: World, run: Run) -> None:
    old = here.pull(known=None).path
    unpinned = here.pull(f"{REPOSITORY}@{here.commit}", known={}).path
    # The registry now pins another version.
    shutil.rmtree(here.root / "made")
    files = artifact_files(here.root, {"recipe.toml": b"# another\n"})
    commit = here.hub.commit(REPOSITORY, files, gone=set(here.files) - set(files))
    here.registry.write_text(registry_text(here.root, f"hf:{REPOSITORY}@{commit}"))
    registry.checkpoints.cache_clear()
    new = Path(run("pull", "small", "--json")["path"])
    unlisted = here.cache / "checkpoints" / "who-knows" / "0123"
    unlisted.mkdir(parents=True)
    removed = {each["path"] for each in run("cache", "prune", "--dry-run", "--json")["removed"]}
    assert removed == {str(old), str(unlisted)}
    assert old.exists()
    assert "Removed 2 items" in run("cache", "prune")
    assert not old.exists()
    assert not unlisted.exists()
    assert unpinned.exists()
    assert new.exists()
    here.assert_no_orphans()
    os.utime(record_path(unpinned), (0, time.time() - 40 * 86_400))
    assert "Removed 1 items" in run("cache", "prune", "--unused", "30")
    assert not unpinned.exists()
    assert new.exists()


def test_prune_removes_partial_files_but_none_that_is_being_fetched(here: World, run: Run) -> None:
    for name in ("model.onnx", "sample.png"):
        path = partial_path(here.checkpoint.files[name].sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"begun")
    busy = partial_path(here.checkpoint.files["model.onnx"].sha256)
    with file_lock(lock_path("f" * 64)):
        with busy.open() as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            assert len(run("cache", "list", "--json")["others"]) == 1
            assert "Removed 1 items" in run("cache", "prune")
        assert busy.exists()
    assert "Removed 1 items" in run("cache", "prune")
    assert not busy.exists()


def test_a_checkpoint_that_is_being_pulled_is_not_pruned(here: World, run: Run) -> None:
    folder = here.pull(known=None).path
    with file_lock(lock_path(here.checkpoint.digest)):
        assert run("cache", "prune", "--unused", "0", "--json")["removed"] == []
        assert folder.exists()
    assert len(run("cache", "prune", "--unused", "0", "--json")["removed"]) == 1
    assert not folder.exists()


def test_an_empty_cache_is_no_error(here: World, run: Run) -> None:
    for command in (("list",), ("verify",), ("prune",), ("prune", "--dry-run")):
        run("cache", *command)
    assert not here.cache.exists()
