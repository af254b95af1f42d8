"""Settings for all tests, and fixtures that several test modules share."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from support.fake_distributions import install
from support.small_plugin import PLUGIN, TECHNIQUES
from zoo import registry
from zoo.artifacts import Artifact

# Workers side by side would fight for the cores; this is read when torch and numpy are first imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell gives background jobs an ignored SIGINT, which their children inherit; tests of interrupts need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says nothing on a machine that does other work too.
settings.register_profile("zoo", deadline=None)
settings.load_profile("zoo")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the long forms of tests unless they are asked for; begin with the modules that take longest."""
    if "long" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("long")]
    if (
        "PYTEST_XDIST_WORKER" in os.environ
    ):  # so that no worker has such a module left when the others are done
        size = Counter(item.path for item in items)
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: (item.path not in slow, -size[item.path]))


@pytest.fixture(autouse=True)
def _own_catalogue() -> Iterator[None]:
    """What one test makes the catalogue of the installation is not that of the next."""
    yield
    registry.checkpoints.cache_clear()


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A cache that no other test has put anything into."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def bayer(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A small artifact for Bayer files."""
    from support import tiny  # needs onnx, which not every test has

    return tiny.bayer_artifact(tmp_path_factory.mktemp("artifacts") / "bayer")


@pytest.fixture(scope="module")
def third_party(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Installs the distribution for this process and those it starts."""
    site = tmp_path_factory.mktemp("site")
    install(
        site,
        "zoo-small",
        {
            "zoo.architectures": {"small-unet": "zoo_small:Small"},
            "zoo.techniques": {name: f"zoo_small:{target}" for name, target in TECHNIQUES.items()},
        },
        PLUGIN,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        patch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
        yield


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 kB; skipped where mounting is not permitted."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a file system is not permitted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
