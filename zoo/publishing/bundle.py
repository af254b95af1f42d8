"""What is published of an artifact: its files, with a card that knows where it is, and results as the Hub reads them.

All of it follows from the artifact and the options, so that publishing the same twice with one version of
huggingface_hub produces the same bytes. The manifest is written again, for the card is one of the files whose sha256
it lists: what is pulled is an artifact again.
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
from zoo.artifacts.hub_config import config_text
from zoo.artifacts.manifest import CARD_NAME, CONFIG_NAME, MANIFEST_NAME, MODEL_NAME, Manifest, parse_manifest
from zoo.artifacts.metadata import EVAL_RESULTS, Publication, eval_results
from zoo.download.endpoint import contains_token
from zoo.errors import IntegrityError, UsageError
from zoo.onnx.check import load_checked_model
from zoo.storage.atomic import chunks, open_regular, reading

_TEXTS = (".json", ".md", ".toml", ".yaml", ".yml", ".txt")


@dataclass(frozen=True)
class UploadFile:
    """One file to publish.

    Attributes:
        name: Its path in the repository.
        source: Its content, or the file that holds it.
        entry: Its sha256 and size.
    """

    name: str
    source: bytes | Path
    entry: FileEntry

    @functools.cached_property
    def git_id(self) -> str:
        """Return Git's id of the content, which the Hub lists for files that are not large objects."""
        digest = hashlib.sha1(b"blob %d\0" % self.entry.size)
        if isinstance(self.source, bytes):
            digest.update(self.source)
        else:
            with open_regular(self.source) as stream, reading(self.source):
                for chunk in chunks(stream):
                    digest.update(chunk)
        return digest.hexdigest()


@dataclass(frozen=True)
class Bundle:
    """Everything to publish, by name, and the manifest that lists it."""

    manifest: Manifest
    files: Mapping[str, UploadFile]

    @property
    def size(self) -> int:
        """Return the bytes of all files together."""
        return sum(file.entry.size for file in self.files.values())

    @property
    def card(self) -> str:
        """Return the text of the card."""
        content = self.files[CARD_NAME].source
        assert isinstance(content, bytes)
        return content.decode()


def make_bundle(artifact: Artifact, publication: Publication) -> Bundle:
    """Verify all files of an artifact and return its published form.

    Raises:
        IntegrityError: A file is altered, or no engine may load the network.
        UsageError: A text among the files holds a token.
    """
    artifact.verify()
    if MODEL_NAME not in artifact.manifest.files:
        raise IntegrityError(f"The artifact {artifact.path} has no {MODEL_NAME}: there is nothing to run.")
    load_checked_model(artifact)
    return bundle_verified(artifact, publication)


def bundle_verified(artifact: Artifact, publication: Publication) -> Bundle:
    """Return the published form of an artifact that was verified.

    Raises:
        UsageError: A text among the files holds a token.
    """
    kept = {
        name: UploadFile(name, artifact.path / name, entry)
        for name, entry in artifact.manifest.files.items()
        if name not in (CARD_NAME, CONFIG_NAME) and not name.startswith(f"{EVAL_RESULTS}/")
    }
    metrics = artifact.metrics()
    texts = eval_results(figures_of(metrics), evaluated_on(metrics))
    name = publication.repository.partition("/")[2]
    texts[CONFIG_NAME] = config_text(artifact.manifest)
    texts[CARD_NAME] = card_text(name, artifact.manifest, metrics, publication)
    made = {name: _text_file(name, text) for name, text in texts.items()}
    listed = dict(sorted({**kept, **made}.items()))
    manifest = dataclasses.replace(
        artifact.manifest, files={name: file.entry for name, file in listed.items()}
    )
    written = _text_file(MANIFEST_NAME, manifest.to_json())
    # What could not be opened again must not be published either.
    parse_manifest(manifest.to_json().encode(), MANIFEST_NAME)
    files = {MANIFEST_NAME: written, **listed}
    for file in files.values():
        _check_for_tokens(artifact, file)
    return Bundle(manifest, files)


# --------------------------------------------------------------------------------------------------- details


def _text_file(name: str, text: str) -> UploadFile:
    content = text.encode()
    return UploadFile(name, content, FileEntry(hashlib.sha256(content).hexdigest(), len(content)))


def _check_for_tokens(artifact: Artifact, file: UploadFile) -> None:
    """A token typed into a command line ends up in metrics.json; there it must not become public."""
    if not file.name.endswith(_TEXTS):
        return
    content = file.source if isinstance(file.source, bytes) else artifact.read(file.name)
    if contains_token(content.decode("utf-8", "replace")):
        raise UsageError(
            f"{file.name} of {artifact.path} contains a Hub token, which would become public.",
            hint="Revoke the token, and make the artifact again without it.",
        )
