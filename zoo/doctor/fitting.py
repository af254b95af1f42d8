"""Whether an artifact fits in the memory of a board."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from zoo.doctor.finding import Finding, Severity
from zoo.runner.budget import MB, board_limit, footprint

if TYPE_CHECKING:
    from zoo.artifacts.artifact import Artifact
    from zoo.contracts import DeviceProfile

#: Of the sides of a frame, as most cameras have them.
_RATIO = 1.5


def fit_findings(artifact: Artifact, profile: DeviceProfile, megapixels: float) -> Iterator[Finding]:
    """Yield the memory for a frame of `megapixels`: in tiles, as `zoo run` computes it, and in one piece.

    Raises:
        IntegrityError: The model may not be handed to an engine.
    """
    height = round((megapixels * 1e6 / _RATIO) ** 0.5)
    need = footprint(artifact)
    frame = need.frame(height, round(height * _RATIO))
    least, whole = need.least(frame) // MB, need.whole(frame) // MB
    subject = f"memory for {megapixels:g} megapixels"
    found = f"{least:,} MB at least, {whole:,} MB in one piece, of {profile.memory_mb:,} MB"
    if need.least(frame) > board_limit(profile):
        yield Finding(
            subject,
            Severity.PROBLEM,
            f"{found}: it would swap, or be killed",
            "Take a smaller network:  zoo list",
        )
    elif whole > profile.memory_mb:
        yield Finding(
            subject,
            Severity.NOTE,
            f"{found}: only tiles avoid swapping",
            "Run it with:  zoo run",
        )
    else:
        yield Finding(subject, Severity.OK, found)
