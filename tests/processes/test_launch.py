"""Every child process is started in one place, and imports nothing from the current directory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.processes.launch import module_path, plain_environment, read_program, start_python

ROOT = Path(__file__).parents[2]
HIJACK = "open('canary', 'a').write('executed')\n"


def test_no_other_module_starts_a_process() -> None:
    starts = re.compile(
        r"\b(subprocess\.(run|Popen|call|check_\w+|getoutput)|os\.(system|popen|exec\w+|spawn\w+|posix_spawn\w*|fork)"
        r"|multiprocessing|ProcessPoolExecutor)\b"
    )
    found = {
        str(path.relative_to(ROOT))
        for folder in ("zoo", "cli", "techniques")
        for path in (ROOT / folder).rglob("*.py")
        if path.parent.name != "testing"  # the conformance kits, which run an author's own plugin
        and starts.search(re.sub(r"subprocess\.Popen\[bytes\]", "", path.read_text()))
    }
    # The workers of a search run the user's own recipes; they are isolated all the same.
    assert found == {"zoo/processes/fork.py", "zoo/processes/launch.py", "zoo/search/workers.py"}
    for path in found - {"zoo/processes/fork.py", "zoo/processes/launch.py"}:
        assert "isolate_workers()" in (ROOT / path).read_text()


@pytest.mark.parametrize("site", [False, True])
def test_a_child_imports_nothing_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: bool
) -> None:
    for name in ("json", "importlib", "numpy", "sitecustomize", "usercustomize", "zoo"):
        (tmp_path / f"{name}.py").write_text(HIJACK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    child = start_python(
        "zoo.processes.child_limits:die_with", str(os.getpid()), site=site, stderr=subprocess.PIPE
    )
    said = child.communicate(timeout=60)[1]
    assert b"TypeError" in said or child.returncode == 0, "the function itself was reached"
    assert not (tmp_path / "canary").exists()


WORKERS = """
import os, sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from zoo.processes.launch import isolate_workers
os.chdir(sys.argv[1])
isolate_workers()
isolate_workers()
with ProcessPoolExecutor(1, get_context("spawn")) as workers:
    print(workers.submit(os.path.basename, "a/worker").result())
"""


def test_a_worker_imports_nothing_from_the_current_directory(tmp_path: Path) -> None:
    for name in ("multiprocessing", "pickle", "struct", "signal", "sitecustomize", "usercustomize"):
        (tmp_path / f"{name}.py").write_text(HIJACK)
    command = [sys.executable, "-c", WORKERS, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert done.stdout == "worker\n", done.stderr
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("front", ["", ".", "relative", "HERE"])
def test_the_current_directory_is_taken_off_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, front: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(
        sys, "path", [front.replace("HERE", str(tmp_path)), "/usr/lib/one", "two", "/opt/three"]
    )
    assert module_path() == ["/usr/lib/one", "/opt/three"]


def test_a_current_directory_that_the_user_put_on_the_path_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(tmp_path), "/usr/lib/one"])
    assert module_path() == [str(tmp_path), "/usr/lib/one"]


def test_a_child_for_strangers_files_is_given_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert "hf_secret" not in plain_environment(OMP_NUM_THREADS="1").values()
    assert plain_environment(OMP_NUM_THREADS="1")["OMP_NUM_THREADS"] == "1"


def test_a_program_that_is_not_there_or_hangs_says_nothing() -> None:
    assert read_program("/bin/echo", "said") == "said\n"
    assert read_program("/nonexistent/program") == ""
    assert read_program("/bin/sleep", "60", seconds=0.1) == ""
