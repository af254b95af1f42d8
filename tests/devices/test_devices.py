"""Device profiles say what a board can do, with a source for every figure; the host's is measured."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from support.fake_distributions import install
from zoo import plugins
from zoo.contracts import DeviceProfile, KernelGap
from zoo.devices import host, read_profile, usable_memory
from zoo.errors import PluginError, ZooError
from zoo.machine import processors

PHYSICAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
BOARDS = sorted(each.id for each in plugins.find_plugins("devices") if each.builtin and each.id != "host")

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
        (('"int8", "float32"', '"int7"'), "may contain only int4, int8"),
        (("format = 1", "format = 9"), "format 9"),
        (('memory_mb = "data sheet"', ""), "not state a source for memory_mb"),
        (('id = "my-board"', 'id = "My Board"'), "'id' is malformed"),
        (("[sources]", "colour = 1\n[sources]"), "unknown key"),
        (("[sources]", "[sources"), "my-board.toml"),
        (('source = "measured"', 'source = "measured"\noperators = ["tanh"]'), "may contain only concat"),
        (('source = "measured"', 'source = "measured"\nprecision = "int7"'), "must be one of"),
        (("[[gap]]", 'execution = "both"\n[[gap]]'), "must be one of sequential"),
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


def tree(root: Path, **files: str) -> Path:
    """A machine's files below `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


MEMINFO = {"proc/meminfo": "MemTotal:        1024000 kB"}
MB = 2**20


@pytest.mark.parametrize(
    ("files", "megabytes"),
    [
        ({}, 1000),
        ({"sys/fs/cgroup/memory.max": "max"}, 1000),
        ({"sys/fs/cgroup/memory.max": f"{64 * MB}"}, 64),
        ({"sys/fs/cgroup/memory.max": f"{4000 * MB}"}, 1000),
        ({"sys/fs/cgroup/memory/memory.limit_in_bytes": f"{64 * MB}"}, 64),
        # version 2: the limit of a group above counts
        (
            {
                "proc/self/cgroup": "0::/a.slice/b.scope",
                "sys/fs/cgroup/a.slice/memory.max": f"{32 * MB}",
                "sys/fs/cgroup/a.slice/b.scope/memory.max": f"{64 * MB}",
            },
            32,
        ),
        # version 1, each controller a hierarchy of its own
        (
            {
                "proc/self/cgroup": "7:memory:/a/b\n4:cpu,cpuacct:/c",
                "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": f"{48 * MB}",
                "sys/fs/cgroup/cpu,cpuacct/c/memory.limit_in_bytes": f"{1 * MB}",
            },
            48,
        ),
        # a container that sees the path of its host, but only its own group
        ({"proc/self/cgroup": "0::/../../x", "sys/fs/cgroup/memory.max": f"{16 * MB}"}, 16),
    ],
)
def test_a_control_groups_limit_of_memory_counts(
    tmp_path: Path, files: dict[str, str], megabytes: int
) -> None:
    assert usable_memory(tree(tmp_path, **MEMINFO, **files)) == megabytes * MB


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 64),
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, 64),
        ({"sys/fs/cgroup/cpu.max": "150000 100000"}, 1),
        ({"sys/fs/cgroup/cpu.max": "350000 100000"}, 3),
        ({"sys/fs/cgroup/cpu.max": "20000 100000"}, 1),
        ({"sys/fs/cgroup/cpu.max": "damaged"}, 64),
        (
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
            64,
        ),
        (
            {
                "proc/self/cgroup": "0::/a/b",
                "sys/fs/cgroup/a/cpu.max": "200000 100000",
                "sys/fs/cgroup/a/b/cpu.max": "800000 100000",
            },
            2,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/a/b",
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "400000",
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000",
            },
            4,
        ),
    ],
)
def test_threads_keep_to_affinity_and_to_the_quotas_of_all_groups_above(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processors.os, "sched_getaffinity", lambda _: set(range(64)))
    assert processors.usable_processors(tree(tmp_path, **files)) == expected


def test_threads_are_those_asked_for_then_the_profiles_and_never_more_than_are_usable() -> None:
    usable = processors.usable_processors()
    one = replace(plugins.device("host"), threads=1)
    many = replace(one, threads=1000)
    assert [processors.thread_count(0, each) for each in (None, one, many)] == [usable, 1, usable]
    assert processors.thread_count(1, many) == 1
    assert processors.thread_count(1000, one) == usable


def test_a_board_that_is_known_is_the_host_with_its_engines_and_the_memory_that_is_there(
    tmp_path: Path,
) -> None:
    root = tree(tmp_path, **MEMINFO, **{"proc/device-tree/model": "NVIDIA Jetson Nano Developer Kit\0"})
    nano = plugins.device("jetson-nano")
    found = host(root)
    assert (found.id, found.memory_mb) == ("host", 1000)
    assert (found.engines, found.precisions, found.gaps) == (nano.engines, nano.precisions, nano.gaps)
    assert "jetson-nano" in found.summary


def test_arena_execution_and_what_a_gap_concerns_are_read_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "my-board.toml"
    assert read_profile_of(path, PROFILE).arena
    text = PROFILE.replace(
        'engines = ["onnxruntime"]', 'engines = ["onnxruntime"]\narena = false\nexecution = "parallel"'
    ).replace(
        'source = "measured"',
        'source = "measured"\nprecision = "int8"\noperators = ["depthwise", "silu"]\nremedy = "relu"\n'
        "multiple = 4",
    )
    profile = read_profile_of(path, text)
    assert (profile.arena, profile.execution) == (False, "parallel")
    (gap,) = profile.gaps
    assert gap == KernelGap(
        "float16", "slower than float32", "measured", "int8", ("depthwise", "silu"), "relu", 4
    )


def read_profile_of(path: Path, text: str) -> DeviceProfile:
    path.write_text(text)
    return read_profile(path)
