"""A package that brings a plugin: code, entry point, tests and README, written from templates."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zoo import plugins
from zoo.contracts import CONTRACT_VERSION
from zoo.errors import UsageError
from zoo.plugins.discovery import PluginKind
from zoo.storage.atomic import atomic_folder, check_folder_target
from zoo.version import __version__

_TEMPLATES = Path(__file__).with_name("templates")
_DISTRIBUTION = re.compile(r"zoo-[a-z][a-z0-9]*(-[a-z0-9]+)*")
_ID = re.compile(r"[a-z][a-z0-9-]{1,31}")

_SOURCE = "src/{package}/{module}.py"
_TEST = "tests/test_{module}.py"
_INIT = "src/{package}/__init__.py"
#: Templates that every package has, and where their text goes.
_COMMON = {"common/pyproject.toml.txt": "pyproject.toml", "common/gitignore.txt": ".gitignore"}


@dataclass(frozen=True)
class _Kind:
    """What a package of one kind consists of.

    group:       its entry-point group, without "zoo.".
    requirement: the distribution it needs.
    target:      what the entry point names.
    source:      the file that its author changes first.
    files:       templates, and where their text goes.
    """

    group: PluginKind
    article: str
    requirement: str
    target: str
    source: str
    files: Mapping[str, str]


def _kind(
    name: str,
    group: PluginKind,
    *,
    article: str = "a",
    extra: str = "",
    suffix: str = "",
    files: Mapping[str, str] | None = None,
) -> _Kind:
    """Return a kind whose plugins are classes in a module of their own."""
    own = {"README.md.txt": "README.md", f"{name}.py.txt": _SOURCE, f"test_{name}.py.txt": _TEST}
    return _Kind(
        group=group,
        article=article,
        requirement=f"compression-zoo[{extra}]" if extra else "compression-zoo",
        target=f"{{package}}.{{module}}:{{class}}{suffix}",
        source=_SOURCE,
        files={
            **_COMMON,
            "common/init.py.txt": _INIT,
            **{f"{name}/{template}": place for template, place in {**own, **(files or {})}.items()},
        },
    )


#: What `zoo plugin new --kind` accepts.
KINDS: Mapping[str, _Kind] = {
    "technique": _kind("technique", "techniques", extra="compress"),
    "architecture": _kind(
        "architecture",
        "architectures",
        article="an",
        extra="compress",
        suffix="Architecture",
        files={"network.py.txt": "src/{package}/{module}_network.py"},
    ),
    "dataset": _kind("dataset", "datasets", suffix="Dataset"),
    "task": _kind("task", "tasks", suffix="Task"),
    "engine": _kind("engine", "engines", article="an", extra="cpu", suffix="Engine"),
    "device": _Kind(
        group="devices",
        article="a",
        requirement="compression-zoo",
        target="{package}:{module}",
        source="src/{package}/{id}.toml",
        files={
            **_COMMON,
            "device/README.md.txt": "README.md",
            "device/init.py.txt": _INIT,
            "device/profile.toml.txt": "src/{package}/{id}.toml",
            "device/test_device.py.txt": _TEST,
        },
    ),
}


@dataclass(frozen=True)
class Package:
    """What was written.

    Attributes:
        kind: Of the plugin.
        id: Of the plugin.
        files: Relative to the folder.
        source: The one of them that its author changes first.
    """

    folder: Path
    distribution: str
    kind: str
    id: str
    files: tuple[str, ...]
    source: str


def write_plugin(distribution: str, parent: Path, plugin_id: str = "", kind: str = "technique") -> Package:
    """Write the folder `parent`/`distribution` with a plugin that works and passes its conformance kit.

    Args:
        distribution: The name of the package, "zoo-" and more.
        parent: The folder to write it to.
        plugin_id: The plugin's id; if empty, what follows "zoo-".
        kind: A key of :data:`KINDS`.

    Raises:
        UsageError: A name cannot be used, or an installed plugin of the kind has the id.
        OutputError: The folder exists or cannot be written.
    """
    name = plugin_id or distribution.removeprefix("zoo-")
    _check_names(distribution, name, kind)
    about = KINDS[kind]
    folder = parent / distribution
    check_folder_target(folder)
    values = {
        "distribution": distribution,
        "package": distribution.replace("-", "_"),
        "module": name.replace("-", "_"),
        "id": name,
        "class": "".join(part.capitalize() for part in name.split("-")),
        "contract": str(CONTRACT_VERSION),
        "version": __version__,
        "requirement": about.requirement,
        "group": about.group,
        "description": f"The {kind} {name} for zoo.",
    }
    values["target"] = about.target.format(**values)
    written = []
    with atomic_folder(folder) as made:
        for template, place in about.files.items():
            target = made / place.format(**values)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_filled((_TEMPLATES / template).read_text("utf-8"), values), "utf-8")
            written.append(place.format(**values))
    return Package(folder, distribution, kind, name, tuple(written), about.source.format(**values))


def _check_names(distribution: str, name: str, kind: str) -> None:
    if kind not in KINDS:
        raise UsageError(f"'{kind}' is not a kind of plugin.", hint=f"Choose one of {', '.join(KINDS)}.")
    if not _DISTRIBUTION.fullmatch(distribution):
        raise UsageError(
            f"'{distribution}' is not a name for a plugin package: it must be zoo-NAME, in lower case.",
            hint="For example:  zoo plugin new zoo-mine",
        )
    again = f"Choose another:  zoo plugin new {distribution} --kind {kind} --id my-{kind}"
    article = KINDS[kind].article
    if not _ID.fullmatch(name) or keyword.iskeyword(name):
        raise UsageError(
            f"'{name}' is not an id for {article} {kind}: 2 to 32 of a-z, 0-9 and '-', starting with a letter.",
            hint=again,
        )
    holder = next((each for each in plugins.find_plugins(KINDS[kind].group) if each.id == name), None)
    if holder is not None:
        raise UsageError(
            f"{article.capitalize()} {kind} '{name}' already exists, in {holder.distribution} {holder.version}.",
            hint=again,
        )


def _filled(text: str, values: Mapping[str, str]) -> str:
    """Return the text with each <<key>> replaced by its value."""
    return re.sub(r"<<(\w+)>>", lambda match: values[match[1]], text)
