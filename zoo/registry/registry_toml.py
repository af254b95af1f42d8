"""The format of registry.toml, and what one entry of it says."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from zoo.artifacts import FileEntry
from zoo.artifacts.manifest import ARCHITECTURE, FINGERPRINT, MANIFEST_NAME, file_entries
from zoo.errors import IntegrityError
from zoo.registry.sources import PACKAGE_SOURCE, check_source
from zoo.schema import Fields, parse_toml

#: The version of registry.toml that this program writes, and the newest it reads.
FORMAT = 1
#: The most bytes a registry may have: room for some eight hundred checkpoints, parsed in a second and 150 MB.
LARGEST = 1 << 20
ID = r"[a-z][a-z0-9-]{1,63}"
TAG = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
_DEVICE = r"[a-z][a-z0-9-]{1,31}"
_MOST_CHECKPOINTS = 10_000
_MOST_SOURCES = 20
_MOST_DEVICES = 100


@dataclass(frozen=True)
class Checkpoint:
    """One published checkpoint.

    sources:  where its files can be had, tried in order; see :mod:`zoo.registry.sources`.
    files:    all files, zoo.json included, with sha256 and size.
    figures:  measured numbers and how they were measured; shown, never relied on.
    devices:  ids of the devices it was checked on, each with the engine and its version.
    tag:      the name of this revision where it was published, such as "v1"; "" for none.
    registry: the file or address whose entry this is; "" if none lists it, so that nothing pins it but itself.
    """

    id: str
    summary: str
    architecture: str
    recipe: str
    fingerprint: str
    sources: tuple[str, ...]
    files: Mapping[str, FileEntry]
    figures: Mapping[str, float | str] = field(default_factory=dict)
    devices: Mapping[str, str] = field(default_factory=dict)
    tag: str = ""
    registry: str = ""

    @property
    def pinned(self) -> bool:
        """Whether a registry says what its bytes must be."""
        return bool(self.registry)

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files.values())

    @property
    def digest(self) -> str:
        """A sha256 over names and contents of the files: equal for equal checkpoints only."""
        lines = [f"{entry.sha256} {name}\n" for name, entry in sorted(self.files.items())]
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def parse_registry(content: bytes, source: str, *, remote: bool = False) -> dict[str, Checkpoint]:
    """Read registry.toml. With `remote` it came over the network, and may not name folders of this machine.

    Raises IntegrityError for anything that is not exactly as it should be.
    """
    fields = Fields(parse_toml(content, source, error=IntegrityError), source, error=IntegrityError)
    fields.check_format("registry", FORMAT)
    tables = fields.table("checkpoint", {}).tables(most=_MOST_CHECKPOINTS)
    fields.close()
    return {name: _checkpoint(name, table, source, remote) for name, table in tables.items()}


def _checkpoint(name: str, fields: Fields, registry: str, remote: bool) -> Checkpoint:
    fields.check_text(name, "the id", pattern=ID)
    result = Checkpoint(
        id=name,
        summary=fields.text("summary", longest=500),
        architecture=fields.text("architecture", pattern=ARCHITECTURE, longest=150),
        recipe=fields.text("recipe"),
        fingerprint=fields.text("fingerprint", pattern=FINGERPRINT),
        sources=_sources(fields, remote),
        files=file_entries(fields.table("files")),
        figures=fields.table("figures", {}).values(most=50),
        devices=_devices(fields.table("devices", {})),
        tag=fields.text("tag", "", pattern=f"({TAG})?", longest=100),
        registry=registry,
    )
    fields.close()
    if MANIFEST_NAME not in result.files:
        fields.refuse(f"lists no {MANIFEST_NAME}", "files")
    return result


def _sources(fields: Fields, remote: bool) -> tuple[str, ...]:
    found = fields.get("sources")
    if not isinstance(found, list) or not 1 <= len(found) <= _MOST_SOURCES:
        fields.refuse(f"must be a list of 1 to {_MOST_SOURCES} places", "sources")
    for each in found:
        fields.check_text(each, "sources", pattern=".+", longest=500)
        if reason := check_source(each, remote=remote):
            fields.refuse(f"holds {ascii(each)[:100]}, which {reason}", "sources")
    return tuple(found)


def _devices(fields: Fields) -> dict[str, str]:
    found = fields.texts(most=_MOST_DEVICES, longest=200)
    for device in found:
        if not re.fullmatch(_DEVICE, device):
            fields.refuse(f"holds {ascii(device)[:80]}, which is no id of a device")
    return found


__all__ = ["FORMAT", "ID", "LARGEST", "PACKAGE_SOURCE", "TAG", "Checkpoint", "parse_registry"]
