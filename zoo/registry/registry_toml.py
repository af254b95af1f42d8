"""The format of registry.toml, and what one entry of it says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from zoo.artifacts.manifest import MANIFEST_NAME, ArchitectureId, Files, Fingerprint, check_file_names
from zoo.artifacts.performance import PerformanceRows
from zoo.contracts.limits import PLUGIN_ID, Limits
from zoo.errors import IntegrityError
from zoo.registry.sources import PACKAGE_SOURCE, check_source
from zoo.schema import StrictTable, parse_toml, read

#: The version of registry.toml that this program writes, and the newest it reads.
FORMAT = 1
#: The most bytes a registry may have: room for some eight hundred checkpoints, parsed in a second and 150 MB.
LARGEST = 1 << 20
ID = r"[a-z][a-z0-9-]{1,63}"
TAG = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
_MOST_CHECKPOINTS = 10_000
_DeviceId = Annotated[str, Limits(pattern=PLUGIN_ID)]


@dataclass(frozen=True)
class Checkpoint:
    """One published checkpoint.

    Attributes:
        id: Its name in the registry.
        summary: One line about it.
        architecture: As in its manifest.
        recipe: As in its manifest.
        fingerprint: As in its manifest.
        sources: Where its files are, tried in order; see :mod:`zoo.registry.sources`.
        files: All files, zoo.json included, with sha256 and size.
        figures: Measured numbers and how they were measured; shown, never relied on.
        devices: Ids of the devices it was checked on, each with the engine and its version.
        performance: What it takes on devices, by "DEVICE ENGINE"; see :mod:`zoo.artifacts.performance`.
        tag: The name of this revision where it was published, such as "v1"; "" for none.
        registry: The file or address of the registry; "" if none lists it, so that nothing pins it.
    """

    id: str
    summary: Annotated[str, Limits(most=500)]
    architecture: ArchitectureId
    recipe: str
    fingerprint: Fingerprint
    sources: Annotated[tuple[Annotated[str, Limits(most=500, pattern=".+")], ...], Limits(1, 20)]
    files: Files
    figures: Annotated[Mapping[str, Annotated[float | str, Limits(most=1000)]], Limits(most=50)] = field(
        default_factory=dict
    )
    devices: Annotated[Mapping[_DeviceId, Annotated[str, Limits(most=200)]], Limits(most=100)] = field(
        default_factory=dict
    )
    performance: PerformanceRows = field(default_factory=dict)
    tag: Annotated[str, Limits(most=100, pattern=f"({TAG})?")] = ""
    registry: str = ""

    @property
    def pinned(self) -> bool:
        """Return whether a registry says what its bytes must be."""
        return bool(self.registry)

    @property
    def size(self) -> int:
        """Return the bytes of all files together."""
        return sum(entry.size for entry in self.files.values())

    @property
    def digest(self) -> str:
        """Return a sha256 over names and contents of the files: equal for equal checkpoints only."""
        lines = [f"{entry.sha256} {name}\n" for name, entry in sorted(self.files.items())]
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def parse_registry(content: bytes, source: str, *, remote: bool = False) -> dict[str, Checkpoint]:
    """Read registry.toml, and return its checkpoints by id.

    Args:
        content: The bytes of the file.
        source: What messages call it.
        remote: Whether it came over the network; then it may not name folders of this machine.

    Raises:
        IntegrityError: Anything is not exactly as it should be; the message names the place.
    """
    table = StrictTable(parse_toml(content, source, error=IntegrityError), source, error=IntegrityError)
    table.check_format("registry", FORMAT)
    entries = table.table("checkpoint", {}).tables(most=_MOST_CHECKPOINTS, pattern=ID)
    table.close()
    return {name: _checkpoint(name, entry, source, remote) for name, entry in entries.items()}


def _checkpoint(name: str, table: StrictTable, registry: str, remote: bool) -> Checkpoint:
    result = read(Checkpoint, table, id=name, registry=registry)
    for source in result.sources:
        if reason := check_source(source, remote=remote):
            table.refuse(f"holds {ascii(source)[:100]}, which {reason}", "sources")
    check_file_names(table, result.files)
    if MANIFEST_NAME not in result.files:
        table.refuse(f"does not list {MANIFEST_NAME}", "files")
    return result


__all__ = ["FORMAT", "ID", "LARGEST", "PACKAGE_SOURCE", "TAG", "Checkpoint", "parse_registry"]
