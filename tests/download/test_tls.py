"""Pulls over TLS: certificates are checked, and nothing leads from an encrypted connection to an open one."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.pulling import QUICK, artifact_files, contents, registry_text
from zoo.download import pull
from zoo.download.network import tls
from zoo.errors import NetworkError
from zoo.registry import parse_registry

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")


class Folder(BaseHTTPRequestHandler):
    """Serves files, or leads to `redirect`."""

    protocol_version = "HTTP/1.1"
    server: Any

    def do_GET(self) -> None:
        self.server.seen.append(dict(self.headers))
        body = self.server.files.get(self.path.rpartition("/")[2], b"")
        self.send_response(302 if self.server.redirect else 200)
        if self.server.redirect:
            self.send_header("Location", self.server.redirect + self.path)
            body = b""
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(files: dict[str, bytes], certificate: Path | None, redirect: str = "") -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Folder)
    server.files, server.redirect, server.seen = files, redirect, []
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_name("key.pem"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.address = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody knows."""
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder, capture_output=True, check=True,
    )  # fmt: skip
    return folder / "cert.pem"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ZOO_REGISTRY", "")
    monkeypatch.setenv("HF_TOKEN", "hf_" + "secret" * 6)
    yield tmp_path
    tls.cache_clear()


def pull_from(root: Path, address: str) -> Path:
    known = parse_registry(registry_text(root, f"{address}/").encode(), "r.toml")
    return pull("small", known=known, limits=QUICK).path


def test_a_server_whose_certificate_nobody_knows_is_refused(root: Path, certificate: Path) -> None:
    files = artifact_files(root)
    tls.cache_clear()
    with serving(files, certificate) as server:
        with pytest.raises(NetworkError, match="certificate is not trusted") as caught:
            pull_from(root, server.address)
        assert server.seen == []
    assert "SSL_CERT_FILE" in (caught.value.hint or "")


def test_an_encrypted_pull_follows_no_redirect_into_the_open(
    root: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = artifact_files(root)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls.cache_clear()
    with serving(files, None) as plain, serving(files, certificate, plain.address) as leading:
        with pytest.raises(NetworkError, match="which is not encrypted"):
            pull_from(root, leading.address)
        assert plain.seen == []
    with serving(files, certificate) as other, serving(files, certificate, other.address) as leading:
        assert contents(pull_from(root, leading.address)) == files
        assert not any("Authorization" in headers for headers in (*other.seen, *leading.seen))


def test_a_proxy_is_asked_for_a_tunnel(
    root: Path, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that knows no tunnels refuses; nothing of the request itself is told to it."""
    files = artifact_files(root)
    with serving(files, certificate) as server, serving(files, None) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.address)
        monkeypatch.setenv("NO_PROXY", "")
        with pytest.raises(NetworkError, match=f"{server.address}/zoo.json"):
            pull_from(root, server.address)
        assert proxy.seen == server.seen == []
