"""All findings about this machine, in the order in which one reads them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zoo import plugins
from zoo.contracts import DeviceProfile
from zoo.devices import board_of
from zoo.doctor.finding import Finding, Severity
from zoo.doctor.fitting import fit_findings
from zoo.doctor.hardware import machine_findings, memory_findings, power_findings
from zoo.doctor.software import software_findings

if TYPE_CHECKING:
    from zoo.artifacts.artifact import Artifact

#: Of a frame whose memory is asked for.
MEGAPIXELS = 24.0


def examine(
    device: str = "",
    *,
    root: Path = Path("/"),
    artifact: Artifact | None = None,
    megapixels: float = MEGAPIXELS,
) -> list[Finding]:
    """Look at the machine whose files are below `root`.

    Args:
        device: Profile to compare it with; "" for that of the board found, else `host`.
        root: Root of the machine's files.
        artifact: One whose memory for a frame is compared with the profile's.
        megapixels: Size of that frame.

    Raises:
        UnknownIdError: The profile does not exist.
        IntegrityError: The model may not be handed to an engine.
    """
    profile = plugins.device(device or board_of(root) or "host")
    return [
        *machine_findings(root),
        *memory_findings(root),
        *power_findings(root),
        *software_findings(profile, root),
        *(_gap_findings(profile)),
        *(fit_findings(artifact, profile, megapixels) if artifact is not None else ()),
    ]


def _gap_findings(profile: DeviceProfile) -> list[Finding]:
    return [Finding(f"{profile.id}: {gap.what}", Severity.NOTE, gap.effect) for gap in profile.gaps]
