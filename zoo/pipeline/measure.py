"""Cost, quality and latency of exported files, side by side."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.contracts.random_inputs import random_inputs
from zoo.cost import onnx_cost
from zoo.evaluation.predict import make_extra_predictor, make_predictor
from zoo.evaluation.quality import Quality, evaluate_quality
from zoo.onnx.check import check_onnx
from zoo.runner.timing import ROUNDS, WARM_UP, Latency, measure_latency

if TYPE_CHECKING:
    from zoo.contracts import Engine, Reporter, Session
    from zoo.export.file_agreement import FileAgreement
    from zoo.pipeline.checked_export import Exported
    from zoo.pipeline.plan import ApplyPlan


@dataclass
class Measured:
    """One exported file.

    Attributes:
        stage: The techniques applied so far, "" for the original network.
        parameters, macs, file_bytes: Of the file, not of the torch model.
        quality: Of the file in the engine, by labels, or else against the original network's file.
        agreement: Of the file with the network that it was exported from.
    """

    stage: str
    parameters: int
    macs: int
    file_bytes: int
    quality: Quality
    agreement: FileAgreement
    latency: Latency | None = None

    @property
    def psnr(self) -> float | None:
        """Mean PSNR in dB, if pictures were compared with their targets."""
        return self._score("psnr_db")

    @property
    def dice(self) -> float | None:
        """Mean Dice coefficient in [0, 1], if masks were compared with their targets."""
        return self._score("dice")

    def _score(self, key: str) -> float | None:
        return self.quality.values.get(key) if self.quality.labelled else None

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for metrics.json and `--json`."""
        return {
            "stage": self.stage,
            "parameters": self.parameters,
            "macs": self.macs,
            "file_bytes": self.file_bytes,
            "agreement": self.agreement.to_json(),
            "quality": self.quality.to_json(),
            "latency": self.latency.to_json() if self.latency else None,
        }


class Meter:
    """Measure the files of one run; their sessions stay open, to be timed interleaved at the end."""

    def __init__(self, plan: ApplyPlan, engine: Engine, reporter: Reporter) -> None:
        self._plan = plan
        self._engine = engine
        self._reporter = reporter
        self._sessions: dict[str, Session] = {}
        self._compared: list[tuple[Measured, Session]] = []
        self.files: list[Measured] = []

    def add(self, stage: str, exported: Exported) -> Measured:
        """Measure everything but latency, and list the file."""
        return self.take(*self.measure(stage, exported))

    def take(self, measured: Measured, session: Session) -> Measured:
        """List a file that was measured."""
        self._sessions[measured.stage] = session
        self.files.append(measured)
        return measured

    def compare(self, measured: Measured, session: Session) -> None:
        """Time a file together with the others, without listing it."""
        self._compared.append((measured, session))

    def measure(self, stage: str, exported: Exported) -> tuple[Measured, Session]:
        """Measure everything but latency.

        Raises:
            IntegrityError: No runner would take the file.
        """
        model, spec = exported.data, self._plan.architecture.input
        check_onnx(model, spec, self._plan.architecture.output, self._plan.architecture.extra_outputs)
        cost = onnx_cost(model, (1, spec.channels, *spec.example))
        session = self._engine.open(model, threads=self._plan.request.threads)
        if self._sessions:
            quality = self._quality(session, next(iter(self._sessions.values())))
        else:
            what = ("quality", hashlib.sha256(model).digest(), repr(spec), self._plan.request.images)
            quality = self._plan.once(what, lambda: self._quality(session, session))
        measured = Measured(stage, cost.parameters, cost.macs, len(model), quality, exported.agreement)
        return measured, session

    def session(self, stage: str) -> Session:
        """Return the open session of a file that was measured."""
        return self._sessions[stage]

    def time(self) -> None:
        """Time all files on the example size, interleaved."""
        spec = self._plan.architecture.input
        inputs = random_inputs(spec)
        self._reporter.start("measure latency", ROUNDS + WARM_UP, "rounds")
        timed = [(file, self._sessions[file.stage]) for file in self.files] + self._compared
        sessions = {str(number): session for number, (_, session) in enumerate(timed)}
        latencies = measure_latency(sessions, inputs, after_round=self._reporter.advance)
        self._reporter.finish()
        for number, (file, _) in enumerate(timed):
            file.latency = latencies[str(number)]

    def _quality(self, session: Session, reference: Session) -> Quality:
        plan = self._plan
        architecture = plan.architecture
        extras = make_extra_predictor(session, architecture), make_extra_predictor(reference, architecture)
        return evaluate_quality(
            make_predictor(session, architecture), plan.dataset, architecture, split="test",
            reporter=self._reporter, reference=make_predictor(reference, architecture), extras=extras,
            limit=plan.request.images,
        )  # fmt: skip
