"""Device profiles say what a board can do, with a source for every figure; the host's is measured."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from fake_distributions import install
from zoo import plugins
from zoo.devices import read_profile, usable_memory
from zoo.errors import PluginError, ZooError

PHYSICAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
BOARDS = sorted(each.id for each in plugins.find("devices") if each.builtin and each.id != "host")

PROFILE = """
format = 1
id = "my-board"
summary = "My Board 2 GB"
memory_mb = 2048
precisions = ["int8", "float32"]
engines = ["onnxruntime"]

[[gap]]
what = "float16"
effect = "slower than float32"
source = "measured"

[sources]
memory_mb = "data sheet"
precisions = "measured"
"""


def runs_here(engine: str) -> bool:
    try:
        return plugins.engine(engine).available() is None
    except ZooError:
        return False


@pytest.mark.parametrize("name", ["host", *BOARDS])
def test_every_built_in_profile_is_found_and_names_an_engine_that_runs(name: str) -> None:
    profile = plugins.device(name)
    assert profile.id == name
    assert profile.memory_mb >= 256
    assert any(runs_here(engine) for engine in profile.engines)


def test_the_boards_that_were_promised_are_there() -> None:
    orin = {"jetson-orin-nano", "jetson-orin-nx", "jetson-agx-orin"}
    older = {"jetson-nano", "jetson-tx2", "jetson-xavier-nx", "jetson-agx-xavier"}
    assert orin | older | {"raspberry-pi-5", "x86-cpu"} <= set(BOARDS)


@pytest.mark.parametrize("name", ["jetson-nano", "jetson-tx2"])
def test_a_gpu_without_int8_names_float16_first(name: str) -> None:
    profile = plugins.device(name)
    assert profile.precisions[0] == "float16"
    assert "int8" not in profile.precisions
    assert profile.int8_tops is None
    assert any("int8" in gap.what for gap in profile.gaps)


@pytest.mark.parametrize("name", ["jetson-orin-nano", "jetson-orin-nx", "jetson-agx-orin"])
def test_an_orin_warns_of_depthwise_int8(name: str) -> None:
    assert any("depthwise" in gap.what and "int8" in gap.what for gap in plugins.device(name).gaps)


def test_a_board_comes_from_a_file_in_a_third_partys_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "from pathlib import Path\n"
        "from zoo.devices import read_profile\n"
        "def my_board():\n"
        "    return read_profile(Path(__file__).with_name('my-board.toml'))\n"
    )
    install(tmp_path, "zoo-boards", {"zoo.devices": {"my-board": "zoo_boards:my_board"}}, code)
    (tmp_path / "zoo_boards" / "my-board.toml").write_text(PROFILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    profile = plugins.device("my-board")
    assert (profile.memory_mb, profile.precisions) == (2048, ("int8", "float32"))
    assert profile.gaps[0].effect == "slower than float32"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("memory_mb = 2048", "memory_mb = -1"), "memory_mb"),
        (("memory_mb = 2048", ""), "'memory_mb' is missing"),
        (('"int8", "float32"', '"int7"'), "must hold only int4, int8"),
        (("format = 1", "format = 9"), "format 9"),
        (('memory_mb = "data sheet"', ""), "no source for memory_mb"),
        (('id = "my-board"', 'id = "My Board"'), "'id' does not look"),
        (("[sources]", "colour = 1\n[sources]"), "unknown key"),
        (("[sources]", "[sources"), "my-board.toml"),
    ],
)
def test_a_wrong_file_is_refused_by_place(tmp_path: Path, change: tuple[str, str], reason: str) -> None:
    path = tmp_path / "my-board.toml"
    path.write_text(PROFILE.replace(*change, 1))
    with pytest.raises(PluginError, match=reason):
        read_profile(path)


def test_the_hosts_memory_is_what_is_there() -> None:
    assert 0 < usable_memory() <= PHYSICAL
    assert plugins.device("host").memory_mb == usable_memory() // 2**20


@pytest.mark.parametrize("file", ["memory.max", "memory/memory.limit_in_bytes"])
def test_a_containers_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str) -> None:
    monkeypatch.setattr(importlib.import_module("zoo.devices.host"), "_CGROUP", tmp_path)
    unlimited = usable_memory()
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(f"{64 * 2**20}\n")
    assert usable_memory() == 64 * 2**20
    (tmp_path / file).write_text("max\n")
    assert usable_memory() == unlimited
