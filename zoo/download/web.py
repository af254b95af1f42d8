"""Asking web servers for bytes, without trusting them.

The standard library's client is used: huggingface_hub has changed its HTTP library from release to release
(requests, httpx, httpx2), and a board that has one of them need not have the others. TLS certificates are
always checked; redirects are followed here, one by one, so that neither the token nor an unencrypted
connection is ever the server's choice.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from collections.abc import Callable, Mapping
from email.message import Message
from email.utils import parsedate_to_datetime
from time import time
from types import TracebackType
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from zoo.contracts import Reporter
from zoo.download.endpoint import redact
from zoo.download.network import authorization, proxy_for, tls
from zoo.download.retry import RetryLimits, RetryPolicy, TransientError
from zoo.errors import IntegrityError, NetworkError
from zoo.registry.sources import is_loopback
from zoo.version import __version__

_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 8
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
#: What is read of an answer nobody wants, to keep the connection for the next question.
_DRAIN = 1 << 16
_LONGEST_URL = 8192

Origin = tuple[str, str, int]
CheckHeaders = Callable[[Message], None]


class Response:
    """A server's answer. status, headers (names in any case), and the body, read in pieces."""

    def __init__(
        self, shown: str, connection: http.client.HTTPConnection, response: http.client.HTTPResponse
    ) -> None:
        self.shown = shown
        self.status = response.status
        self.headers = response.headers
        self._connection = connection
        self._response = response

    def __enter__(self) -> Response:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the connection back for the next question, or end it if much is left unread."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            if kind is None and not self._response.isclosed():
                self._response.read(_DRAIN)
        if not self._response.isclosed():
            self._connection.close()
        self._response.close()

    def read(self, most: int) -> bytes:
        """Return the next bytes, at most `most`; none at the end.

        Raises:
            TransientError: The connection fails.
        """
        try:
            return self._response.read1(most)
        except (OSError, http.client.HTTPException) as error:
            raise _failure(self.shown, error) from error

    def length(self) -> int | None:
        """Return what Content-Length says; None if it says nothing sensible."""
        value = self.headers.get("Content-Length") or ""
        return int(value) if value.isascii() and value.isdigit() and len(value) < 20 else None


class Client:
    """Keeps a connection open to each server that it has asked. Not for several threads at once."""

    def __init__(self, limits: RetryLimits, report: Reporter) -> None:
        self.limits = limits
        self.report = report
        self._connections: dict[Origin, http.client.HTTPConnection] = {}

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._connections.values():
            connection.close()

    def get(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
        check: CheckHeaders = lambda headers: None,
    ) -> Response:
        """Return the answer to a GET, after redirects; its status is 2xx or 416.

        Args:
            url: The address.
            headers: Further headers of the request.
            token: Sent to the server of `url` and to no other, and not over an unencrypted connection that
                leaves this machine.
            check: Looks at the headers of each answer, those of redirects too.

        Raises:
            TransientError: The request failed in a way that may pass.
            NetworkError: The server refuses.
        """
        shown = shown_address(url)
        for _ in range(_MOST_REDIRECTS + 1):
            parts = urlsplit(url)
            sent = {"User-Agent": f"compression-zoo/{__version__}", "Accept-Encoding": "identity"} | dict(
                headers or {}
            )
            if token and _is_private(parts):
                sent["Authorization"] = f"Bearer {token}"
            answer = self._ask(parts, sent, shown)
            if answer.status not in _REDIRECTS:
                _check_status(answer, bool(token))
                check(answer.headers)
                return answer
            with answer:
                check(answer.headers)
                following = _following(url, answer)
            if _origin(urlsplit(following)) != _origin(parts):
                token = None
            url = following
        raise NetworkError(f"{shown} is redirected more than {_MOST_REDIRECTS} times.")

    def read(
        self, url: str, most: int, token: str | None = None, check: CheckHeaders = lambda headers: None
    ) -> bytes:
        """Return a small file, trying several times.

        Raises:
            NetworkError: The file cannot be fetched.
            IntegrityError: It has more than `most` bytes.
        """
        patience = RetryPolicy(self.limits, self.report)
        while True:
            try:
                with self.get(url, None, token, check) as answer:
                    return _whole(answer, most)
            except TransientError as error:
                patience.failed(error)

    def _ask(self, parts: SplitResult, headers: Mapping[str, str], shown: str) -> Response:
        origin = _origin(parts)
        while True:
            known = origin in self._connections
            connection, via = self._connection(parts, origin)
            target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
            if via:
                target = f"{parts.scheme}://{parts.netloc}{target}"
            try:
                connection.request("GET", target, headers={**headers, **via})
                return Response(shown, connection, connection.getresponse())
            except (OSError, http.client.HTTPException, ValueError) as error:
                connection.close()
                del self._connections[origin]
                # A connection kept open may have been closed by the server in the meantime: that is not a failure.
                if known and isinstance(error, (ConnectionError, http.client.BadStatusLine)):
                    continue
                raise _failure(shown, error) from error

    def _connection(
        self, parts: SplitResult, origin: Origin
    ) -> tuple[http.client.HTTPConnection, dict[str, str]]:
        """Return a connection to the server or its proxy, and headers for a proxy that needs the whole address."""
        scheme, host, port = origin
        proxy = proxy_for(scheme, host)
        plain_proxy = (
            authorization(proxy) | {"Proxy-Connection": "keep-alive"} if proxy and scheme == "http" else {}
        )
        if origin in self._connections:
            return self._connections[origin], plain_proxy
        where = (proxy.hostname or "", proxy.port or 80) if proxy else (host, port)
        timeout = self.limits.timeout
        if scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                *where, timeout=timeout, context=tls()
            )
            if proxy:
                connection.set_tunnel(host, port, authorization(proxy))
        else:
            connection = http.client.HTTPConnection(*where, timeout=timeout)
        self._connections[origin] = connection
        return connection, plain_proxy


def shown_address(url: str) -> str:
    """Return an address for messages: without its query, which may hold a signature."""
    parts = urlsplit(url)
    return redact(f"{parts.scheme}://{parts.netloc}{unquote(parts.path)}")[:300]


# --------------------------------------------------------------------------------------------------- details


def _whole(answer: Response, most: int) -> bytes:
    """Return the body of an answer of bounded length."""
    pieces, size = [], 0
    while piece := answer.read(most + 1 - size):
        pieces.append(piece)
        size += len(piece)
        if size > most:
            raise IntegrityError(f"{answer.shown} is larger than the {most:,} bytes that are allowed.")
    expected = answer.length()
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise NetworkError(f"{answer.shown}: the server sent it compressed, which was not requested.")
    if expected is not None and size < expected:
        raise TransientError(f"{answer.shown}: the connection ended too early.")
    return b"".join(pieces)


def _origin(parts: SplitResult) -> Origin:
    return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}[parts.scheme]


def _is_private(parts: SplitResult) -> bool:
    """Return whether nobody on the way reads what is sent there."""
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def _following(url: str, answer: Response) -> str:
    """Return the address a redirect leads to. Raises NetworkError if it is not to be followed."""
    location = answer.headers.get("Location", "")
    # Servers send characters that are not allowed in an address; '%' stays, for what is quoted already.
    following = quote(urljoin(url, location.strip()), safe="%/:=&?~+!$,;'@()*[]#").partition("#")[0]
    try:
        here, there = urlsplit(url), urlsplit(following)
        usable = bool(there.hostname) and there.scheme in ("http", "https") and _origin(there)[2] > 0
    except ValueError:
        usable = False
    if not location or not usable or len(following) > _LONGEST_URL or "@" in there.netloc:
        raise NetworkError(f"{answer.shown} is redirected to an unusable address.")
    stays = _origin(there) == _origin(here)
    if (
        there.scheme == "http"
        and not stays
        and not (here.scheme == "http" and is_loopback(there.hostname or ""))
    ):
        raise NetworkError(
            f"{answer.shown} is redirected to {shown_address(following)}, which is not encrypted; not followed."
        )
    return following


def _check_status(answer: Response, with_token: bool) -> None:
    """Raise what a status other than success or 416 means."""
    status = answer.status
    if 200 <= status < 300 or status == 416:
        return
    with answer:
        code = answer.headers.get("X-Error-Code", "")
        message = f"{answer.shown}: the server says {status} {_PHRASES.get(status, '')}".rstrip() + "."
        if status in _TRANSIENT:
            raise TransientError(message, wait=_retry_after(answer.headers.get("Retry-After")))
        hint = None
        if code == "GatedRepo":
            hint = "Accept its conditions on its page on the Hub, and log in with:  hf auth login"
        elif status in (401, 403):
            hint = (
                "The token in use may not read it, or it does not exist."
                if with_token
                else "If it exists and is private, log in with:  hf auth login"
            )
        raise NetworkError(message, hint=hint)


_PHRASES = {status.value: status.phrase for status in http.HTTPStatus}


def _retry_after(value: str | None) -> float | None:
    """Seconds from the header Retry-After, which holds a number or a date; None for anything else."""
    if not value:
        return None
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except (ValueError, TypeError, OverflowError):
        return None


def _failure(shown: str, error: Exception) -> NetworkError:
    """Return the error for an exception of the client."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return NetworkError(
            f"{shown}: the server's certificate is not trusted ({error.verify_message}).",
            hint="If your network uses its own certificate, name its file:  export SSL_CERT_FILE=FILE",
        )
    if isinstance(error, (ValueError, http.client.InvalidURL)) and not isinstance(error, OSError):
        return NetworkError(f"{shown} cannot be requested: {redact(error)}.")
    if isinstance(error, TimeoutError):
        reason = "nothing came for too long"
    elif isinstance(error, socket.gaierror):
        reason = "no such host is known here"
    elif isinstance(error, (ConnectionResetError, BrokenPipeError, http.client.HTTPException)):
        reason = "the connection ended, or what came was no HTTP"
    else:
        reason = redact(getattr(error, "strerror", None) or error).rstrip(".").lower()
    return TransientError(f"{shown}: {reason}.", hint="Check the connection; the next pull resumes this one.")
