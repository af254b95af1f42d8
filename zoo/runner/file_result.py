"""What became of one file of a run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.errors import ZooError


@dataclass
class FileResult:
    """What became of one file.

    Attributes:
        path: The file.
        output: Where its picture goes; None if none is written.
        size: Width and height of the picture, upright.
        ratio: The amplification that was used; None for files that are not RAW.
        tiles: How many tiles the network computed.
        steps: Seconds of each step: decode, pack, infer and write. RAW files are decoded while other work is done.
        seconds: The time that passed from the start of work on the file until it was done.
        findings: Of networks whose outputs are no images: what the task shows, such as classes or boxes.
        others: Of networks with several outputs: shape and range of each of the others, by name.
        planned: Bytes that the memory was expected to peak at.
        doubts: What looks wrong about the file, and may still be right.
        skipped: Whether its picture existed already and was left.
        error: Why it failed; None if it did not.
    """

    path: Path
    output: Path | None = None
    size: tuple[int, int] | None = None
    ratio: float | None = None
    tiles: int = 0
    steps: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    findings: list[dict[str, Any]] | None = None
    others: dict[str, dict[str, Any]] = field(default_factory=dict)
    planned: int | None = None
    doubts: tuple[str, ...] = ()
    skipped: bool = False
    error: ZooError | None = None

    @property
    def top(self) -> list[tuple[int, float]] | None:
        """Return the five highest (class index, logit) of a classifier; None for other networks."""
        rows = self.findings or []
        return [(row["class"], row["logit"]) for row in rows] if rows and "logit" in rows[0] else None

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the time that the body takes to a step."""
        started = time.perf_counter()
        yield
        self.steps[step] = self.steps.get(step, 0.0) + time.perf_counter() - started

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for `--json`; times in milliseconds."""
        value: dict[str, Any] = {"file": str(self.path), "ok": self.error is None}
        if self.error is not None:
            return {**value, "error": self.error.message, "hint": self.error.hint}
        if self.skipped:
            return {**value, "output": str(self.output), "skipped": True}
        if self.top is not None:
            value["top"] = self.findings
        elif self.findings is not None:
            value["findings"] = self.findings
        if self.others:
            value["other_outputs"] = self.others
        if self.findings is not None:
            if self.output is not None:
                value["output"] = str(self.output)
        else:
            value |= {"output": str(self.output), "size": self.size, "ratio": self.ratio, "tiles": self.tiles}
            value["planned_mb"] = None if self.planned is None else round(self.planned / 2**20, 1)
        if self.doubts:
            value["doubts"] = list(self.doubts)
        steps = {name: round(seconds * 1000, 3) for name, seconds in self.steps.items()}
        return {**value, "steps_ms": steps, "wall_ms": round(self.seconds * 1000, 3)}
