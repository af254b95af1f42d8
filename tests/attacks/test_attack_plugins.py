"""Plugins at fault: the others are still listed and work, and the culprit is named."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.fake_distributions import Result, install, install_technique, technique, zoo
from zoo.contracts import CONTRACT_VERSION
from zoo.plugins import plugin_check as surveying
from zoo.plugins.plugin_check import PluginState, check_plugins

NOISE = """
import os, sys
print("noise")
os.system("echo noise of a child")
os.write(1, b"noise of native code")
sys.stderr.write("noise")
"""
#: What a plugin does when it is imported, and what is said of it.
FAULTS = {
    "import-error": ("import a_package_that_is_not_there", "No module named 'a_package_that_is_not_there'"),
    "exception": ("raise ValueError('for another CPU')", "ValueError: for another CPU"),
    "base-exception": ("raise BaseException('odd')", "BaseException: odd"),
    "system-exit": ("raise SystemExit(0)", "it ends the program with exit(0)"),
    "exit-at-once": ("import os; os._exit(0)", "it ends the program at once, with exit status 0"),
    "crash": ("import ctypes; ctypes.string_at(0)", "its import crashes Python (SIGSEGV)"),
    "abort": ("import os; os.abort()", "its import crashes Python (SIGABRT)"),
    "syntax": ("def f(:", "SyntaxError"),
    "null-bytes": ("x = '\\0'\0", "null bytes"),
    "recursion": ("def f(): f()\nf()", "RecursionError"),
    "exit-later": ("import atexit; atexit.register(lambda: 1/0)\nraise ImportError('late')", "late"),
    "wrong-contract": (
        technique("wrong-contract", contract=CONTRACT_VERSION + 1),
        "written for contract version",
    ),
    "no-contract": (
        technique("no-contract").replace("    contract = 1\n", ""),
        "does not state the contract",
    ),
    "other-id": (technique("somebody-else"), "calls itself 'somebody-else'"),
    "hoard": ("hoard = bytearray(8 << 30)", "MemoryError"),
    "noise": (NOISE + "raise ImportError('noisy')", "noisy"),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation with every fault at once, a good plugin before and after them, and a claim of a built-in id."""
    site = tmp_path_factory.mktemp("site")
    install_technique(site, "zoo-a-good", "a-good")
    for name, (source, _) in FAULTS.items():
        install_technique(site, f"zoo-{name}", name, source)
    install_technique(site, "zoo-noisy", "noisy", NOISE + technique("noisy"))
    install_technique(site, "zoo-evil", "depthwise")
    install_technique(site, "zoo-twin-one", "twin")
    install_technique(site, "zoo-twin-two", "twin")
    install_technique(site, "zoo-z-good", "z-good")
    return site


@pytest.fixture(scope="module")
def run(site: Path) -> Callable[..., Result]:
    return functools.partial(zoo, path=(site,))


@pytest.fixture(scope="module")
def checked(run: Callable[..., Result]) -> Result:
    return run("plugins", "--check", "--json")


def test_every_culprit_is_named_with_its_fault(checked: Result) -> None:
    found = {each["id"]: each for each in checked.json["plugins"] if not each["builtin"]}
    for name, (_, reason) in FAULTS.items():
        assert found[name]["state"] in ("broken", "wrong contract"), name
        assert found[name]["distribution"] == f"zoo-{name}"
        assert reason in found[name]["reason"], name
    assert checked.code == 3
    assert "Traceback" not in checked.err


def test_the_others_are_still_listed_as_they_are(checked: Result, run: Callable[..., Result]) -> None:
    records = checked.json["plugins"]
    third_party = {each["id"]: each["state"] for each in records if not each["builtin"]}
    assert third_party["a-good"] == third_party["z-good"] == third_party["noisy"] == "ok"
    assert third_party["twin"] == third_party["depthwise"] == "duplicate"
    built_in = {each["id"]: each["state"] for each in records if each["builtin"]}
    assert built_in["qat"] == built_in["unet"] == built_in["host"] == "ok"
    listed = {each["id"] for each in run("list", "techniques", "--json").json["techniques"]}
    assert listed >= {*FAULTS, "a-good", "z-good", "depthwise", "qat"}


def test_noise_does_not_get_into_the_output(checked: Result) -> None:
    assert not {"noise of a child", "noise of native code"} & set(checked.out.splitlines())
    assert checked.err.count("noise of native code") == 2


def test_the_matrix_of_techniques_leaves_the_culprits_out_and_names_them(run: Callable[..., Result]) -> None:
    shown = run("techniques", "--matrix", "--json")
    assert {"a-good", "z-good", "qat"} <= {each["id"] for each in shown.json["techniques"]}
    for name, (_, reason) in FAULTS.items():
        assert f"'{name}' of zoo-{name} 1.0" in shown.err
        assert reason in shown.err


def test_good_plugins_work_beside_broken_ones(run: Callable[..., Result]) -> None:
    assert run("info", "z-good", "--json").json["distribution"] == "zoo-z-good"


@pytest.mark.parametrize("name", ["import-error", "system-exit", "recursion", "wrong-contract", "other-id"])
def test_using_a_broken_plugin_names_it_and_fails(run: Callable[..., Result], name: str) -> None:
    used = run("info", name, "--json")
    assert used.code == 3
    assert used.json["exit_code"] == 3
    assert f"zoo-{name} 1.0" in used.err
    assert "Traceback" not in used.err


def test_a_duplicate_is_refused_by_both_names_and_never_chosen(run: Callable[..., Result]) -> None:
    for name, first, second in (
        ("twin", "zoo-twin-one", "zoo-twin-two"),
        ("depthwise", "compression-zoo", "zoo-evil"),
    ):
        used = run("info", name)
        assert used.code == 3
        assert first in used.err
        assert second in used.err


# ----------------------------------------------------------------------------------------------------- hanging

HANG = "import time\ntime.sleep(1000)"


def test_a_plugin_that_hangs_is_given_up_and_named_and_the_next_ones_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_technique(tmp_path, "zoo-a-good", "a-good")
    install_technique(tmp_path, "zoo-hang", "hang", HANG)
    # it leaves a thread and a process behind
    rest = "import subprocess, threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()\n"
    rest += "subprocess.Popen(['sleep', '3'])\n"
    install_technique(tmp_path, "zoo-z-good", "z-good", rest + technique("z-good"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(surveying, "PATIENCE", 8.0)  # the good ones may have to wait for a processor
    found = {each.plugin.id: each for each in check_plugins(load=True) if not each.plugin.builtin}
    assert found["a-good"].state is found["z-good"].state is PluginState.OK
    assert found["hang"].state is PluginState.BROKEN
    assert "its import takes more than 8 s" in found["hang"].reason


def test_a_plugin_that_hangs_is_not_imported_unless_it_is_used(tmp_path: Path) -> None:
    install_technique(tmp_path, "zoo-hang", "hang", HANG)
    install(tmp_path, "zoo-hang-too", {"zoo.engines": {"hang-too": "zoo_hang_too:X"}}, HANG)
    for command in (("plugins",), ("list",), ("list", "techniques"), ("info", "depthwise")):
        assert zoo(*command, path=(tmp_path,)).code == 0


@pytest.mark.parametrize("what", ["plugin", "network"])
def test_a_plugin_that_hangs_when_used_is_named_and_ctrl_c_ends_it(tmp_path: Path, what: str) -> None:
    install_technique(tmp_path, "zoo-hang", "hang", HANG)
    net = "import time\nfrom torch import nn\n"
    net += "class Net(nn.Conv2d):\n    def __init__(self):\n        super().__init__(3, 3, 1)\n"
    net += "    def forward(self, x):\n        time.sleep(1000)\n"
    (tmp_path / "net.py").write_text(net)
    name, said = {
        "plugin": ("hang", "'hang' of zoo-hang 1.0 has been loading"),
        "network": (
            f"{tmp_path}/net.py:Net(input=rgb:3x8x8)",
            "net.py:Net has been computing its example input",
        ),
    }[what]
    program = (
        "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import torch\nfrom zoo.plugins import guard\nguard.SLOW_SECONDS = 0.2\n"
        "from zoo_cli.main import main\nsys.exit(main(['info', sys.argv[1]]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, name],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert said in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=300) == 130
    process.stderr.close()
