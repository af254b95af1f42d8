"""The servers of the loopback Hub: reading requests, sending answers, and sending them badly."""

from __future__ import annotations

import binascii
import gzip
import hashlib
import re
import secrets
import socket
import struct
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from support.loopback_faults import Fault
from support.loopback_routes import ANSWERS, Answer, Refused, Request, json_answer

if TYPE_CHECKING:
    from support.loopback_hub import LoopbackHub


@dataclass
class Seen:
    """One request. status is 0 and sent (bytes of the body) counts up to now while it is being answered."""

    host: str
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""
    status: int = 0
    sent: int = 0


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, hub: LoopbackHub, host: str, port: int) -> None:
        self.hub, self.host = hub, host
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)
        # Another name than the Hub's, so that cookies and tokens bound to a name do not go along either.
        self.address = f"http://{'127.0.0.1' if host == 'hub' else 'localhost'}:{self.server_address[1]}"

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        self.close_request(request)  # without a farewell, so that a reset stays one

    def hang_up(self) -> None:
        for each in list(self._open):
            _reset(each)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, (OSError, ValueError)):  # a client that goes away is no news
            super().handle_error(request, client_address)


def _reset(connection: socket.socket) -> None:
    """Have the connection end with RST."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RD)
    except OSError:
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        hub, host = self.server.hub, self.server.host
        target = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(host, self.command, target.path, target.query, headers)
        with hub.lock:
            hub.seen.append(seen)
        self._seen = seen
        seen.body = self._read_body(headers)
        account = hub.accounts.get(headers.get("authorization", "").removeprefix("Bearer "))
        query = {key: values[-1] for key, values in parse_qs(target.query).items()}
        request = Request(hub, self.command, target.path, query, headers, seen.body, account)
        fault = hub.faults.strike(host, self.command, target.path, headers, content=False)
        answer = self._before(fault, request)
        if answer is None:
            try:
                answer = ANSWERS[host](request)
            except Refused as refused:
                answer = refused.answer
            except (KeyError, TypeError, ValueError, binascii.Error) as error:
                answer = json_answer({"error": f"Bad request: {error!r}"}, 400)
        if fault and fault.kind == "lost-answer":
            self._hang_up()
        elif fault and fault.kind == "bad-etag":
            wrong = hashlib.sha256(fault.get("etag", "").encode()).hexdigest()
            answer.headers.update(
                {name: f'"{wrong}"' for name in ("ETag", "X-Linked-ETag") if name in answer.headers}
            )
            self._send(answer, request)
        elif not (fault and fault.kind == "reset"):
            self._send(answer, request)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815

    def _before(self, fault: Fault | None, request: Request) -> Answer | None:
        """What a fault answers in the place of the server; None if the request is to be carried out."""
        if fault is None:
            return None
        if fault.kind == "status":
            return Answer(
                fault.get("code", 500), fault.get("body", b"Sorry."), dict(fault.get("headers", {}))
            )
        if fault.kind == "retry-after":
            return Answer(429, b"Too many requests", {"Retry-After": str(fault.get("seconds", 1))})
        if fault.kind == "416":
            return Answer(416, b"", {"Content-Range": "bytes */*"})
        if fault.kind == "redirect":
            if (body := fault.get("body", None)) is not None:
                request.hub.evil[request.path] = body
            return Answer(302, b"Found", {"Location": f"{request.hub.elsewhere_url}{self.path}"})
        if fault.kind == "loop":
            return Answer(302, b"Found", {"Location": self.path})
        if fault.kind == "reset":
            self._hang_up()
            return Answer(0)
        if fault.kind == "race":
            repo_id = "/".join(request.path.split("/")[3:5])
            request.hub.commit(repo_id, {"elsewhere.txt": secrets.token_bytes(8)}, title="faster")
        if fault.kind == "delay":
            request.hub.closing.wait(fault.get("seconds", 1))
        return None

    def _read_body(self, headers: Mapping[str, str]) -> bytes:
        """The whole body. Raises ConnectionError if the client goes before it is here."""
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return self._read(int(headers.get("content-length", "0")))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0] or b"-1", 16):
            chunks.append(self._read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(chunks)

    def _read(self, size: int) -> bytes:
        content = self.rfile.read(max(0, size))
        if len(content) != size:
            self._seen.status = 499
            raise ConnectionError("the client is gone")
        return content

    def _hang_up(self) -> None:
        _reset(self.connection)
        self.close_connection = True

    def _send(self, answer: Answer, request: Request) -> None:
        if answer.blob is not None:
            fault = None
            if self.command == "GET":
                hub, host = self.server.hub, self.server.host
                fault = hub.faults.strike(host, "GET", request.path, request.headers, content=True)
            self._send_file(answer, answer.blob.content, request, fault)
            return
        self._head(answer.status, {**answer.headers, "Content-Length": str(len(answer.body))})
        if self.command != "HEAD":
            self._write(answer.body)

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self._seen.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _write(self, body: bytes | memoryview) -> None:
        step = 1 << 20
        for start in range(0, len(body), step):
            self.wfile.write(body[start : start + step])
            self._seen.sent += len(body[start : start + step])

    def _send_file(self, answer: Answer, content: bytes, request: Request, fault: Fault | None) -> None:
        kind = fault.kind if fault else ""
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **answer.headers}
        asked = None if kind == "no-range" else _range_of(request.headers, len(content), headers["ETag"])
        start, stop = asked or (0, len(content))
        if asked and start >= stop:
            headers["Content-Range"] = f"bytes */{len(content)}"
            self._head(416, {**headers, "Content-Length": "0"})
            return
        if asked:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        body: bytes | memoryview = memoryview(content)[start:stop]
        if fault:
            body = self._spoil(fault, content, start, stop, body, headers)
        if kind == "gzip" and "gzip" in request.headers.get("accept-encoding", ""):
            body = gzip.compress(body)
            headers["Content-Encoding"] = "gzip"
        length = len(body) + (fault.get("by", 1) if fault and kind == "content-length" else 0)
        headers["Content-Length"] = str(max(0, length))
        if kind in ("endless", "no-length"):
            del headers["Content-Length"]
            headers["Connection"] = "close"
            self.close_connection = True
        self._head(206 if asked else 200, headers)
        if self.command == "HEAD":
            return
        if fault is None:
            self._write(body)
        else:
            self._write_badly(fault, body, start)

    def _spoil(
        self,
        fault: Fault,
        content: bytes,
        start: int,
        stop: int,
        body: bytes | memoryview,
        headers: dict[str, str],
    ) -> bytes | memoryview:
        """The bytes that a fault sends instead of `body`, which is content[start:stop]."""
        if fault.kind == "flip" and body:
            changed = bytearray(body)
            at = fault.get("at", start + len(body) // 2) - start
            changed[at if 0 <= at < len(body) else len(body) // 2] ^= 1 << fault.get("bit", 0)
            return bytes(changed)
        if fault.kind == "shorten":
            return body[: _cut(fault, start, len(body))]
        if fault.kind == "lengthen":
            return bytes(body) + b"+" * fault.get("by", 1)
        if fault.kind in ("wrong-range", "lying-range"):
            shift = fault.get("shift", 1)
            first = start + shift if stop + shift <= len(content) else max(0, start - shift)
            if fault.kind == "wrong-range":
                headers["Content-Range"] = f"bytes {first}-{first + len(body) - 1}/{len(content)}"
            return memoryview(content)[first : first + len(body)]
        return body

    def _write_badly(self, fault: Fault, body: bytes | memoryview, start: int) -> None:
        cut = _cut(fault, start, len(body))
        closing = self.server.hub.closing
        if fault.kind == "truncate":
            self._write(body[:cut])
            self.close_connection = True
        elif fault.kind == "break":
            self._write(body[:cut])
            time.sleep(0.02)  # a reset overtakes what the client has not read yet
            self._hang_up()
        elif fault.kind == "stall":
            self._write(body[:cut])
            closing.wait(fault.get("seconds", 3600))
            self.close_connection = True
        elif fault.kind == "trickle":
            step = fault.get("chunk", 1024)
            for first in range(0, len(body), step):
                self._write(body[first : first + step])
                if closing.wait(fault.get("seconds", 0.05)):
                    return
        elif fault.kind == "endless":
            self._write(body)
            while not closing.is_set():
                self._write(b"\0" * 65536)
        else:
            self._write(
                body[: int(fault.get("by", 1)) + len(body)] if fault.kind == "content-length" else body
            )
            if fault.kind == "content-length":
                self.close_connection = True


def _cut(fault: Fault, start: int, length: int) -> int:
    """How many bytes of an answer that begins at `start` are sent before the fault."""
    at: int = fault.get("at", start + length // 2) - start
    return at if 0 <= at < length else length // 2


def _range_of(headers: Mapping[str, str], size: int, etag: str) -> tuple[int, int] | None:
    """The part that was asked for; None for the whole file."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("range", "").strip())
    if match is None or match.groups() == ("", "") or headers.get("if-range", etag) != etag:
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size
