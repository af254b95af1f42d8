"""From an artifact to a session that is known to compute it rightly."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import plugins
from zoo.artifacts.golden import check_golden
from zoo.artifacts.manifest import MODEL_NAME
from zoo.cache import cache_dir
from zoo.engines.onnx_check import checked_model
from zoo.errors import InputError, IntegrityError, OutputError, PluginError, UsageError, ZooError
from zoo.files import read_bytes, write_bytes_atomic
from zoo.pull.records import distrust
from zoo.strict import Fields, parse_json

if TYPE_CHECKING:
    from zoo.artifacts.artifact import Artifact
    from zoo.contracts import DeviceProfile, Engine, Session


@dataclass(frozen=True)
class Loaded:
    """An artifact opened on an engine. golden_psnr: in dB, None if the artifact holds no golden outputs."""

    artifact: Artifact
    session: Session
    engine: str
    engine_version: str
    golden_psnr: float | None


def load(
    artifact: Artifact, profile: DeviceProfile, *, engine: str | None = None, threads: int = 0
) -> Loaded:
    """Verify all files, open the model on `engine` (by default the profile's first that is there), check it.

    The golden check runs once for each model, engine version and machine; its result is kept in the cache.
    Raises IntegrityError for an altered artifact, for a model that no engine may be given, and for an engine that
    computes it wrongly, PluginError or UsageError if no engine is there.
    """
    chosen = _engine(engine, profile)
    try:
        artifact.verify()
    except IntegrityError:
        distrust(artifact.path)  # so that the next pull mends it
        raise
    session = chosen.open(checked_model(artifact), threads=threads)
    version = chosen.version()
    return Loaded(artifact, session, chosen.id, version, _checked(artifact, session, chosen.id, version))


def _engine(name: str | None, profile: DeviceProfile) -> Engine:
    if name is not None:
        engine = plugins.engine(name)
        obstacle = engine.available()
        if obstacle:
            raise UsageError(f"The engine {name} cannot run here: {obstacle}", hint="See:  zoo list engines")
        return engine
    obstacles = []
    for candidate in profile.engines:
        try:
            engine = plugins.engine(candidate)
            obstacle = engine.available()
        except ZooError as error:
            obstacle = error.message
        if obstacle is None:
            return engine
        obstacles.append(f"{candidate}: {obstacle}")
    raise PluginError(
        f"None of the engines of {profile.id} can run here. {' '.join(obstacles)}",
        hint="See:  zoo list engines",
    )


def _checked(artifact: Artifact, session: Session, engine: str, version: str) -> float | None:
    """The golden PSNR, from the cache if this very check was passed before."""
    golden = artifact.manifest.golden
    if golden is None:
        return None
    subject = {
        "model": artifact.manifest.files[MODEL_NAME].sha256,
        "golden": artifact.manifest.files[golden.file].sha256,
        "min_psnr": golden.min_psnr,
        "engine": engine,
        "engine_version": version,
        "machine": f"{platform.node()} {platform.machine()}",
    }
    key = hashlib.sha256(json.dumps(subject, sort_keys=True).encode()).hexdigest()
    try:
        record = cache_dir() / "golden" / f"{key}.json"
    except OutputError:
        return check_golden(session, artifact, f"{engine} {version}")
    known = _passed_before(record, golden.min_psnr)
    if known is not None:
        return known
    psnr = check_golden(session, artifact, f"{engine} {version}")
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(record, json.dumps({**subject, "psnr_db": psnr}).encode())
    except (OSError, OutputError):
        pass  # a board's file system may be read-only; the check then runs each time
    return psnr


def _passed_before(record: Path, min_psnr: float) -> float | None:
    if not record.is_file():
        return None
    try:
        content = parse_json(read_bytes(record, 10_000), str(record), error=InputError)
        return Fields(content, str(record), error=InputError).number("psnr_db", least=min_psnr, most=1000)
    except (InputError, IntegrityError):
        return None
