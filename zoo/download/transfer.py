"""Fetching one file over HTTP: it goes on where it ended, and is verified as a whole."""

from __future__ import annotations

import re
from time import monotonic
from typing import NoReturn

from zoo.contracts import Reporter
from zoo.download.partial import Partial
from zoo.download.retry import RetryLimits, RetryPolicy, TransientError
from zoo.download.web import CheckHeaders, Client, Response, shown_address
from zoo.errors import IntegrityError, NetworkError

_PIECE = 1 << 19
#: A failure after this many new bytes does not count as one more without success.
_PROGRESS = 1 << 20


class _RangeError(TransientError):
    """The server does not give the part of the file that it was asked for."""


def download(
    client: Client, url: str, partial: Partial, report: Reporter, *, token: str | None, check: CheckHeaders
) -> None:
    """Complete `partial` from `url`; it is exactly the wanted file afterwards.

    Args:
        client: Makes the requests.
        url: Address of the file.
        partial: What has arrived so far.
        report: Shows progress.
        token: See :meth:`Client.get`.
        check: See :meth:`Client.get`.

    Raises:
        NetworkError: The server does not send the whole file, however often it is asked.
        IntegrityError: The server sends another file.
    """
    patience = RetryPolicy(client.limits, report)
    ranges, restarted = True, False
    pieced = partial.size > 0
    while True:
        before = partial.size
        try:
            if partial.missing:
                pieced |= before > 0
                _ask(client, url, partial, report, token, check, ranges)
        except TransientError as error:
            ranges &= not isinstance(error, _RangeError)
            patience.failed(error, progressed=partial.size - before >= _PROGRESS)
            continue
        problem = partial.problem()
        if problem is None:
            return
        _clear(partial, report)
        if restarted or not pieced:
            raise_for_mismatch(shown_address(url), problem)
        # What an earlier pull left may have been damaged, or the file changed between two pieces of it.
        restarted, pieced = True, False


def raise_for_mismatch(shown: str, problem: str) -> NoReturn:
    """Report a file that is "longer", "shorter" or "altered".

    Raises:
        IntegrityError: Always.
    """
    raise IntegrityError(
        f"{shown} is not the file that is pinned (it is {problem}); nothing was installed.",
        hint="If this happens again, do not use the files there, and inform their publisher.",
    )


# --------------------------------------------------------------------------------------------------- details


def _ask(
    client: Client,
    url: str,
    partial: Partial,
    report: Reporter,
    token: str | None,
    check: CheckHeaders,
    ranges: bool,
) -> None:
    """Fetch what is missing; all of it again without `ranges`."""
    if not ranges and partial.size:
        _clear(partial, report)
    headers = {"Range": f"bytes={partial.size}-"} if partial.size else {}
    with client.get(url, headers, token, check) as answer:
        _prepare(answer, partial, report)
        _receive(answer, partial, report, client.limits)


def _prepare(answer: Response, partial: Partial, report: Reporter) -> None:
    """Make sure that the body of the answer is what comes next, and as long as it should be."""
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise NetworkError(f"{answer.shown}: the server sent it compressed, which was not requested.")
    if answer.status == 416 or (answer.status == 206 and not partial.size):
        raise _RangeError(f"{answer.shown}: the server did not return the requested part.")
    if answer.status == 206:
        given = re.fullmatch(
            r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", answer.headers.get("Content-Range", "")
        )
        if not given or int(given[1]) != partial.size:
            raise _RangeError(f"{answer.shown}: the server returned a different part than requested.")
        if given[3] != "*" and int(given[3]) != partial.entry.size:
            raise_for_mismatch(answer.shown, "longer" if int(given[3]) > partial.entry.size else "shorter")
    elif answer.status == 200:
        _clear(partial, report)
    else:
        raise NetworkError(f"{answer.shown}: the server answered {answer.status}, not with a file.")
    length = answer.length()
    if length is not None and length != partial.missing:
        raise_for_mismatch(answer.shown, "longer" if length > partial.missing else "shorter")


def _receive(answer: Response, partial: Partial, report: Reporter, limits: RetryLimits) -> None:
    started, received = monotonic(), 0
    while partial.missing:
        piece = answer.read(min(_PIECE, partial.missing))
        if not piece:
            raise TransientError(f"{answer.shown}: the connection ended too early.")
        partial.append(piece)
        report.advance(len(piece))
        received += len(piece)
        if (elapsed := monotonic() - started) > limits.window:
            if received < limits.slowest * elapsed:
                raise TransientError(f"{answer.shown}: the server is too slow.")
            started, received = monotonic(), 0
    if answer.length() is None and answer.read(1):
        _clear(partial, report)
        raise_for_mismatch(answer.shown, "longer")


def _clear(partial: Partial, report: Reporter) -> None:
    if partial.size:
        report.advance(-partial.size)
        partial.clear()
        report.advance(partial.size)
