"""What was published comes through olah, a mirror of the Hub by other people, with the same bytes."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub import HfApi, constants

from support import published, tiny
from support.installation import install
from support.loopback_hub import LoopbackHub
from support.published import HOME, expected
from zoo.artifacts import open_artifact
from zoo.download import pull
from zoo.errors import NetworkError
from zoo.publishing.destination import PublishRequest
from zoo.publishing.publisher import publish
from zoo.registry import checkpoints

pytestmark = [pytest.mark.network, pytest.mark.slow]


@pytest.fixture(scope="module")
def olah(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    """The program with its environment: $ZOO_OLAH, one that is installed, or one fetched into a folder."""
    found = os.environ.get("ZOO_OLAH") or shutil.which("olah-cli")
    if found:
        return found, {}
    folder = tmp_path_factory.mktemp("olah")
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "pip",
                "--disable-pip-version-check",
                "install",
                "--quiet",
                "--no-compile",
            ),
            *("--retries", "1", "--target", str(folder), "olah==0.5.4"),
        ],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"olah cannot be had: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return str(folder / "bin" / "olah-cli"), {"PYTHONPATH": str(folder)}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", hub.token)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("ZOO_REGISTRY", "")
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        install(monkeypatch, tmp_path, tiny.bayer_artifact(tmp_path / "small"))
        yield hub


@pytest.fixture
def mirror(hub: LoopbackHub, olah: tuple[str, dict[str, str]], tmp_path: Path) -> Iterator[str]:
    """The address of olah in front of the loopback Hub."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        here = f"127.0.0.1:{free.getsockname()[1]}"
    upstream, storage = urlsplit(hub.url).netloc, urlsplit(hub.storage_url).netloc
    log = (tmp_path / "olah.log").open("wb")
    program, environment = olah
    process = subprocess.Popen(
        [
            *(program, "--host", "127.0.0.1", "--port", here.partition(":")[2]),
            *("--hf-scheme", "http", "--hf-netloc", upstream, "--hf-lfs-netloc", storage),
            *("--mirror-scheme", "http", "--mirror-netloc", here, "--mirror-lfs-netloc", here),
            *("--repos-path", str(tmp_path / "repos"), "--log-path", str(tmp_path / "logs")),
        ],
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=tmp_path,
        env={**os.environ, **environment},
    )
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", int(here.partition(":")[2])), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        assert process.poll() is None, (tmp_path / "olah.log").read_text()
        yield f"http://{here}"
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def part(mirror: str, path: str, asked: str) -> tuple[int, str | None, bytes]:
    connection = http.client.HTTPConnection(urlsplit(mirror).netloc, timeout=30)
    connection.request("GET", path, headers={"Range": asked})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.getheader("Content-Range"), content


def test_what_was_published_comes_through_another_peoples_server(
    hub: LoopbackHub, mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = published.artifact(tmp_path / "made")
    registry = tmp_path / "own.toml"
    request = PublishRequest(made.path, HOME, tag="v1", register=registry)
    done = publish(request)
    files = expected(made, request)
    monkeypatch.setenv("HF_ENDPOINT", mirror)

    folder = HfApi(endpoint=mirror, token=False).snapshot_download(
        HOME, revision=done.commit, cache_dir=tmp_path / "client"
    )
    assert {name: Path(folder, name).read_bytes() for name in files} == files

    monkeypatch.setenv("ZOO_REGISTRY", str(registry))
    checkpoints.cache_clear()
    for name in ("tiny-net", f"{HOME}@{done.commit}"):
        pulled = pull(name, tmp_path / name.replace("/", "-"))
        open_artifact(pulled.path).verify()
        assert {name: (pulled.path / name).read_bytes() for name in files} == files

    network, path = files["model.onnx"], f"/{HOME}/resolve/{done.commit}/model.onnx"
    size = len(network)
    for asked, first, last in (
        ("bytes=0-0", 0, 0),
        ("bytes=100-299", 100, 299),
        (f"bytes={size - 7}-", size - 7, size - 1),
    ):
        status, said, content = part(mirror, path, asked)
        assert (status, said) == (206, f"bytes {first}-{last}/{size}")
        assert content == network[first : last + 1]

    with pytest.raises(NetworkError, match="Mirrors do not"):
        publish(PublishRequest(made.path, "tester/other"))
    assert hub.leaks() == []
