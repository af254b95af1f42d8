"""Device profiles say what a board can do; the host's is measured."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zoo import devices, plugins
from zoo.devices import usable_memory

PHYSICAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize("name", ["host", "x86-cpu", "jetson-nano"])
def test_every_built_in_profile_is_found_and_names_engines_that_exist(name: str) -> None:
    profile = plugins.device(name)
    assert profile.id == name
    assert profile.memory_mb >= 256
    assert {engine for engine in profile.engines if plugins.engine(engine).available() is None}


def test_a_jetson_nano_computes_no_int8() -> None:
    assert "int8" not in plugins.device("jetson-nano").precisions


def test_the_hosts_memory_is_what_is_there() -> None:
    assert 0 < usable_memory() <= PHYSICAL
    assert plugins.device("host").memory_mb == usable_memory() // 2**20


@pytest.mark.parametrize("file", ["memory.max", "memory/memory.limit_in_bytes"])
def test_a_containers_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str) -> None:
    monkeypatch.setattr(devices, "_CGROUP", tmp_path)
    unlimited = usable_memory()
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(f"{64 * 2**20}\n")
    assert usable_memory() == 64 * 2**20
    (tmp_path / file).write_text("max\n")
    assert usable_memory() == unlimited
