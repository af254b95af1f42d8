"""From an artifact to a session that is known to compute it correctly."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import engines, onnx, plugins
from zoo.artifacts.golden import GoldenMismatchError, check_golden
from zoo.artifacts.manifest import MODEL_NAME
from zoo.engines.checked_session import CheckedSession
from zoo.engines.engine_process import SpareProcess
from zoo.engines.opening import name_engine_in_errors, open_session_for
from zoo.engines.supervised_session import SupervisedSession, can_supervise
from zoo.errors import InputError, IntegrityError, PluginError, UsageError, ZooError
from zoo.machine.processors import machine_fingerprint
from zoo.onnx.check import load_checked_model
from zoo.storage.result_cache import ResultCache

if TYPE_CHECKING:
    from zoo.artifacts.artifact import Artifact
    from zoo.contracts import DeviceProfile, Engine, Session
    from zoo.runner.exit_limits import ExitLimits

_LARGEST_RECORD = 10_000
_OTHER = "Try another engine (zoo list engines) or another version of this one."


@dataclass(frozen=True)
class Refused:
    """An engine that can run here but is not used, because it cannot open the model or computes it wrongly."""

    engine: str
    reason: str

    def __str__(self) -> str:
        return f"The engine {self.engine} is passed over: {self.reason}"

    def to_json(self) -> dict[str, str]:
        """Return a plain dictionary for `--json`."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Loaded:
    """An artifact opened on an engine.

    Attributes:
        golden_psnr: Agreement with the golden outputs in dB; None if the artifact holds none.
        refused: The engines that the profile prefers and that were passed over, in order.
        exits: How images leave a network with early exits, where the user asked for that; "" elsewhere.
    """

    artifact: Artifact
    session: CheckedSession
    engine: str
    engine_version: str
    golden_psnr: float | None
    refused: tuple[Refused, ...] = ()
    exits: str = ""


def load(
    artifact: Artifact,
    profile: DeviceProfile,
    *,
    engine: str | None = None,
    threads: int = 0,
    memory: int | None = None,
    supervised: bool | None = None,
    exits: ExitLimits | None = None,
    spare: SpareProcess | None = None,
) -> Loaded:
    """Verify all files and open the model on the profile's first engine that computes it correctly.

    The golden check runs once for each model, engine version and machine; what came of it is kept in the cache.

    Args:
        artifact: All of its files are read.
        profile: Its engines are tried in order.
        engine: Id of the only engine to use.
        threads: Of the engine; 0 for those of the profile.
        memory: Bytes that a process of the engine's own may hold; None for any number.
        supervised: Whether the engine computes in a process of its own, which the network may crash, hang or fill;
            None for yes unless a registry pins the artifact and the engine is one of zoo's own.
        exits: What is asked of a network with early exits.
        spare: A process for the engine that was started beforehand.

    Raises:
        IntegrityError: The artifact was altered, no engine may be given its model, or no engine computes it rightly;
            each engine is named with its reason.
        PluginError: No engine of the profile can run here.
        UsageError: `engine` cannot run here, or `exits` asks for what the network does not have.
    """
    artifact.verify()
    wish, supervised = supervised, is_supervised(artifact, supervised)
    if exits:
        exits.check(load_checked_model(artifact), str(artifact.path))
    if engine is not None:
        chosen = _named(engine)
        apart = supervised or (wish is None and _is_foreign(chosen))
        return _opened(artifact, chosen, profile, threads, memory, apart, exits, spare)
    refused: list[Refused] = []
    obstacles: list[str] = []
    for candidate in _present(profile, obstacles):
        try:
            apart = supervised or (wish is None and _is_foreign(candidate))
            loaded = _opened(artifact, candidate, profile, threads, memory, apart, exits, spare)
        except ZooError as error:
            refused.append(Refused(candidate.id, error.message))
            obstacles.append(f"{candidate.id}: {error.message}")
            continue
        return dataclasses.replace(loaded, refused=tuple(refused))
    reasons = "\n".join(f"  {obstacle}" for obstacle in obstacles)
    if refused:
        raise IntegrityError(
            f"None of the engines of {profile.id} computes {artifact.path} correctly:\n{reasons}",
            hint="See:  zoo doctor",
        )
    raise PluginError(
        f"None of the engines of {profile.id} can run here:\n{reasons}", hint="See:  zoo doctor"
    )


def is_supervised(artifact: Artifact, wish: bool | None) -> bool:
    """Return whether an engine computes an artifact in a process of its own; `wish` is the user's, if any."""
    return wish if wish is not None else not artifact.pinned


def _is_foreign(engine: Engine) -> bool:
    """Whether an engine is a third party's, which may end the process that it runs in."""
    return type(engine).__module__.partition(".")[0] != __name__.partition(".")[0]


def _named(name: str) -> Engine:
    engine = plugins.engine(name)
    with name_engine_in_errors(name):
        obstacle = engine.available()
    if obstacle is not None:
        raise UsageError(f"The engine {name} cannot run here: {obstacle}", hint="See:  zoo doctor")
    return engine


def _present(profile: DeviceProfile, obstacles: list[str]) -> Iterator[Engine]:
    """The profile's engines that are there, best first; of the others, `obstacles` is told why not."""
    for name in profile.engines:
        try:
            engine = plugins.engine(name)
            with name_engine_in_errors(name):
                obstacle = engine.available()
        except ZooError as error:
            obstacle = error.message
        if obstacle is None:
            yield engine
        else:
            obstacles.append(f"{name}: {obstacle}")


def _opened(
    artifact: Artifact,
    engine: Engine,
    profile: DeviceProfile,
    threads: int,
    memory: int | None,
    supervised: bool,
    exits: ExitLimits | None,
    spare: SpareProcess | None,
) -> Loaded:
    """Open and check. Raises ZooError, whatever the engine raises."""
    with name_engine_in_errors(engine.id):
        version = engine.version()
        check = _GoldenRecord(artifact, profile, engine.id, version)
        check.raise_if_refused()
        manifest = artifact.manifest

        def opened(model: Callable[[], bytes], digest: str) -> CheckedSession:
            inner: Session
            if supervised and can_supervise(engine):
                inner = SupervisedSession(
                    engine, model, profile, threads=threads, spec=manifest.input, digest=digest, memory=memory,
                    spare=spare,
                )  # fmt: skip
            else:
                inner = open_session_for(
                    engine, model(), profile, threads=threads, spec=manifest.input, digest=digest
                )
            return CheckedSession(inner, manifest.output, manifest.extra_outputs)

        model = functools.partial(load_checked_model, artifact)
        session = opened(model, manifest.files[MODEL_NAME].sha256)
        try:
            psnr = check.psnr(session, memory)
        except BaseException:
            session.close()
            raise
        if not exits:
            return Loaded(artifact, session, engine.id, version, psnr)
        session.close()

        def reopened(model: bytes) -> CheckedSession:
            return opened(lambda: model, hashlib.sha256(model).hexdigest())

        changed, said = exits.applied(model(), manifest.input, reopened)
        return Loaded(artifact, reopened(changed), engine.id, version, psnr, exits=said)


class _GoldenRecord:
    """What came of the golden check of a model on an engine, a machine and its profile, kept in the cache."""

    def __init__(self, artifact: Artifact, profile: DeviceProfile, engine: str, version: str) -> None:
        self._artifact, self._golden = artifact, artifact.manifest.golden
        self._by = f"{engine} {version}"
        if self._golden is None:
            return
        subject = {
            "model": artifact.manifest.files[MODEL_NAME].sha256,
            "golden": artifact.manifest.files[self._golden.file].sha256,
            "min_psnr": self._golden.min_psnr,
            "engine": engine,
            "engine_version": version,
            "precisions": list(profile.precisions),  # engines choose their numbers by them
            "machine": machine_fingerprint(),
        }
        # Engines rewrite files when they load them: a change of theirs needs a new check.
        self._cache = ResultCache("golden", subject, Path(engines.__file__), Path(onnx.__file__))

    def raise_if_refused(self) -> None:
        """Raise IntegrityError if the engine failed this very check before."""
        known = self._known()
        if isinstance(known, str):
            raise IntegrityError(known, hint=f"{_OTHER} To check again, remove {self._cache.path}")

    def psnr(self, session: Session, memory: int | None) -> float | None:
        """Return dB, from the record or by checking; too few are recorded as well, and raise IntegrityError."""
        known = self._known()
        if self._golden is None or isinstance(known, float):
            return known if isinstance(known, float) else None
        try:
            psnr = check_golden(session, self._artifact, self._by, memory)
        except GoldenMismatchError as error:
            self._cache.write_table({"refused": error.message})
            raise
        self._cache.write_table({"psnr_db": psnr})
        return psnr

    def _known(self) -> float | str | None:
        """The PSNR recorded, or why the engine was refused; None if neither is known."""
        fields = None if self._golden is None else self._cache.read_table(_LARGEST_RECORD)
        if self._golden is None or fields is None:
            return None
        try:
            if "refused" in fields:
                return fields.text("refused")
            return fields.number("psnr_db", least=self._golden.min_psnr, most=1000)
        except InputError:
            return None
