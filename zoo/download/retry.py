"""How patient a pull is."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass

from zoo.contracts import Reporter
from zoo.errors import NetworkError


@dataclass(frozen=True)
class RetryLimits:
    """Bounds of a pull; times in seconds.

    Attributes:
        timeout: For connecting, and without a single byte.
        slowest: Bytes per second; a slower server counts as one that stalled.
        window: Over which that rate is measured.
        attempts: Failures in a row that brought nothing new.
        most: Failures in all for one file.
        backoff: Wait after the first failure, doubled after each further one.
        longest_wait: The most that is waited; a server that asks for more patience (Retry-After) is given up.
    """

    timeout: float = 10.0
    slowest: float = 1000.0
    window: float = 30.0
    attempts: int = 5
    most: int = 50
    backoff: float = 0.5
    longest_wait: float = 60.0

    @classmethod
    def of_environment(cls) -> RetryLimits:
        """Return the defaults, with the timeout of huggingface_hub's HF_HUB_DOWNLOAD_TIMEOUT if that is set."""
        with contextlib.suppress(ValueError):
            timeout = float(os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT", ""))
            if 0 < timeout < 86_400:
                return cls(timeout=timeout)
        return cls()


class TransientError(NetworkError):
    """What may go better the next time. wait: seconds that the server asked for, or None."""

    def __init__(self, message: str, *, hint: str | None = None, wait: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.wait = wait


class RetryPolicy:
    """Counts the failures of one download, and waits between the attempts."""

    def __init__(self, limits: RetryLimits, report: Reporter) -> None:
        self._limits = limits
        self._report = report
        self._in_a_row = self._in_all = 0

    def failed(self, error: TransientError, *, progressed: bool = False) -> None:
        """Wait before the next attempt; raises `error` if there is to be none."""
        self._in_a_row = 1 if progressed else self._in_a_row + 1
        self._in_all += 1
        limits = self._limits
        wait = min(limits.backoff * 2.0 ** (self._in_a_row - 1), limits.longest_wait)
        if error.wait is not None:
            if error.wait > limits.longest_wait:
                raise NetworkError(
                    f"{error.message} The server asks to wait for {error.wait:.0f} s.",
                    hint="Try again later.",
                ) from error
            wait = max(error.wait, wait if error.wait == 0 else 0)
        if self._in_a_row >= limits.attempts or self._in_all >= limits.most:
            raise error
        self._report.note(f"{error.message} Trying again in {wait:.2g} s.")
        time.sleep(wait)
