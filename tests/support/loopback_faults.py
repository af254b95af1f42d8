"""What can go wrong with an answer of the loopback Hub."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

#: Change the bytes of a file on their way; only answers that carry (a part of) a file meet them.
CONTENT_FAULTS = {
    "flip": "one bit is inverted, at `at` (default: the middle)",
    "truncate": "the connection ends after `at` bytes (default: half) of what Content-Length promised",
    "shorten": "the file is cut to `at` bytes (default: half), and Content-Length agrees",
    "lengthen": "`by` (default 1) bytes are appended, and Content-Length agrees",
    "content-length": "Content-Length is wrong by `by` (default 1); the connection ends with the file",
    "endless": "no Content-Length, and after the file zeros follow until the client goes",
    "stall": "after `at` bytes (default: half) nothing comes for `seconds` (default 3600)",
    "trickle": "`chunk` bytes (default 1024) every `seconds` (default 0.05)",
    "break": "the connection is reset after `at` bytes (default: half)",
    "wrong-range": "206 with the bytes `shift` (default 1) earlier or later, and Content-Range says so",
    "lying-range": "the same, but Content-Range claims what was asked for",
    "no-range": "200 with the whole file to a request for a part",
    "gzip": "the file is compressed, with Content-Encoding, if the client accepts that",
    "no-length": "neither Content-Length nor chunks: the file ends with the connection",
}
#: Take the place of any answer, or surround it.
ANSWER_FAULTS = {
    "status": "the answer is `code` (default 500), with `headers` and `body`; nothing is done",
    "retry-after": "429 with Retry-After: `seconds` (default 1); nothing is done",
    "416": "416 Range Not Satisfiable",
    "redirect": "302 to another host, which gives the same file (or `body`)",
    "loop": "302 to itself",
    "reset": "the connection is reset before anything is done",
    "lost-answer": "the request is carried out, then the connection is reset",
    "race": "before a commit is looked at, somebody else commits; so it is answered with 412",
    "bad-etag": "ETag and X-Linked-Etag are those of other content",
    "delay": "the answer comes `seconds` (default 1) late",
}
#: Meet only requests for a part of a file.
RANGE_FAULTS = ("wrong-range", "lying-range", "no-range", "416")
FAULTS = CONTENT_FAULTS | ANSWER_FAULTS


@dataclass
class Fault:
    """A fault that strikes requests whose path matches, the first `times` times (None: always).

    path: pattern of :mod:`fnmatch` over the URL's path without the query. method, host: "" for any; host is one of
    "hub", "storage", "elsewhere". skip: how many matching requests are spared first. hits: how often it struck.
    """

    kind: str
    path: str = "*"
    method: str = ""
    host: str = ""
    times: int | None = 1
    skip: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    when: Callable[[Mapping[str, str]], bool] | None = None
    hits: int = 0

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise ValueError(f"no fault {self.kind!r}; there are {', '.join(FAULTS)}")

    def matches(self, host: str, method: str, path: str, headers: Mapping[str, str]) -> bool:
        return (
            (self.times is None or self.hits < self.times)
            and self.host in ("", host)
            and self.method in ("", method)
            and fnmatchcase(path, self.path)
            and (self.kind not in RANGE_FAULTS or "range" in headers)
            and (self.kind != "race" or "/commit/" in path)
            and (self.when is None or self.when(headers))
        )

    def get(self, option: str, default: Any) -> Any:
        value = self.options.get(option)
        return default if value is None else value


class Faults:
    """The faults that are set; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self._all.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._all.clear()

    def strike(
        self, host: str, method: str, path: str, headers: Mapping[str, str], *, content: bool
    ) -> Fault | None:
        """The first fault that meets this request, counted as a hit.

        content: whether those for answers with a file are meant, or those for any answer.
        """
        kinds = CONTENT_FAULTS if content else ANSWER_FAULTS
        with self._lock:
            for fault in self._all:
                if fault.kind in kinds and fault.matches(host, method, path, headers):
                    if fault.skip:
                        fault.skip -= 1
                        continue
                    fault.hits += 1
                    return fault
        return None
