"""Installs real, small distributions into a folder: a package and the .dist-info that pip would write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TECHNIQUE = """
from dataclasses import dataclass
from zoo.contracts import Phase, Technique


class {name}(Technique):
    @dataclass(frozen=True)
    class Config:
        strength: int = 1

    contract = {contract}
    id = "{id}"
    summary = "a technique of a third party"
    phase = Phase.{phase}
"""


def technique(id_: str, *, name: str = "Fancy", contract: object = 1, phase: str = "STRUCTURE") -> str:
    """Source of a module with one technique."""
    return TECHNIQUE.format(id=id_, name=name, contract=contract, phase=phase)


def install(
    site: Path,
    distribution: str,
    entries: dict[str, dict[str, str]],
    source: str = "",
    *,
    version: str = "1.0",
) -> Path:
    """Put a distribution with one package into `site`; `entries` maps groups to names to targets."""
    package = site / distribution.replace("-", "_")
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(source)
    info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    (info / "RECORD").write_text("")
    lines = []
    for group, names in entries.items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in names.items()), ""]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return info


def install_technique(
    site: Path, distribution: str, id_: str, source: str | None = None, **about: Any
) -> Path:
    """A distribution with one technique `id_`, from `source` or a good one."""
    version = about.pop("version", "1.0")
    target = f"{distribution.replace('-', '_')}:Fancy"
    content = technique(id_, **about) if source is None else source
    return install(site, distribution, {"zoo.techniques": {id_: target}}, content, version=version)


@dataclass(frozen=True)
class Result:
    """What a command printed and returned."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def zoo(*args: str, path: tuple[Path, ...] = (), **environment: str) -> Result:
    """Run the `zoo` command in a process of its own with `path` before everything else on sys.path."""
    return python("-m", "zoo_cli", *args, path=path, **environment)


def python(*args: str, path: tuple[Path, ...] = (), **environment: str) -> Result:
    """Run Python in a process of its own, in a folder from which nothing can be imported by accident."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("ZOO_", "PYTHONPATH"))}
    clean["PYTHONPATH"] = os.pathsep.join(map(str, path))
    done = subprocess.run(
        [sys.executable, "-P" if sys.version_info >= (3, 11) else "-B", *args],
        capture_output=True,
        text=True,
        env=clean | environment,
        timeout=600,
        cwd="/",
    )
    return Result(done.returncode, done.stdout, done.stderr)
