"""A Hub on loopback: the HTTP interface that huggingface_hub speaks, for models, both ways, with faults to order.

    with LoopbackHub() as hub:
        sha = hub.add_repo("tester/net", {"README.md": b"...", "model.onnx": b"..."})
        hub.fault("flip", path="*model.onnx", times=2)
        ...  # HF_ENDPOINT=hub.url, HF_TOKEN=hub.token
        assert not hub.leaks()

Large files are redirected to "storage", another origin with signed links, as on the real Hub; a redirect fault leads
to "elsewhere", a third one. What was asked of each is in `hub.seen`. From a shell:

    PYTHONPATH=tests python -m support.loopback_hub --port 8900 --repo tester/net=FOLDER --fault "flip:*model.onnx:2"
"""

from __future__ import annotations

import argparse
import base64
import hmac
import json
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode

from support.loopback_faults import Fault, Faults
from support.loopback_routes import Account
from support.loopback_server import Seen, Server
from support.loopback_store import Repo, blob_of, new_repo

HOSTS = ("hub", "storage", "elsewhere")


class LoopbackHub:
    """Three servers on loopback and what they keep. Addresses: `url`, `storage_url`, `elsewhere_url`.

    token: of the user "tester", who may write. page: entries in a page of a listing. multipart: objects of more bytes
    are uploaded in parts of that size. resolve_cache: small files come by way of a redirect within the Hub.
    """

    def __init__(
        self, *, port: int = 0, page: int = 1000, multipart: int | None = None, resolve_cache: bool = False
    ) -> None:
        self.page, self.multipart, self.resolve_cache = page, multipart, resolve_cache
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.parts: dict[tuple[str, int], bytes] = {}
        self.seen: list[Seen] = []
        self.faults = Faults()
        self.accounts: dict[str, Account] = {}
        self.evil: dict[str, bytes] = {}
        self.token = self.add_token("tester")
        self.key = secrets.token_bytes(16)
        self.lock = threading.RLock()
        #: a server with no more than uploading and downloading need: no list of tags, no sizes beside names
        self.plain = False
        self.closing = threading.Event()
        self._servers = {host: Server(self, host, port if host == "hub" else 0) for host in HOSTS}
        self.url = self._servers["hub"].address
        self.storage_url = self._servers["storage"].address
        self.elsewhere_url = self._servers["elsewhere"].address

    def __enter__(self) -> LoopbackHub:
        for server in self._servers.values():
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        for server in self._servers.values():
            server.shutdown()
            server.server_close()
            server.hang_up()

    # ------------------------------------------------------------------------------------- what tests arrange

    def add_token(self, name: str, *, orgs: Iterable[str] = (), write: bool = True) -> str:
        """A token of a user, made if need be."""
        token = f"hf_{secrets.token_hex(17)}"
        self.accounts[token] = Account(name, tuple(orgs), write)
        return token

    def add_repo(
        self,
        repo_id: str,
        files: Mapping[str, bytes],
        *,
        private: bool = False,
        gated: bool = False,
        tag: str = "",
    ) -> str:
        """A repository with one commit of `files`; the commit's sha."""
        with self.lock:
            self.repos[repo_id] = new_repo(repo_id, private, gated)
            return self.commit(repo_id, files, tag=tag)

    def commit(
        self,
        repo_id: str,
        files: Mapping[str, bytes],
        *,
        gone: Iterable[str] = (),
        tag: str = "",
        title: str = "add",
    ) -> str:
        """Another commit on main, as somebody else would make it; its sha. A tag given is set or moved to it."""
        blobs = {name: blob_of(name, content) for name, content in files.items()}
        with self.lock:
            self.objects.update({blob.sha256: blob.content for blob in blobs.values() if blob.large})
            sha = self.repos[repo_id].add(title, blobs, gone=gone)
            if tag:
                self.repos[repo_id].tags[tag] = sha
        return sha

    def swap(self, repo_id: str, files: Mapping[str, bytes]) -> str:
        """Put another repository in the place of one: none of its commits exists any more."""
        old = self.repos[repo_id]
        new = new_repo(f"{repo_id}#{secrets.token_hex(4)}", old.private, old.gated)
        new.id = repo_id
        with self.lock:
            self.repos[repo_id] = new
            sha = self.commit(repo_id, files)
            new.tags = dict.fromkeys(old.tags, sha)
        return sha

    def fault(
        self, kind: str, *, path: str = "*", method: str = "", host: str = "", times: int | None = 1, skip: int = 0,
        when: Callable[[Mapping[str, str]], bool] | None = None, **options: Any,
    ) -> Fault:  # fmt: skip
        """Set a fault; see :class:`loopback_faults.Fault` and the lists there."""
        return self.faults.add(Fault(kind, path, method, host, times, skip, options, when))

    # -------------------------------------------------------------------------------------- what tests look at

    def asked(self, path: str = "*", *, method: str = "", host: str = "") -> list[Seen]:
        """The requests seen so far whose path matches a pattern of :mod:`fnmatch`."""
        with self.lock:
            return [
                each
                for each in self.seen
                if fnmatchcase(each.path, path) and method in ("", each.method) and host in ("", each.host)
            ]

    def writes(self) -> list[Seen]:
        """The requests that could have changed something."""
        return [each for each in self.asked() if each.method not in ("GET", "HEAD")]

    def leaks(self) -> list[Seen]:
        """The requests that brought a token to another host than the Hub, in whatever part of them."""
        secret = [*self.accounts, *(base64.b64encode(each.encode()).decode() for each in self.accounts)]

        def tells(each: Seen) -> bool:
            text = f"{each.path}?{each.query}\n{dict(each.headers)}\n{each.body.decode('latin-1')}"
            return "authorization" in each.headers or any(token in text for token in secret)

        return [each for each in self.asked() if each.host != "hub" and tells(each)]

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """The content of all files at a revision."""
        commit = self.repos[repo_id].find(revision)
        assert commit is not None, revision
        return {name: blob.content for name, blob in commit.files.items()}

    # ------------------------------------------------------------------------------------------------- details

    def signed(self, path: str) -> str:
        """A link to the storage that is good without a token."""
        query = {"X-Amz-Expires": "3600", "X-Amz-Signature": self.signature(path)}
        return f"{self.storage_url}{path}?{urlencode(query)}"

    def signature(self, path: str) -> str:
        return hmac.new(self.key, unquote(path).encode(), "sha256").hexdigest()


# -------------------------------------------------------------------------------------------------- from a shell


def _main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="A Hub on loopback. Prints its addresses and token as JSON.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--repo", action="append", default=[], help="NAMESPACE/NAME=FOLDER")
    parser.add_argument("--private", action="store_true", help="make the repositories private")
    parser.add_argument("--fault", action="append", default=[], help="KIND[:PATH[:TIMES]]")
    chosen = parser.parse_args(arguments)
    with LoopbackHub(port=chosen.port) as hub:
        commits = {}
        for each in chosen.repo:
            name, _, folder = each.partition("=")
            root = Path(folder)
            files = {
                p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()
            }
            commits[name] = hub.add_repo(name, files, private=chosen.private)
        for each in chosen.fault:
            kind, path, times = (*each.split(":"), "*", "")[:3] if ":" in each else (each, "*", "")
            hub.fault(kind, path=path, times=int(times) if times else None)
        addresses = {"url": hub.url, "storage": hub.storage_url, "token": hub.token, "commits": commits}
        sys.stdout.write(json.dumps(addresses) + "\n")
        sys.stdout.flush()
        done = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: done.set())
        done.wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1:]))
