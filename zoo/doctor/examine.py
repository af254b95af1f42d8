"""All findings about this machine, in the order in which one reads them."""

from __future__ import annotations

from pathlib import Path

from zoo import plugins
from zoo.contracts import DeviceProfile
from zoo.devices import board_of
from zoo.doctor.finding import Finding, State
from zoo.doctor.machine import machine_findings, memory_findings, power_findings
from zoo.doctor.software import software_findings


def examine(device: str = "", *, root: Path = Path("/")) -> list[Finding]:
    """Look at the machine whose files are below `root`.

    device: the profile to hold it against; "" for that of the board found, else `host`. Raises UnknownIdError for a
    profile that does not exist.
    """
    profile = plugins.device(device or board_of(root) or "host")
    return [
        *machine_findings(root),
        *memory_findings(root),
        *power_findings(root),
        *software_findings(profile, root),
        *(_gap_findings(profile)),
    ]


def _gap_findings(profile: DeviceProfile) -> list[Finding]:
    return [Finding(f"{profile.id}: {gap.what}", State.NOTE, gap.effect) for gap in profile.gaps]
