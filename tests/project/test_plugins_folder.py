"""The distributions in plugins/ install as a third party's would, and pass their own tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.environments import fresh_environment, install_editable, run

PLUGINS = sorted(path.parent for path in Path(__file__).resolve().parents[2].glob("plugins/*/pyproject.toml"))


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda path: path.name)
def test_a_plugin_installs_is_found_and_passes_its_tests(plugin: Path, tmp_path: Path) -> None:
    python = fresh_environment(tmp_path / "env")
    install_editable(python, plugin)
    listed = run(python, "-m", "zoo_cli", "plugins", "--check", cwd=tmp_path)
    assert plugin.name in listed.stdout
    tested = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=plugin)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert re.search(r"[1-9]\d* passed", tested.stdout)
