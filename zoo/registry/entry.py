"""Making the entry of registry.toml for an artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from zoo.artifacts import Artifact, FileEntry
from zoo.artifacts.figures import figures_of
from zoo.artifacts.manifest import MANIFEST_NAME
from zoo.artifacts.performance import Performance, performance_of
from zoo.errors import IntegrityError, UsageError
from zoo.extras import require
from zoo.registry.registry_toml import FORMAT, PACKAGE_SOURCE, parse_registry
from zoo.storage.atomic import sha256_of

if TYPE_CHECKING:
    from tomlkit.items import InlineTable, Table


def entry_for(
    artifact: Artifact,
    name: str,
    summary: str = "",
    sources: Sequence[str] = (PACKAGE_SOURCE,),
    *,
    tag: str = "",
    devices: Mapping[str, str] | None = None,
) -> str:
    """Return the registry.toml entry of an artifact folder, after verifying all its files.

    Args:
        artifact: The artifact. The figures are those in its metrics.json.
        name: The id of the entry.
        summary: One line about it; by default its architecture and recipe.
        sources: Where its files are, tried in order.
        tag: The name of this revision there.
        devices: Ids of the devices it was checked on, each with engine and version.

    Raises:
        UsageError: `name` is not a valid id, or another argument is not as registry.toml wants it.
        IntegrityError: A file of the artifact is not what its manifest says.
        MissingDependencyError: tomlkit, of the extras `hub` and `compress`, is not installed.
    """
    require("tomlkit", "Writing a registry entry", extra="hub")
    import tomlkit

    artifact.verify()
    manifest = artifact.manifest
    own = artifact.path / MANIFEST_NAME
    files = {MANIFEST_NAME: FileEntry(sha256_of(own), own.stat().st_size), **manifest.files}
    entry = tomlkit.table()
    entry["summary"] = summary or f"{manifest.architecture} after {manifest.recipe}"
    entry["architecture"] = manifest.architecture
    entry["recipe"] = manifest.recipe
    entry["fingerprint"] = manifest.fingerprint
    entry["sources"] = list(sources)
    if tag:
        entry["tag"] = tag
    figures = tomlkit.table()
    for figure in figures_of(artifact.metrics()):
        figures[figure.key] = int(figure.after) if figure.after == int(figure.after) else figure.after
    entry["figures"] = figures
    if devices:
        entry["devices"] = _names(devices)
    rows = performance_of(artifact.metrics())
    if rows:
        entry["performance"] = performance_table(rows)
    entry["files"] = _names({file: _file(found) for file, found in files.items()})
    document = tomlkit.document()
    document["checkpoint"] = tomlkit.table(is_super_table=True)
    document["checkpoint"].append(name, entry)
    text = tomlkit.dumps(document)
    try:
        parsed = parse_registry(f"format = {FORMAT}\n{text}".encode(), "the entry")
    except IntegrityError as error:
        raise UsageError(f"The entry cannot be created: {error.message}") from error
    assert parsed[name].files == files
    return text


def performance_table(rows: Mapping[str, Performance]) -> Table:
    """Return the table of what a checkpoint takes on devices, a line for each row."""
    import tomlkit

    lines = {}
    for key, row in rows.items():
        lines[key] = tomlkit.inline_table()
        lines[key].update(row.to_json())
    return _names(lines)


def _names(values: Mapping[str, object]) -> Table:
    """Return a table whose keys are names, all in quotes."""
    import tomlkit
    from tomlkit.items import KeyType, SingleKey

    table = tomlkit.table()
    for name, value in values.items():
        table.append(SingleKey(name, t=KeyType.Basic), value)
    return table


def _file(entry: FileEntry) -> InlineTable:
    """Return a file's digest and size as ``{ sha256 = "...", size = 1 }``."""
    import tomlkit

    digest, size = tomlkit.string(entry.sha256), tomlkit.integer(entry.size)
    digest.trivia.indent = size.trivia.trail = " "
    table = tomlkit.inline_table()
    table.append("sha256", digest)
    table.append("size", size)
    return table
