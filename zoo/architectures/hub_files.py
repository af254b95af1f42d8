"""Single files of repositories on the Hugging Face Hub, pinned by revision and sha256, cached as its client does.

`HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_CACHE` and `HF_HUB_OFFLINE` are honoured as they are set at the time of the call.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from zoo.errors import InputError, IntegrityError, NetworkError, UnknownIdError, ZooError
from zoo.extras import require
from zoo.storage.atomic import sha256_of

_SHA256 = re.compile(r"[0-9a-f]{64}")
_HUB = "https://huggingface.co"
_FALSE = ("", "0", "OFF", "NO", "FALSE")


@dataclass(frozen=True)
class HubFile:
    """A file that was fetched.

    Attributes:
        repository: OWNER/NAME.
        revision: The commit.
        name: Of the file in the repository.
        path: Where it is here.
        sha256: Of its bytes.
    """

    repository: str
    revision: str
    name: str
    path: Path
    sha256: str

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}/{self.name} sha256:{self.sha256}"


def fetch_hub_file(repository: str, names: Sequence[str], revision: str = "") -> HubFile:
    """Return the first of some files that a repository has; from the cache where the server does not answer.

    Args:
        repository: OWNER/NAME.
        names: Names of the file, in order of preference.
        revision: A commit, branch or tag; "" for the newest commit of the main branch.

    Raises:
        UnknownIdError: There is no such repository or revision, or it is not open to this user.
        InputError: It has none of the files.
        NetworkError: The server cannot be reached, or may not be asked, and the file is not cached.
        IntegrityError: The file is not the one that the server lists.
    """
    require("huggingface_hub", f"Loading weights of {repository}", extra="hub")
    for name in names:
        path = _fetched(repository, name, revision)
        if path is not None:
            commit = path.parent.name if "snapshots" in path.parts else revision
            return HubFile(repository, commit, name, path, _checked(path))
    raise InputError(
        f"{repository} on the Hub has no {' or '.join(names)}; weights in other formats, which may hold code, are not "
        "loaded from there.",
        hint="Download the file, and name it:  --weights FILE  (read without executing anything in it)",
    )


def _fetched(repository: str, name: str, revision: str) -> Path | None:
    """Return the file's path in the cache; None if the repository does not have it."""
    from huggingface_hub import errors, hf_hub_download

    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() not in _FALSE
    # The client would ask a server that has no address here five times, for half a minute.
    unknown = not offline and _without_address(os.environ.get("HF_ENDPOINT") or _HUB)
    options: dict[str, Any] = {
        "revision": revision or None,
        "endpoint": os.environ.get("HF_ENDPOINT") or None,
        "cache_dir": os.environ.get("HF_HUB_CACHE") or None,
        "local_files_only": offline or unknown,
    }
    try:
        return Path(hf_hub_download(repository, name, **options))
    except (errors.GatedRepoError, errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise _unknown(repository, revision, error) from error
    except errors.RemoteEntryNotFoundError:
        return None
    except errors.HFValidationError as error:
        raise UnknownIdError(
            f"'{repository[:100]}' is not the name of a repository on the Hub, OWNER/NAME."
        ) from error
    except Exception as error:  # of the client, of its HTTP library, of the operating system
        reason = "HF_HUB_OFFLINE is set" if offline else f"the Hub does not answer ({type(error).__name__})"
        reason = "the Hub has no address here: there is no network" if unknown else reason
        raise _unreachable(repository, name, revision, reason) from error


def _without_address(endpoint: str) -> bool:
    """Whether no server of the endpoint's name is known, and no proxy is there to know it."""
    if getproxies():
        return False
    try:
        socket.getaddrinfo(urlsplit(endpoint).hostname or "", None)
    except OSError:
        return True
    return False


def _unknown(repository: str, revision: str, error: Exception) -> ZooError:
    where = f"{_HUB}/{repository}"
    if "Gated" in type(error).__name__:
        return UnknownIdError(
            f"{repository} is open only to users who accept its terms.", hint=f"Accept them: {where}"
        )
    at = f" with a revision '{revision}'" if "Revision" in type(error).__name__ else ""
    return UnknownIdError(
        f"The Hub has no repository {repository}{at}, or none that this user may read.",
        hint="Check the name; for a private repository, set HF_TOKEN.",
    )


def _unreachable(repository: str, name: str, revision: str, reason: str) -> NetworkError:
    pinned = f" --revision {revision}" if revision else ""
    return NetworkError(
        f"{name} of {repository} is not in the cache, and {reason}.",
        hint=f"Where there is a network:  hf download {repository} {name}{pinned}  and copy it here: --weights FILE",
    )


def _checked(path: Path) -> str:
    """Return the sha256 of a file of the cache, whose name is the sha256 that the server lists for large files."""
    blob = path.resolve()
    found = sha256_of(blob)
    if _SHA256.fullmatch(blob.name) and blob.name != found:
        raise IntegrityError(
            f"{path} is damaged: its sha256 is {found}, not {blob.name}.",
            hint=f"Remove it, and run the command again:  rm {blob}",
        )
    return found
