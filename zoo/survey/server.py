"""A small web server for one survey: it gives the page and takes answers, and keeps nothing about who sends them."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from zoo.errors import InputError, OutputError, ZooError
from zoo.storage.atomic import read_bytes, without_links, write_bytes_atomic
from zoo.survey.answers import LARGEST_ANSWERS, parse_answers
from zoo.survey.new_survey import PAGE_NAME
from zoo.survey.survey_key import SurveyKey, read_key

#: Answers files that are taken in a minute, and in all.
_A_MINUTE, _MOST = 30, 10_000
_SECONDS = 20
#: Connections at once; seconds for what is asked, and for the page to be sent, which goes in pieces of so many bytes.
_AT_ONCE, _REQUEST_SECONDS, _PAGE_SECONDS, _PIECE = 64, 60, 1800, 1 << 16
#: Bytes of a page, which holds its pictures.
LARGEST_PAGE = 1 << 30


class SurveyServer(ThreadingHTTPServer):
    """Serves a survey on an address; `serve_forever` runs it.

    Args:
        folder: Of the survey.
        answers: Folder that answers are written to.
        host: Address to listen on.
        port: To listen on; 0 for any.

    Raises:
        InputError: The folder holds no survey.
        OutputError: The port cannot be had.
    """

    daemon_threads = True
    request_queue_size = 32

    def __init__(self, folder: Path, answers: Path, host: str = "127.0.0.1", port: int = 8000) -> None:
        self.key: SurveyKey = read_key(folder)
        self.page = read_bytes(without_links(folder / PAGE_NAME), LARGEST_PAGE)
        answers.mkdir(parents=True, exist_ok=True)
        self.answers = answers
        self._taken: deque[float] = deque()
        self._open: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise OutputError(
                f"{host}:{port} cannot be listened on: {error.strerror}.", hint="Choose another with --port."
            ) from error

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, unless too many are at it."""
        with self._lock:
            full = len(self._open) >= _AT_ONCE
            if not full:
                self._open[request] = time.monotonic() + _REQUEST_SECONDS
        if full:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a connection that broke, which would name its address."""

    def service_actions(self) -> None:
        """Cut connections off that dawdle."""
        now = time.monotonic()
        with self._lock:
            late = [request for request, end in self._open.items() if now > end]
        for request in late:
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def give_time(self, request: socket.socket) -> None:
        """Let a connection stay as long as sending a page may take."""
        with self._lock:
            if request in self._open:
                self._open[request] = time.monotonic() + _PAGE_SECONDS

    def may_take(self) -> bool:
        """Return whether one more file of answers is taken now."""
        now = time.monotonic()
        with self._lock:
            while self._taken and now - self._taken[0] > 60:
                self._taken.popleft()
            if len(self._taken) >= _A_MINUTE:
                return False
            self._taken.append(now)
        return len(list(self.answers.glob("*.json"))) < _MOST

    def take(self, content: bytes) -> None:
        """Keep answers; those that a judge sends again replace the ones before.

        Raises:
            InputError: They are refused.
            OutputError: They cannot be written.
        """
        answers = parse_answers(content, "What was sent", self.key)
        write_bytes_atomic(self.answers / f"answers-{answers.judge}.json", content)


class _Handler(BaseHTTPRequestHandler):
    server: SurveyServer
    timeout = _SECONDS
    server_version, sys_version = "zoo", ""

    def do_GET(self) -> None:
        if self.path in ("/", f"/{PAGE_NAME}"):
            self._reply(200, self.server.page, "text/html; charset=utf-8")
        else:
            self._reply(404, b"Not here.\n")

    def do_POST(self) -> None:
        stated = self.headers.get("Content-Length", "")
        length = int(stated) if stated.isascii() and stated.isdigit() and len(stated) < 12 else -1
        self.close_connection = True
        if self.path != "/answers":
            self._reply(404, b"Not here.\n")
        elif not 0 <= length <= LARGEST_ANSWERS:
            self._reply(
                413 if length > 0 else 411, b"The answers must have a length, of at most a megabyte.\n"
            )
        elif not self.server.may_take():
            self._reply(429, b"Too many answers; try again in a minute.\n")
        else:
            try:
                self.server.take(self.rfile.read(length))
            except InputError as error:
                self._reply(400, f"{error.message}\n".encode(errors="replace"))
            except ZooError:
                self._reply(507, b"The answers could not be kept.\n")
            else:
                self._reply(200, b"Thank you.\n")

    def _reply(self, status: int, content: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.server.give_time(self.connection)
        # The time that the socket has for each of them, it would have for all together.
        for begin in range(0, len(content), _PIECE):
            self.wfile.write(content[begin : begin + _PIECE])

    def log_message(self, *_: object) -> None:
        """Keep no addresses."""
