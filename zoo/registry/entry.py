"""Making the entry of registry.toml for an artifact."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from zoo.artifacts import Artifact, FileEntry
from zoo.artifacts.figures import figures_of
from zoo.artifacts.manifest import MANIFEST_NAME
from zoo.errors import IntegrityError, UsageError
from zoo.registry.registry_toml import FORMAT, PACKAGE_SOURCE, parse_registry
from zoo.storage.atomic import sha256_of


def entry_for(
    artifact: Artifact,
    name: str,
    summary: str = "",
    sources: Sequence[str] = (PACKAGE_SOURCE,),
    *,
    tag: str = "",
    devices: Mapping[str, str] | None = None,
) -> str:
    """The registry.toml entry of an artifact folder, after verifying all its files.

    sources: where its files are, tried in order. tag: the name of this revision there. devices: ids of those
    it was checked on, each with engine and version. The figures are those of its metrics.json. Raises
    UsageError if `name` is no valid id, or one of the others is not as registry.toml wants it.
    """
    artifact.verify()
    manifest = artifact.manifest
    own = artifact.path / MANIFEST_NAME
    files = {MANIFEST_NAME: FileEntry(sha256_of(own), own.stat().st_size), **manifest.files}
    lines = [
        f"[checkpoint.{name}]",
        f"summary = {_quoted(summary or f'{manifest.architecture} after {manifest.recipe}')}",
        f"architecture = {_quoted(manifest.architecture)}",
        f"recipe = {_quoted(manifest.recipe)}",
        f"fingerprint = {_quoted(manifest.fingerprint)}",
        f"sources = [{', '.join(_quoted(source) for source in sources)}]",
        *([f"tag = {_quoted(tag)}"] if tag else []),
        "",
        f"[checkpoint.{name}.figures]",
        *(f"{figure.key} = {_number(figure.after)}" for figure in figures_of(artifact.metrics())),
        "",
        *([f"[checkpoint.{name}.devices]"] if devices else []),
        *(f"{_quoted(device)} = {_quoted(how)}" for device, how in (devices or {}).items()),
        *([""] if devices else []),
        f"[checkpoint.{name}.files]",
        *(
            f"{_quoted(file)} = {{ sha256 = {_quoted(entry.sha256)}, size = {entry.size} }}"
            for file, entry in files.items()
        ),
    ]
    text = "\n".join(lines) + "\n"
    try:
        parsed = parse_registry(f"format = {FORMAT}\n{text}".encode(), "the entry")
    except IntegrityError as error:
        raise UsageError(f"No entry can be made: {error.message}") from error
    assert parsed[name].files == files
    return text


def _number(value: float) -> str:
    """A TOML integer where it is one, else a TOML float."""
    return str(int(value)) if value == int(value) else repr(value)


def _quoted(text: str) -> str:
    """A TOML basic string; JSON's escapes are a subset of TOML's."""
    return json.dumps(text, ensure_ascii=False)
