"""Killed anywhere while publishing, the repository is unchanged or complete, and the next run finishes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from support import published, tiny
from support.installation import install
from support.loopback_hub import LoopbackHub
from support.published import HOME, expected, is_pinned
from zoo.artifacts import Artifact
from zoo.checkpoints.listing import leftovers
from zoo.checkpoints.pruning import remove
from zoo.publishing.destination import PublishRequest
from zoo.publishing.publisher import publish
from zoo.publishing.register import registered

ID = "tiny-net"


class Scene:
    """A Hub, an artifact, and a command that publishes it and registers it in a file."""

    def __init__(self, hub: LoopbackHub, made: Artifact, root: Path) -> None:
        self.hub, self.root = hub, root
        self.registry = root / "register" / "registry.toml"
        self.registry.parent.mkdir()
        self.request = PublishRequest(made.path, HOME, tag="v1", register=self.registry)
        self.files = expected(made, self.request)
        self.struck = False
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        arguments = [
            str(self.request.artifact),
            HOME,
            "--revision-tag",
            "v1",
            "--register",
            str(self.registry),
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "zoo_cli", "publish", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        return self._process

    def strike(self, with_signal: int = signal.SIGKILL) -> Callable[[Mapping[str, str]], bool]:
        """For a fault: signals the command the moment its request arrives, and lets the server go on."""

        def strike(_: Mapping[str, str]) -> bool:
            assert self._process is not None
            self.struck = True
            os.kill(self._process.pid, with_signal)
            return True

        return strike

    def check(self) -> bool:
        """Whether it is complete; fails if it is neither that nor unchanged."""
        repo = self.hub.repos.get(HOME)
        history = repo.history() if repo else []
        assert len(history) <= 2
        complete = len(history) == 2
        if repo and complete:
            assert {**self.hub.files(HOME), ".gitattributes": b""} == {**self.files, ".gitattributes": b""}
        assert not (repo and repo.tags) or complete
        entry = registered(self.registry).get(ID)
        assert entry is None or (repo and is_pinned(entry, self.hub, repo.head))
        return complete

    def finish(self) -> None:
        """Run it again, to the end; nothing of the killed one is left."""
        self.hub.faults.clear()
        done = publish(self.request)
        assert self.check()
        assert self.hub.repos[HOME].tags == {"v1": done.commit}
        assert registered(self.registry)[ID].sources == (f"hf:{HOME}@{done.commit}",)
        assert self.hub.leaks() == []
        assert [path.name for path in self.registry.parent.iterdir()] == ["registry.toml"]
        for left in leftovers():  # of results that a killed command was about to keep
            assert remove(left)
        assert [path.name for path in self.root.rglob("*.tmp")] == []


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Scene]:
    with LoopbackHub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", hub.token)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("ZOO_REGISTRY", "")
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        install(monkeypatch, tmp_path, tiny.bayer_artifact(tmp_path / "small"))
        yield Scene(hub, published.artifact(tmp_path / "made"), tmp_path)


@pytest.mark.parametrize(
    ("path", "method", "skip", "complete"),
    [
        ("/upload/*", "PUT", 1, False),
        ("*/commit/*", "POST", 0, True),  # the server carries the request out; its client is gone
        ("*/resolve/*", "GET", 3, True),
        ("*/tag/*", "POST", 0, True),
    ],
)
def test_killed_at_a_request_it_is_unchanged_or_complete_and_the_next_run_finishes(
    scene: Scene, path: str, method: str, skip: int, complete: bool
) -> None:
    scene.hub.fault("delay", path=path, method=method, seconds=0, when=_after(skip, scene.strike()))
    assert scene.start().wait(300) == -signal.SIGKILL
    _settle(scene.hub)
    assert scene.check() is complete
    uploads = len(scene.hub.asked("/upload/*"))
    scene.finish()
    if complete:
        assert len(scene.hub.asked("/upload/*")) == uploads


def test_killed_between_object_and_commit_nothing_is_there(scene: Scene) -> None:
    scene.hub.fault("reset", path="*/commit/*", when=scene.strike())
    assert scene.start().wait(300) == -signal.SIGKILL
    assert len(scene.hub.asked("/upload/*")) == 3
    assert not scene.check()
    scene.finish()
    assert len(scene.hub.asked("/upload/*")) == 3


def test_interrupted_it_ends_with_a_word_and_the_code_for_it(scene: Scene) -> None:
    scene.hub.fault("delay", path="/upload/*", when=scene.strike(signal.SIGINT))
    process = scene.start()
    _, told = process.communicate(timeout=300)
    assert process.returncode == 130
    assert told.decode().splitlines()[-1] == "Interrupted."
    assert b"Traceback" not in told
    assert not scene.check()
    scene.finish()


def test_killed_at_a_random_request_it_is_unchanged_or_complete(scene: Scene) -> None:
    _kill_at(scene, random.Random(4).randrange(8))
    assert scene.struck
    scene.finish()


@pytest.mark.long
@pytest.mark.parametrize("number", range(60))
def test_killed_at_any_request_it_is_unchanged_or_complete(scene: Scene, number: int) -> None:
    _kill_at(scene, number)
    scene.finish()


@pytest.mark.long
@pytest.mark.parametrize("number", range(100))
def test_killed_at_any_moment_it_is_unchanged_or_complete(scene: Scene, number: int) -> None:
    for _ in range(2):
        _kill_after(scene, random.Random(number).uniform(0.2, 1.6))
    scene.finish()


def _after(spared: int, then: Callable[[Mapping[str, str]], bool]) -> Callable[[Mapping[str, str]], bool]:
    """Spare some requests; the server forgets about the others' faults once one has struck."""
    seen = 0

    def when(headers: Mapping[str, str]) -> bool:
        nonlocal seen
        seen += 1
        return seen > spared and then(headers)

    return when


def _kill_at(scene: Scene, spared: int) -> None:
    """Kill the command at the request after `spared` others; it must succeed if it makes fewer."""
    scene.hub.fault("delay", seconds=0, when=_after(spared, scene.strike()))
    code = scene.start().wait(300)
    assert code == (-signal.SIGKILL if scene.struck else 0)
    _settle(scene.hub)
    scene.check()


def _kill_after(scene: Scene, seconds: float) -> None:
    process = scene.start()
    time.sleep(seconds)
    process.kill()
    process.wait(300)
    _settle(scene.hub)
    scene.check()


def _settle(hub: LoopbackHub) -> None:
    """Wait until the server has carried out what it was asked before the client was gone."""
    until = time.monotonic() + 60
    while any(each.status == 0 for each in hub.asked()) and time.monotonic() < until:
        time.sleep(0.01)
