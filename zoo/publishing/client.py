"""huggingface_hub's client for one command: where it may connect to, what it may print, how it fails."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from zoo.download import endpoint
from zoo.errors import NetworkError, OutputError, UsageError, ZooError
from zoo.registry.sources import is_loopback
from zoo.storage.atomic import reason_of
from zoo.storage.cache_dir import cache_dir
from zoo.version import __version__

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from zoo.contracts import Reporter

#: Seconds without a byte from the Hub after which a request is given up.
PATIENCE = 60.0
_LONGEST_REASON = 500
_AGAIN = "Run the same command again to resume it."
_NO_UPLOADS = "Does HF_ENDPOINT name a Hub that accepts uploads? Mirrors do not."
_REFUSED = {404: _NO_UPLOADS, 405: _NO_UPLOADS}
_LOGGERS = ("huggingface_hub", "httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "hf_xet")
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class MissingTokenError(UsageError):
    """The user has not logged in."""


@contextlib.contextmanager
def open_client(report: Reporter) -> Iterator[HfApi]:
    """Open a client with the user's token; its warnings become notes, and secrets are kept out of its log.

    Xet is switched off for Hubs other than the public one unless HF_HUB_DISABLE_XET says otherwise: they do
    not speak it.

    Raises:
        MissingTokenError: There is no token.
        UsageError: It would travel unencrypted.
        NetworkError: The user forbids connections.
    """
    address = endpoint.endpoint()
    host = urlsplit(address).hostname or ""
    if endpoint.offline():
        raise NetworkError(
            "Publishing needs the Hub, and HF_HUB_OFFLINE forbids connecting to it.",
            hint="Allow it with:  unset HF_HUB_OFFLINE",
        )
    if address.startswith("http://") and not is_loopback(host):
        raise UsageError(
            f"HF_ENDPOINT is {address}: your token would go there unencrypted.",
            hint=f"Use an address that begins with https://, such as {endpoint.PUBLIC}",
        )
    with _talking_quietly(report, xet=endpoint.is_public(address)):
        from huggingface_hub import HfApi, get_session

        token = endpoint.token() or _exchanged_token()
        if token is None:
            raise MissingTokenError(
                "Publishing needs a token with write access, but none was found.",
                hint="Log in with:  hf auth login",
            )
        with _patience(get_session()):
            yield HfApi(
                endpoint=address, token=token, library_name="compression-zoo", library_version=__version__
            )


@contextlib.contextmanager
def translate_errors(doing: str) -> Iterator[None]:
    """Turn whatever the client raises in the body into a ZooError without secrets. doing: "reading x", ..."""
    try:
        yield
    except ZooError:
        raise
    except Exception as error:
        # Without the client's own error behind it: that may hold signed links.
        raise error_for(error, doing) from None


def error_for(error: Exception, doing: str) -> ZooError:
    """Return the ZooError for an exception of the client."""
    address = endpoint.redact(endpoint.endpoint())
    status, reason = status_of(error), _reason(error)
    for each in _chain(error):
        if status is None and isinstance(each, OSError) and each.errno == errno.EIO:  # no socket reports that
            return OutputError(
                f"{doing[0].upper()}{doing[1:]} failed: {reason_of(each)}.",
                hint=f"Check the disks of the artifact and of {cache_dir()}, and run the same command again.",
            )
        if status is None and isinstance(each, OSError) and each.errno in _DISK:
            return OutputError(
                f"{doing[0].upper()}{doing[1:]} failed in {cache_dir()}: {reason_of(each)}.",
                hint="Free some space, or choose another folder:  export ZOO_CACHE=DIR",
            )
    if status == 401:
        return NetworkError(
            f"{address} does not accept the token ({doing}): {reason}", hint="Log in again:  hf auth login"
        )
    if status == 403:
        return NetworkError(
            f"{address} refuses {doing}: {reason}",
            hint="Check your account with:  hf auth whoami   Log in with a token that has write access:  hf auth login",
        )
    if status is not None:
        hint = _AGAIN if status >= 500 or status in (408, 429) else _REFUSED.get(status)
        return NetworkError(f"{address} answered {status} to {doing}: {reason}", hint=hint)
    return NetworkError(f"The connection to {address} failed while {doing}: {reason}", hint=_AGAIN)


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status behind an exception of the client, its causes included; None if no answer came."""
    for each in _chain(error):
        status = getattr(getattr(each, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
    return None


def uses_xet() -> bool:
    """Return whether the client sends large files by the Xet protocol."""
    from huggingface_hub import constants

    return not constants.HF_HUB_DISABLE_XET and importlib.util.find_spec("hf_xet") is not None


# --------------------------------------------------------------------------------------------------- details


def _exchanged_token() -> str | None:
    """Return a token that only the client can get, such as that of a continuous-integration job."""
    from huggingface_hub import get_token

    with translate_errors("getting a token"):
        found = get_token()
    if found:
        endpoint.add_secret(found)
    return found


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    for _ in range(10):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__


def _reason(error: BaseException) -> str:
    """Return what the server, or else the operating system, said; on one line."""
    chain = [each for each in _chain(error) if str(each)]
    answered = [each for each in chain if getattr(each, "response", None) is not None]
    told = [getattr(each, "server_message", None) or str(each) for each in answered]
    # Of a broken connection the innermost error knows most, at the chain's end.
    text = told[0] if told else str(chain[-1]) if chain else type(error).__name__
    line = " ".join(endpoint.redact(text).split())
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]}..."


@contextlib.contextmanager
def _talking_quietly(report: Reporter, *, xet: bool) -> Iterator[None]:
    """No bars, secrets or warnings of the client on the terminal; its settings are put back afterwards."""
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    showed_bars, disabled = not are_progress_bars_disabled(), constants.HF_HUB_DISABLE_XET
    disable_progress_bars()
    if not xet and not endpoint.is_set("HF_HUB_DISABLE_XET"):
        constants.HF_HUB_DISABLE_XET = True
    try:
        with _logging_without_secrets(), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", UserWarning)
            yield
        for warning in warned:
            report.note(endpoint.redact(warning.message))
    finally:
        constants.HF_HUB_DISABLE_XET = disabled
        if showed_bars:
            enable_progress_bars()


@contextlib.contextmanager
def _patience(session: Any) -> Iterator[None]:
    """Have requests that set no limit of their own end after PATIENCE seconds of silence."""
    if not hasattr(session, "timeout"):  # that of older versions of the client, which set one themselves
        yield
        return
    usual, session.timeout = session.timeout, PATIENCE
    try:
        yield
    finally:
        session.timeout = usual


@contextlib.contextmanager
def _logging_without_secrets() -> Iterator[None]:
    """What the client and the libraries below it log is redacted where it arises, whoever listens."""
    usual = logging.getLogRecordFactory()

    def redacting(name: str, *arguments: Any, **options: Any) -> logging.LogRecord:
        record = usual(name, *arguments, **options)
        if name.partition(".")[0] in _LOGGERS:
            record.msg, record.args = endpoint.redact(record.getMessage()), ()
            record.exc_info = None
        return record

    logging.setLogRecordFactory(redacting)
    try:
        yield
    finally:
        logging.setLogRecordFactory(usual)
