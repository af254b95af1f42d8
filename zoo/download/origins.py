"""The places files come from. What they give is not trusted: each file is verified when it is complete."""

from __future__ import annotations

from email.message import Message
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, unquote

from zoo.contracts import Reporter
from zoo.download.endpoint import endpoint, offline, token
from zoo.download.partial import Partial
from zoo.download.transfer import download, raise_for_mismatch
from zoo.download.web import Client
from zoo.errors import IntegrityError, NetworkError
from zoo.registry import PACKAGE_SOURCE, Checkpoint, shipped_folder
from zoo.registry.sources import HubAddress, hub_address
from zoo.storage.atomic import CHUNK, open_regular, reading


class CheckpointSource(Protocol):
    """A place that holds the files of one checkpoint."""

    def fetch(self, name: str, partial: Partial, report: Reporter) -> None:
        """Complete `partial`, which is the file `name`.

        Raises:
            ZooError: The file cannot be completed.
        """


class FolderSource:
    """A folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fetch(self, name: str, partial: Partial, report: Reporter) -> None:
        path = self._folder / name
        partial.keep = False
        report.advance(-partial.size)
        partial.clear()
        report.advance(partial.size)
        with open_regular(path) as stream:
            while partial.size <= partial.entry.size:
                with reading(path):
                    piece = stream.read(CHUNK)
                if not piece:
                    break
                partial.append(piece)
                report.advance(len(piece))
        if problem := partial.problem():
            report.advance(-partial.size)
            partial.clear()
            raise_for_mismatch(str(path), problem)


class WebSource:
    """A folder of a web server."""

    def __init__(self, address: str, client: Client) -> None:
        self._address = address
        self._client = client

    def fetch(self, name: str, partial: Partial, report: Reporter) -> None:
        check_online(self._address + name)
        url = self._address + quote(name)
        download(self._client, url, partial, report, token=self.token(), check=self.check)

    def read(self, name: str, most: int) -> bytes:
        """Return the file `name`, of at most `most` bytes, unverified.

        Raises:
            NetworkError: The file cannot be fetched.
            IntegrityError: The file is larger, or another one than was asked for.
        """
        return self._client.read(self._address + quote(name), most, self.token(), self.check)

    def token(self) -> str | None:
        """Return the token for the server; None for any other than the Hub."""
        return None

    def check(self, headers: Message) -> None:
        """Check that the headers of an answer do not announce something else.

        Raises:
            IntegrityError: They do.
        """


class HubSource(WebSource):
    """A repository of the Hub at a commit."""

    def __init__(self, address: HubAddress, client: Client) -> None:
        super().__init__(f"{endpoint()}/{address.repository}/resolve/{address.commit}/", client)
        self._hub = address

    def token(self) -> str | None:
        return token()

    def check(self, headers: Message) -> None:
        found = headers.get("X-Repo-Commit")
        if found is not None and found != self._hub.commit:
            raise IntegrityError(
                f"{endpoint()} was asked for commit {self._hub.commit} of {self._hub.repository} "
                f"and returned commit {ascii(found)[1:-1][:40]}.",
                hint="Do not use the files there, and inform their publisher.",
            )


def open_source(address: str, wanted: Checkpoint, client: Client) -> CheckpointSource:
    """Return the source at `address`, one of those of a checkpoint."""
    if address == PACKAGE_SOURCE:
        return FolderSource(shipped_folder(wanted.id))
    if address.startswith("file:"):
        return FolderSource(Path(unquote(address.removeprefix("file:"))))
    hub = hub_address(address)
    return HubSource(hub, client) if hub else WebSource(address, client)


def check_online(what: str) -> None:
    """Check that the user does not forbid connections.

    Args:
        what: What needs the connection, for the message.

    Raises:
        NetworkError: Connections are forbidden.
    """
    if offline():
        raise NetworkError(
            f"{what} is not available locally, and HF_HUB_OFFLINE forbids connections.",
            hint="Allow them:  unset HF_HUB_OFFLINE",
        )
