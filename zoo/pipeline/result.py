"""The result of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.formatting import integer, scaled, seconds, table_lines
from zoo.tasks.built_in_metrics import METRICS

if TYPE_CHECKING:
    from torch import nn

    from zoo.artifacts.figures import Figure
    from zoo.pipeline.device_target import Target
    from zoo.pipeline.measure import Measured
    from zoo.pipeline.repair import Repair
    from zoo.training.loop import TrainingResult
    from zoo.training.weights import StartWeights


@dataclass(frozen=True, repr=False)
class Result:
    """An artifact and what is known about it.

    Attributes:
        artifact: The folder.
        fingerprint: Of everything that it was made from.
        files: What was measured: the network as it was first, then after each stage; the artifact's last.
        figures: The same before and after the recipe, each with how it was measured.
        trainings: One for each stage that trained.
        left_alone: Layers that a technique could not handle, with the reason.
        start: The weights that the run started from.
        seconds: How long it took.
        target: The device that it was made for, with what will not pay there; None for none.
        reused: The stages that were not trained, because their results were kept by an earlier run.
        accepted: Where a graph or a file differs from the network and the user accepts it, a sentence each.
        repair: The layers that went back to float to stay within the limit of the loss, and what that cost.
        model: The finished module, in eval mode, that model.onnx was exported from; after quantization it holds
            fake-quantized layers.
    """

    artifact: Path
    fingerprint: str
    files: Sequence[Measured]
    figures: Sequence[Figure]
    trainings: Sequence[TrainingResult]
    left_alone: Sequence[dict[str, str]]
    start: StartWeights
    seconds: float
    target: Target | None = None
    reused: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()
    repair: Repair | None = None
    model: nn.Module | None = field(default=None, repr=False, compare=False)

    @property
    def table_title(self) -> str:
        """Return what :meth:`table` shows."""
        made = "" if self.start.trained or self.trainings else "; the weights are random"
        return f"Measured on the exported files in ONNX Runtime{made}"

    @property
    def metrics(self) -> dict[str, dict[str, float | None]]:
        """Return the figures by key, such as "parameters", "gmacs", "latency_ms" and "psnr_db", before and after."""
        return {figure.key: {"before": figure.before, "after": figure.after} for figure in self.figures}

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary, which `zoo apply --json` prints."""
        return {
            "artifact": str(self.artifact),
            "fingerprint": self.fingerprint,
            "files": [file.to_json() for file in self.files],
            "steps": [training.steps for training in self.trainings],
            "reused_stages": list(self.reused),
            "seconds": round(self.seconds, 1),
            "weights": self.start.label,
            "left_alone": list(self.left_alone),
            "accepted_disagreements": list(self.accepted),
            "repair": self.repair.to_json() if self.repair else None,
            "device": self.target.to_json() if self.target else None,
        }

    def table(self) -> str:
        """Return the table of what was measured as text, a line per quantity and a column per file."""
        columns, rows = self.table_cells()
        return "\n".join([self.table_title, *table_lines(columns, rows, right=columns[1:])])

    def __repr__(self) -> str:
        """Return where the artifact is, and the table."""
        return f"{self.artifact}\n{self.table()}"

    def _repr_html_(self) -> str:
        """Return the table as notebooks show it."""
        columns, rows = self.table_cells()
        head = "".join(f"<th>{escape(cell)}</th>" for cell in columns)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        return f"<table><caption>{escape(self.table_title)}</caption><tr>{head}</tr>{body}</table>"

    def table_cells(self) -> tuple[list[str], list[list[str]]]:
        """Return the column heads and the rows of :meth:`table`."""
        files = self.files
        rows: list[list[str]] = [
            ["parameters", *(integer(file.parameters) for file in files)],
            ["multiply-accumulates", *(scaled(file.macs) for file in files)],
            ["model.onnx", *(scaled(file.file_bytes, "B") for file in files)],
        ]
        if self.repair is not None:
            count, of = len(self.repair.layers), len(self.repair.layers) + len(self.repair.rounded)
            rows.append(["layers back in float", *[""] * (len(files) - 1), f"{count} of {of}"])
        medians = [file.latency.median for file in files if file.latency]
        if len(medians) == len(files):
            rows.append(["latency", *(seconds(median / 1000) for median in medians)])
            rows.append(["speed-up", *(f"{medians[0] / median:.2f}x" for median in medians)])
        return ["", "before", *(file.stage for file in files[1:])], rows + self._quality_rows()

    def _quality_rows(self) -> list[list[str]]:
        qualities = [file.quality for file in self.files]
        last = qualities[-1]
        images = f"of {last.images:,} images" if last.images > 1 else "of one image"
        rows = [
            [metric.name, *(quality.show(metric) for quality in qualities)]
            for metric in last.metrics
            if metric.shown
        ]
        if rows and last.intervals:
            rows[0][0] += f" {images} (95 % interval)"
        return rows + [
            [
                f"{name}, {METRICS[key].name}",
                *(METRICS[key].show(each.extras[name][key]) for each in qualities),
            ]
            for name, values in last.extras.items()
            for key in values
            if METRICS[key].shown
        ]
