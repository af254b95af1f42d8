"""A package that brings a technique: code, entry point, tests and README, written from templates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from zoo import plugins
from zoo.contracts import CONTRACT_VERSION
from zoo.errors import UsageError
from zoo.storage.atomic import atomic_folder, check_folder_target
from zoo.version import __version__

_TEMPLATES = Path(__file__).with_name("templates")
_DISTRIBUTION = re.compile(r"zoo-[a-z][a-z0-9]*(-[a-z0-9]+)*")
_ID = re.compile(r"[a-z][a-z0-9-]{1,31}")
#: template, and where its text goes
_FILES = {
    "pyproject.toml.txt": "pyproject.toml",
    "README.md.txt": "README.md",
    "gitignore.txt": ".gitignore",
    "init.py.txt": "src/{package}/__init__.py",
    "technique.py.txt": "src/{package}/{module}.py",
    "test_technique.py.txt": "tests/test_{module}.py",
}


@dataclass(frozen=True)
class Package:
    """What was written. files: relative to the folder."""

    folder: Path
    distribution: str
    technique: str
    files: tuple[str, ...]


def write_plugin(distribution: str, parent: Path, technique: str = "") -> Package:
    """Write the folder `parent`/`distribution` with a technique that works and passes the conformance kit.

    technique: its id; without one, what follows "zoo-". Raises UsageError for a name that cannot be used or an id that
    an installed technique has, OutputError if the folder exists or cannot be written.
    """
    if not _DISTRIBUTION.fullmatch(distribution):
        raise UsageError(
            f"'{distribution}' is no name for a plugin package: it must be zoo-NAME, in lower case.",
            hint="For example:  zoo plugin new zoo-mine",
        )
    name = technique or distribution.removeprefix("zoo-")
    if not _ID.fullmatch(name):
        raise UsageError(
            f"'{name}' is no id for a technique: 2 to 32 of a-z, 0-9 and '-', a letter first.",
            hint=f"Name another:  zoo plugin new {distribution} --technique my-technique",
        )
    holder = next((each for each in plugins.find_plugins("techniques") if each.id == name), None)
    if holder is not None:
        raise UsageError(
            f"There is a technique '{name}' already, in {holder.distribution} {holder.version}.",
            hint=f"Name another:  zoo plugin new {distribution} --technique my-{name}",
        )
    folder = parent / distribution
    check_folder_target(folder)
    values = {
        "distribution": distribution,
        "package": distribution.replace("-", "_"),
        "module": name.replace("-", "_"),
        "technique": name,
        "class": "".join(part.capitalize() for part in name.split("-")),
        "contract": str(CONTRACT_VERSION),
        "version": __version__,
    }
    written = []
    with atomic_folder(folder) as made:
        for template, place in _FILES.items():
            target = made / place.format(**values)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_filled((_TEMPLATES / template).read_text("utf-8"), values), "utf-8")
            written.append(place.format(**values))
    return Package(folder, distribution, name, tuple(written))


def _filled(text: str, values: dict[str, str]) -> str:
    """The text with each <<key>> replaced by its value."""
    return re.sub(r"<<(\w+)>>", lambda match: values[match[1]], text)
