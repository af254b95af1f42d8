"""registry.toml: the published checkpoints, with the exact bytes each consists of.

``python -m zoo.catalogue ARTIFACT ID`` prints the entry of an artifact folder, for whoever publishes one.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zoo.artifacts import Artifact, FileEntry, open_artifact
from zoo.artifacts.card import figures_of
from zoo.artifacts.manifest import ARCHITECTURE, FINGERPRINT, MANIFEST_NAME, file_entries
from zoo.errors import IntegrityError, UnknownIdError, UsageError
from zoo.files import read_bytes, sha256_of
from zoo.strict import Fields, parse_toml
from zoo.suggest import did_you_mean

FORMAT = 1
PACKAGE_SOURCE = "package"
_ID = r"[a-z][a-z0-9-]{1,63}"
_LARGEST = 4 << 20
_MOST_CHECKPOINTS = 10_000
_PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Checkpoint:
    """One published checkpoint.

    source:  where its files come from; "package" means they are part of this installation.
    files:   all files, zoo.json included, with sha256 and size.
    figures: measured numbers and how they were measured; shown, never relied on.
    """

    id: str
    summary: str
    architecture: str
    recipe: str
    fingerprint: str
    source: str
    files: Mapping[str, FileEntry]
    figures: Mapping[str, float | str]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files.values())

    @property
    def digest(self) -> str:
        """A sha256 over names and contents of the files: equal for equal checkpoints only."""
        lines = [f"{entry.sha256} {name}\n" for name, entry in sorted(self.files.items())]
        return hashlib.sha256("".join(lines).encode()).hexdigest()


@functools.cache
def checkpoints() -> Mapping[str, Checkpoint]:
    """The published checkpoints by id. Raises IntegrityError if the registry is damaged or absent."""
    path = _installed("registry.toml")
    if not path.is_file():
        raise IntegrityError(
            f"This installation has no registry.toml (looked in {_PACKAGE} and {_PACKAGE.parent}).",
            hint="Install it again:  pip install --force-reinstall compression-zoo",
        )
    return parse_registry(read_bytes(path, _LARGEST, error=IntegrityError), str(path))


def checkpoint(name: str) -> Checkpoint:
    """The checkpoint called `name`. Raises UnknownIdError, with the name that was probably meant."""
    known = checkpoints()
    if name not in known:
        raise UnknownIdError(
            f"There is no checkpoint '{name}'{did_you_mean(name, known) or '.'}",
            hint="See what there is:  zoo list checkpoints",
        )
    return known[name]


def shipped_folder(name: str) -> Path:
    """The folder of a checkpoint that is part of this installation.

    Raises UnknownIdError for an unknown id, IntegrityError if its folder is not there.
    """
    folder = _installed("checkpoints") / checkpoint(name).id
    if not folder.is_dir():
        raise IntegrityError(
            f"The checkpoint {name} belongs to this installation, but {folder} is missing.",
            hint="Install it again:  pip install --force-reinstall compression-zoo",
        )
    return folder


def parse_registry(content: bytes, source: str) -> dict[str, Checkpoint]:
    """Read registry.toml. Raises IntegrityError for anything that is not exactly as it should be."""
    fields = Fields(parse_toml(content, source, error=IntegrityError), source, error=IntegrityError)
    fields.check_format("registry", FORMAT)
    tables = fields.table("checkpoint", {}).tables(most=_MOST_CHECKPOINTS)
    fields.close()
    return {name: _checkpoint(name, table) for name, table in tables.items()}


def _checkpoint(name: str, fields: Fields) -> Checkpoint:
    fields.check_text(name, "the id", pattern=_ID)
    result = Checkpoint(
        id=name,
        summary=fields.text("summary", longest=500),
        architecture=fields.text("architecture", pattern=ARCHITECTURE, longest=150),
        recipe=fields.text("recipe"),
        fingerprint=fields.text("fingerprint", pattern=FINGERPRINT),
        source=fields.text("source", pattern=r"[a-z]+(:\S+)?", longest=500),
        files=file_entries(fields.table("files")),
        figures=fields.table("figures", {}).values(most=50),
    )
    fields.close()
    if MANIFEST_NAME not in result.files:
        fields.refuse(f"lists no {MANIFEST_NAME}", "files")
    return result


def _installed(name: str) -> Path:
    """A part of the installation: inside the package (wheel), or beside it (source tree)."""
    inside = _PACKAGE / name
    return inside if inside.exists() else _PACKAGE.parent / name


def entry_for(artifact: Artifact, name: str, summary: str = "") -> str:
    """The registry.toml entry of an artifact folder, after verifying all its files.

    The figures are those of its metrics.json. Raises UsageError if `name` is no valid id.
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
        f"source = {_quoted(PACKAGE_SOURCE)}",
        "",
        f"[checkpoint.{name}.figures]",
        *(f"{figure.key} = {_number(figure.after)}" for figure in figures_of(artifact.metrics())),
        "",
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
    assert dataclasses.asdict(parsed[name])["files"] == {k: dataclasses.asdict(v) for k, v in files.items()}
    return text


def _number(value: float) -> str:
    """A TOML integer where it is one, else a TOML float."""
    return str(int(value)) if value == int(value) else repr(value)


def _quoted(text: str) -> str:
    """A TOML basic string; JSON's escapes are a subset of TOML's."""
    return json.dumps(text, ensure_ascii=False)


def _main(arguments: list[str]) -> int:
    if len(arguments) not in (2, 3):
        sys.stderr.write("usage: python -m zoo.catalogue ARTIFACT ID [SUMMARY]\n")
        return 2
    sys.stdout.write(entry_for(open_artifact(Path(arguments[0])), *arguments[1:]))
    return 0


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1:]))
