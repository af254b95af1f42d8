"""What the Hub states of each file of a commit: its size, and the digest that git or LFS keeps it under."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from zoo.artifacts import FileEntry
from zoo.download.endpoint import endpoint, token
from zoo.download.web import Client
from zoo.errors import IntegrityError, NetworkError
from zoo.registry.sources import HubAddress
from zoo.schema import parse_json

_LARGEST_ANSWER = 16 << 20
_SHA1, _SHA256 = "[0-9a-f]{40}", "[0-9a-f]{64}"


@dataclass(frozen=True)
class StatedFile:
    """A file as the Hub lists it.

    Attributes:
        size: Bytes.
        git: Digest of the git object, "" if the file is kept in LFS.
        sha256: Of the content, "" if the file is kept in git itself.
    """

    size: int
    git: str = ""
    sha256: str = ""


def stated_files(address: HubAddress, client: Client) -> dict[str, StatedFile]:
    """Return what the Hub states of the files of a commit, by name.

    Raises:
        NetworkError: It cannot be asked, or states no digests.
    """
    url = f"{endpoint()}/api/models/{address.repository}/tree/{address.commit}?recursive=true"
    answer = parse_json(client.read(url, _LARGEST_ANSWER, token()), url, error=NetworkError)
    found = {}
    for entry in answer if isinstance(answer, list) else ():
        if not isinstance(entry, dict) or entry.get("type") != "file":
            continue
        lfs = entry.get("lfs")
        sha256 = lfs.get("oid") if isinstance(lfs, dict) else ""
        size, git = (lfs if isinstance(lfs, dict) else entry).get("size"), entry.get("oid")
        stated = sha256 if sha256 else git
        if (
            not isinstance(size, int)
            or not isinstance(stated, str)
            or not re.fullmatch(_SHA256 if sha256 else _SHA1, stated)
        ):
            raise NetworkError(f"{url} states no digest of {ascii(entry.get('path'))[:100]}.")
        found[str(entry.get("path"))] = StatedFile(size, *(("", stated) if sha256 else (stated, "")))
    return found


def check_content(name: str, content: bytes, stated: Mapping[str, StatedFile], where: str) -> None:
    """Hold the content of a file against what the Hub states of it.

    Raises:
        IntegrityError: It is another one.
    """
    entry = _entry(name, stated, where)
    if entry.sha256:
        same = hashlib.sha256(content).hexdigest() == entry.sha256
    else:
        # git's own digest; it keeps SHA-1, whose collisions a transfer's faults do not find.
        git = hashlib.sha1(b"blob %d\0" % len(content), usedforsecurity=False)
        git.update(content)
        same = git.hexdigest() == entry.git
    if not same or len(content) != entry.size:
        raise IntegrityError(
            f"{where}/{name} is not the file that the Hub states; it was altered on the way."
        )


def check_entries(files: Mapping[str, FileEntry], stated: Mapping[str, StatedFile], where: str) -> None:
    """Hold the files that a manifest lists against those that the Hub states.

    Raises:
        IntegrityError: One is missing, or is another one.
    """
    for name, own in files.items():
        entry = _entry(name, stated, where)
        if entry.size != own.size or entry.sha256 not in ("", own.sha256):
            raise IntegrityError(f"{where}/{name} on the Hub is not the file that its manifest lists.")


def _entry(name: str, stated: Mapping[str, StatedFile], where: str) -> StatedFile:
    if name not in stated:
        raise IntegrityError(f"{where} has no {name} on the Hub.")
    return stated[name]
