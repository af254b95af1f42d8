"""Keeping what a bench measured: in an artifact of one's own, or in the entry of a registry."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import plugins
from zoo.artifacts.artifact import write_artifact
from zoo.artifacts.card import card_text
from zoo.artifacts.manifest import CARD_NAME
from zoo.artifacts.performance import Performance
from zoo.devices.host import board_of
from zoo.errors import UsageError
from zoo.machine.processors import thread_count
from zoo.publishing.register import record_performance, registered

if TYPE_CHECKING:
    from zoo.artifacts.artifact import Artifact
    from zoo.benchmarking.comparison import BenchReport
    from zoo.contracts import DeviceProfile

_METRICS = "metrics.json"
_X86 = ("x86_64", "amd64")


@dataclass(frozen=True)
class Recording:
    """Where measurements are to be kept, checked before they are made.

    Attributes:
        registry: The registry; None for the artifacts.
        artifacts: By the names that the user called them.
        profile: The device.
    """

    registry: Path | None
    artifacts: Mapping[str, Artifact]
    profile: DeviceProfile

    @classmethod
    def of(cls, place: str, artifacts: Mapping[str, Artifact], profile: DeviceProfile) -> Recording:
        """Return the recording of artifacts.

        Args:
            place: "artifact", or the path of a registry that lists them.
            artifacts: By the names that the user called them, which are the ids in the registry.
            profile: The device.

        Raises:
            UsageError: An artifact may not be changed, the registry does not list it, or the device is not known.
            ZooError: The registry cannot be read.
        """
        recorded_device(profile)
        if place != "artifact":
            _check_listed(Path(place), artifacts)
            return cls(Path(place), artifacts, profile)
        for name, artifact in artifacts.items():
            if artifact.pinned or _METRICS not in artifact.manifest.files:
                why = "a registry pins its bytes" if artifact.pinned else f"it has no {_METRICS}"
                raise UsageError(
                    f"{name} is not changed: {why}.",
                    hint="Record in the registry that lists it:  zoo bench ... --record registry.toml",
                )
        return cls(None, artifacts, profile)

    def keep(self, report: BenchReport, threads: int = 0) -> list[str]:
        """Write what was measured, and return where to.

        Args:
            report: Of the bench.
            threads: As the bench was asked for.

        Raises:
            ZooError: It cannot be written.
        """
        rows = rows_of(report, self.profile, threads)
        for name, artifact in self.artifacts.items():
            if self.registry is None:
                record_in_artifact(artifact, rows[artifact.path])
            else:
                known = registered(self.registry)[name].performance
                record_performance(self.registry, name, {**known, **rows[artifact.path]})
        return (
            [str(each.path) for each in self.artifacts.values()]
            if self.registry is None
            else [str(self.registry)]
        )


def _check_listed(registry: Path, artifacts: Mapping[str, Artifact]) -> None:
    """Refuse artifacts that a registry does not list with just these bytes."""
    listed = registered(registry)
    for name, artifact in artifacts.items():
        entry = listed.get(name)
        if entry is None or artifact.manifest.files.items() - entry.files.items():
            what = "lists no checkpoint" if entry is None else "pins other bytes for the checkpoint"
            raise UsageError(
                f"{registry} {what} '{name}'.",
                hint=f"Add its entry first:  python -m zoo.registry {artifact.path} {name}",
            )


def recorded_device(profile: DeviceProfile) -> str:
    """Return the id of the device that measurements belong to.

    Raises:
        UsageError: This machine is none of the known devices, and none was named.
    """
    if profile.id != "host":
        return profile.id
    found = board_of() or ("x86-cpu" if platform.machine().lower() in _X86 else None)
    if found is None:
        raise UsageError(
            "This machine is none of the devices that zoo knows.",
            hint="Name the device that the measurements are of:  --device ID  (see:  zoo list devices)",
        )
    return found


def rows_of(
    report: BenchReport, profile: DeviceProfile, threads: int = 0
) -> dict[Path, dict[str, Performance]]:
    """Return what a bench measured as rows, by the folder of the artifact and by "DEVICE ENGINE".

    Args:
        report: Of the bench.
        profile: The device.
        threads: As the bench was asked for.
    """
    device, machine = recorded_device(profile), _machine()
    found: dict[Path, dict[str, Performance]] = {}
    for result in report.results:
        candidate = result.candidate
        found.setdefault(candidate.artifact.path, {})[f"{device} {candidate.engine}"] = Performance(
            version=plugins.engine(candidate.engine).version(),
            input="x".join(map(str, (1, *result.shape))),
            threads=thread_count(threads, profile),
            machine=machine,
            median_ms=round(result.latency.median, 3),
            p95_ms=round(result.latency.percentile(95), 3),
            peak_mb=round(result.start.peak_rss_mb, 1),
            joules=None if result.joules is None else round(result.joules, 5),
        )
    return found


def record_in_artifact(artifact: Artifact, rows: Mapping[str, Performance]) -> Artifact:
    """Put rows into the metrics.json and the card of an artifact, which is replaced in one step.

    Rows of other devices and engines stay.

    Args:
        artifact: One that no registry pins.
        rows: By "DEVICE ENGINE".

    Raises:
        IntegrityError: A file of it was altered.
        OutputError: It cannot be written.
    """
    contents = {name: artifact.read(name) for name in artifact.manifest.files}
    metrics = artifact.metrics()
    known = metrics.get("performance", {})
    metrics["performance"] = dict(
        sorted({**known, **{key: row.to_json() for key, row in rows.items()}}.items())
    )
    contents[_METRICS] = (json.dumps(metrics, indent=1) + "\n").encode()
    if CARD_NAME in contents:
        card = card_text(artifact.path.name, artifact.manifest, metrics, path=artifact.path)
        contents[CARD_NAME] = card.encode()
    return write_artifact(artifact.path, artifact.manifest, contents, replace=True)


def _machine() -> str:
    """Return what the system calls the processor or the board."""
    for path, pattern in (
        ("/proc/device-tree/model", r"(.+?)\0?$"),
        ("/proc/cpuinfo", r"^model name\s*: (.+)$"),
    ):
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        match = re.search(pattern, text, re.MULTILINE)
        if match and match[1].strip().isprintable():
            return match[1].strip()[:200]
    return platform.processor() or platform.machine()
