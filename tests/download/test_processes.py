"""Pulls that are killed, that run side by side, and that have nothing to do."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import tiny
from support.loopback_hub import LoopbackHub
from support.pulling import EXTRAS, World, contents, world
from zoo.artifacts import write_artifact
from zoo.checkpoints.places import cached_path, lock_path, partial_path
from zoo.checkpoints.resolver import locate_artifact

PULL = 'print(pull("small", known=known).fresh)'
#: Says when it starts, and how far it is.
TELLING = """
class Telling:
    def note(self, message): pass
    def start(self, task, total, unit="steps"): print("started", flush=True)
    def advance(self, amount=1, **figures): print(amount, flush=True)
    def finish(self): pass
pull("small", known=known, limits=QUICK, reporter=Telling())
"""
BIG = {**EXTRAS, "model.safetensors": random.Random(3).randbytes(6_000_000)}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with LoopbackHub() as hub:
        yield world(hub, tmp_path, monkeypatch)


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with LoopbackHub() as hub:
        yield world(hub, tmp_path, monkeypatch, BIG)


def partial_size(here: World, name: str) -> int:
    path = partial_path(here.checkpoint.files[name].sha256)
    return path.stat().st_size if path.exists() else 0


def kill_after(process: subprocess.Popen[str], seconds: float) -> bool:
    """Send SIGKILL `seconds` after the pull said that it starts; whether it was still at work."""
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(seconds)
    running = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return running


def test_a_pull_killed_at_random_moments_installs_all_or_nothing_and_goes_on_where_it_ended(
    large: World,
) -> None:
    target = cached_path(large.checkpoint)
    chance = random.Random(5)
    name = "model.safetensors"
    killed, before = 0, 0
    for _ in range(6):
        # About 20 MB/s, so that the moments fall into the download, before it and after it.
        large.hub.faults.clear()
        content = large.checkpoint.files[name].sha256
        large.hub.fault("trickle", path=f"*{content}*", times=None, chunk=200_000, seconds=0.01)
        large.hub.seen.clear()
        killed += kill_after(large.start(TELLING), chance.uniform(0, 0.3))
        if before and (
            asked := [each for each in large.hub.asked(host="storage") if "range" in each.headers]
        ):
            # What was written is not fetched again; and all that was received was written at once.
            assert asked[0].headers["range"] == f"bytes={before}-"
        assert not target.exists() or large.is_right(target)
        if target.exists():
            break
        assert partial_size(large, name) >= before
        before = partial_size(large, name)
    assert killed
    large.hub.faults.clear()
    large.pull()
    assert large.is_right(target)
    large.assert_no_orphans()


def test_a_pull_killed_while_it_installs_is_finished_without_fetching_anything_again(large: World) -> None:
    """Killed at each of the calls that put the files in their place."""
    code = """
import zoo.download.fetch, zoo.download.puller, signal
count = 0
def dying(call):
    def wrapped(*args, **options):
        global count
        count += 1
        if count == int(os.environ["AT"]):
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **options)
    return wrapped
for name in ("link", "fsync", "rename", "replace", "unlink"):
    setattr(os, name, dying(getattr(os, name)))
pull("small", known=known, limits=QUICK)
"""
    large.pull()
    asked = large.asked("model.safetensors")
    target = cached_path(large.checkpoint)
    deaths = 0
    for at in (1, 4, 9, 14, 20, 24, 28):
        # Start from whole partial files, as at the end of the download.
        for path in target.iterdir():
            partial = partial_path(large.checkpoint.files[path.name].sha256)
            partial.parent.mkdir(exist_ok=True)
            path.rename(partial)
        target.rmdir()
        process = large.start(code, AT=str(at))
        _, errors = process.communicate()
        deaths += process.returncode == -signal.SIGKILL
        assert process.returncode in (0, -signal.SIGKILL), errors
        assert not target.exists() or large.is_right(target)
        large.pull()
        assert large.is_right(target)
        large.assert_no_orphans()
    assert deaths >= 5
    assert large.asked("model.safetensors") == asked


def test_sixteen_processes_pulling_one_checkpoint_fetch_it_once_and_all_succeed(here: World) -> None:
    here.hub.fault("delay", path="*zoo.json", times=1, seconds=0.5)
    processes = [here.start(PULL) for _ in range(16)]
    results = []
    for process in processes:
        out, errors = process.communicate()
        assert process.returncode == 0, errors
        results.append(out.strip())
    assert sorted(results) == ["False"] * 15 + ["True"]
    assert here.is_right(cached_path(here.checkpoint))
    assert {here.asked(name) for name in here.files} == {1}
    here.assert_no_orphans()


def test_who_waits_goes_on_when_the_process_it_waits_for_is_killed(here: World) -> None:
    here.hub.fault("stall", path="*model.onnx", times=1, seconds=60)
    first = here.start(PULL.replace("known=known", "known=known, limits=RetryLimits(timeout=60)"))
    deadline = time.monotonic() + 60
    while not lock_path(here.checkpoint.digest).exists() or not here.asked("model.onnx"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    second = here.start(PULL)
    time.sleep(0.5)
    first.kill()
    first.communicate()
    out, errors = second.communicate(timeout=90)
    assert out.strip() == "True", errors
    here.assert_no_orphans()


#: Ends the process if anything opens a socket or looks up a host.
NO_SOCKETS = """
def watch(event, args):
    if event.startswith("socket."):
        os.write(2, f"{event} {args}".encode())
        os._exit(99)
sys.addaudithook(watch)
"""


@pytest.mark.parametrize("offline", ["0", "1"])
def test_a_pull_with_nothing_to_do_opens_no_socket(here: World, offline: str) -> None:
    """The watch itself is seen to work on a pull that must open one."""
    process = here.start(NO_SOCKETS + PULL)
    _, errors = process.communicate()
    assert process.returncode == 99, errors
    here.pull()
    here.pull(out=here.root / "out")
    for each in (PULL, PULL.replace("known=known", f"Path({str(here.root / 'out')!r}), known=known")):
        process = here.start(NO_SOCKETS + each, HF_HUB_OFFLINE=offline)
        out, errors = process.communicate()
        assert (process.returncode, out.strip()) == (0, "False"), errors


def test_an_unpinned_pull_with_nothing_to_do_opens_no_socket(here: World) -> None:
    name = f"tester/net@{here.commit}"
    here.pull(name, known={})
    process = here.start(NO_SOCKETS + PULL.replace('"small", known=known', f"{name!r}, known={{}}"))
    out, errors = process.communicate()
    assert (process.returncode, out.strip()) == (0, "False"), errors


def test_a_pull_with_nothing_to_do_does_not_read_the_files(here: World) -> None:
    """A network of 200 MB need not be read to know that nothing was written to it."""
    here.pull()
    code = """
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
pull("small", known=known)
print(sorted({Path(name).name for name in opened if "/checkpoints/" in name}))
"""
    out, errors = here.start(code).communicate()
    assert out.strip() == "[]", errors


def test_a_pull_with_nothing_to_do_works_where_nothing_may_be_written(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.pull()
    opening = os.open

    def refuse(*args: Any, **options: Any) -> Any:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def open_to_read(path: Any, flags: int, *args: Any, **options: Any) -> int:
        return refuse() if flags & (os.O_WRONLY | os.O_RDWR) else opening(path, flags, *args, **options)

    with monkeypatch.context() as patch:
        for name in ("mkdir", "rename", "replace", "unlink", "utime", "link"):
            patch.setattr(os, name, refuse)
        patch.setattr(os, "open", open_to_read)
        assert not here.pull().fresh
        locate_artifact("small").verify()


def test_checkpoints_that_share_files_are_pulled_side_by_side(here: World) -> None:
    """Each waits for the file that the other is fetching; none waits for ever."""
    shared = {name: content for name, content in here.files.items() if name != "zoo.json"}
    write_artifact(here.root / "other", tiny.manifest(recipe="qat(bits=4)"), shared)
    commit = here.hub.add_repo("tester/other", contents(here.root / "other"))
    here.hub.fault("trickle", path="*", times=None, chunk=5000, seconds=0.01)
    names = [f"tester/net@{here.commit}", f"tester/other@{commit}"] * 2
    processes = [here.start(PULL.replace('"small", known=known', f"{name!r}, known={{}}")) for name in names]
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert here.is_right(here.cache / "hub" / "tester" / "net" / here.commit)
    assert contents(here.cache / "hub" / "tester" / "other" / commit) == contents(here.root / "other")
    here.assert_no_orphans()
