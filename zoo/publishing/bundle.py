"""What is published of an artifact: its files, with a card that knows where it is, and results as the Hub reads them.

All of it follows from the artifact and the options, so that publishing the same twice gives the same bytes. The
manifest is written anew, for the card is one of the files whose sha256 it lists: what is pulled is an artifact again.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zoo.artifacts import Artifact, FileEntry
from zoo.artifacts.card import card_text, evaluated_on
from zoo.artifacts.figures import figures_of
from zoo.artifacts.manifest import CARD_NAME, MANIFEST_NAME, MODEL_NAME, Manifest, parse_manifest
from zoo.artifacts.metadata import EVAL_RESULTS, Publication, eval_results
from zoo.download.endpoint import tells_a_token
from zoo.errors import IntegrityError, UsageError
from zoo.onnx.check import checked_model
from zoo.storage.atomic import chunks, open_regular, reading

_TEXTS = (".json", ".md", ".toml", ".yaml", ".yml", ".txt")


@dataclass(frozen=True)
class Piece:
    """One file to publish. source: its content, or the file that holds it."""

    name: str
    source: bytes | Path
    entry: FileEntry

    @functools.cached_property
    def git_id(self) -> str:
        """What git calls the content; the Hub lists it for files that are no large objects."""
        digest = hashlib.sha1(b"blob %d\0" % self.entry.size)
        if isinstance(self.source, bytes):
            digest.update(self.source)
        else:
            with open_regular(self.source) as stream, reading(self.source):
                for chunk in chunks(stream):
                    digest.update(chunk)
        return digest.hexdigest()


@dataclass(frozen=True)
class Parcel:
    """Everything to publish, by name, and the manifest that lists it."""

    manifest: Manifest
    pieces: Mapping[str, Piece]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(piece.entry.size for piece in self.pieces.values())


def parcel(artifact: Artifact, publication: Publication) -> Parcel:
    """The published form of an artifact, after verifying all its files.

    Raises IntegrityError if a file is altered or the network is none that an engine may load, UsageError if a text
    among the files holds a token.
    """
    artifact.verify()
    if MODEL_NAME not in artifact.manifest.files:
        raise IntegrityError(f"The artifact {artifact.path} has no {MODEL_NAME}: there is nothing to run.")
    checked_model(artifact)
    return packed(artifact, publication)


def packed(artifact: Artifact, publication: Publication) -> Parcel:
    """The published form of an artifact that was verified. Raises UsageError as :func:`parcel` does."""
    kept = {
        name: Piece(name, artifact.path / name, entry)
        for name, entry in artifact.manifest.files.items()
        if name != CARD_NAME and not name.startswith(f"{EVAL_RESULTS}/")
    }
    metrics = artifact.metrics()
    texts = eval_results(figures_of(metrics), evaluated_on(metrics))
    name = publication.repository.partition("/")[2]
    texts[CARD_NAME] = card_text(name, artifact.manifest, metrics, publication)
    made = {name: _piece(name, text) for name, text in texts.items()}
    listed = dict(sorted({**kept, **made}.items()))
    manifest = dataclasses.replace(
        artifact.manifest, files={name: piece.entry for name, piece in listed.items()}
    )
    written = _piece(MANIFEST_NAME, manifest.to_json())
    # What could not be opened again must not be published either.
    parse_manifest(manifest.to_json().encode(), MANIFEST_NAME)
    pieces = {MANIFEST_NAME: written, **listed}
    for piece in pieces.values():
        _check_for_tokens(artifact, piece)
    return Parcel(manifest, pieces)


# --------------------------------------------------------------------------------------------------- details


def _piece(name: str, text: str) -> Piece:
    content = text.encode()
    return Piece(name, content, FileEntry(hashlib.sha256(content).hexdigest(), len(content)))


def _check_for_tokens(artifact: Artifact, piece: Piece) -> None:
    """A token typed into a command line ends up in metrics.json; there it must not become public."""
    if not piece.name.endswith(_TEXTS):
        return
    content = piece.source if isinstance(piece.source, bytes) else artifact.read(piece.name)
    if tells_a_token(content.decode("utf-8", "replace")):
        raise UsageError(
            f"{piece.name} of {artifact.path} holds a token of the Hub, which would become public.",
            hint="Make the artifact again without it, and the token invalid: it is in your files.",
        )
