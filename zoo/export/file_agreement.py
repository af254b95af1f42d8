"""Holding an exported file, as the engine computes it, against the network that it was made from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo import plugins
from zoo.artifacts.golden import MAIN_OUTPUT, agreement_psnr, all_outputs
from zoo.errors import ZooError
from zoo.export.divergence import first_divergence
from zoo.export.engine_refusal import blaming_export
from zoo.export.exporter import Deployed
from zoo.extras import require
from zoo.images.decibels import PSNR_CEILING
from zoo.surgery.agreement import report_disagreement, signal_to_error

if TYPE_CHECKING:
    from zoo.contracts import Architecture, FloatArray, OutputSpec

#: Signal to error, in dB, that a file must reach: in float, with weights in 16 bits, and with rounded activations.
FLOAT_DB, HALF_DB, QUANTIZED_DB = 50.0, 35.0, 25.0
#: Operators that round activations.
_ROUNDING = frozenset({"QuantizeLinear", "DynamicQuantizeLinear", "Round"})
#: How much the output of each layer is changed, relatively, to see how steady a network is, and how many times.
_NUDGE, _NUDGES = 1e-5, 8
#: dB by which a file may agree less than the network with itself.
_ALLOWANCE_DB = 3.0
#: Root of the mean square of pictures and masks below which errors count as if the signal were this strong.
_FAINTEST = 1e-3


@dataclass(frozen=True)
class FileAgreement:
    """How closely a file computes what its network does.

    Attributes:
        signal_to_error: In dB, the lowest over the inputs.
        psnr: In dB, the lowest over the inputs and outputs, at most 100; see
            :func:`zoo.artifacts.golden.agreement_psnr`.
        bound: What `signal_to_error` must be at least, in dB.
        steadiness: What the network reaches against itself, in dB, when each layer's output changes by rounding; None
            where the file agrees without it. A network that amplifies rounding lowers the bound.
        first: Where the file differs first, in words; "" if it agrees or that was not found.
    """

    signal_to_error: float
    psnr: float
    bound: float
    steadiness: float | None = None
    first: str = ""

    @property
    def agrees(self) -> bool:
        """Return whether the file is close enough."""
        return self.signal_to_error >= self.bound

    def to_json(self) -> dict[str, Any]:
        """Return the figures for metrics.json, in dB, each at most 100 in magnitude."""
        figures = {
            "signal_to_error_db": self.signal_to_error,
            "required_db": self.bound,
            "steadiness_db": self.steadiness,
        }
        return {
            key: round(max(-PSNR_CEILING, min(value, PSNR_CEILING)), 1)
            for key, value in figures.items()
            if value is not None
        }


def compare_file(
    network: nn.Module,
    architecture: Architecture,
    exported: bytes,
    inputs: Sequence[FloatArray],
    *,
    half_weights: bool = False,
    threads: int = 0,
) -> FileAgreement:
    """Run a file in ONNX Runtime and its network in torch on the same inputs.

    Args:
        network: The network that the file was exported from; it is run in eval mode and not changed.
        architecture: Its architecture, whose input and output the file has.
        exported: The bytes of model.onnx.
        inputs: (N, C, H, W) each, in the file's range.
        half_weights: Whether the file stores its weights in 16 bits.
        threads: Of the engine; 0 for all that this process may use.

    Raises:
        ExportError: The engine refuses the file or fails on an input.
        ZooError: The network does not run on an input.
    """
    deployed = Deployed(network, architecture).eval()
    with blaming_export(architecture.id, exported):
        session = plugins.engine("onnxruntime").open(exported, threads=threads)
    found, psnr, worst, differing = math.inf, PSNR_CEILING, inputs[0], MAIN_OUTPUT
    specs = {MAIN_OUTPUT: architecture.output, **architecture.extra_outputs}
    for each in inputs:
        expected = _expected(deployed, each, architecture)
        with blaming_export(architecture.id, exported):
            actual = {name: torch.from_numpy(value) for name, value in all_outputs(session, each).items()}
        ratio, output = _least_ratio(expected, actual, architecture)
        psnr = min(psnr, *(_psnr(value, actual[name], specs[name]) for name, value in expected.items()))
        if ratio < found or each is inputs[0]:
            found, worst, differing = ratio, each, output
    bound = QUANTIZED_DB if _rounds(exported) else HALF_DB if half_weights else FLOAT_DB
    if found >= bound:
        return FileAgreement(found, psnr, bound)
    steadiness = _steadiness(deployed, worst, architecture)
    bound = min(bound, steadiness - _ALLOWANCE_DB)
    first = "" if found >= bound else first_divergence(deployed, exported, worst, bound, threads=threads)
    if differing != MAIN_OUTPUT:
        first = f"it is the output '{differing}'{f'; {first}' if first else ''}"
    return FileAgreement(found, psnr, bound, steadiness, first)


def check_file(
    network: nn.Module,
    architecture: Architecture,
    exported: bytes,
    inputs: Sequence[FloatArray],
    *,
    half_weights: bool = False,
    threads: int = 0,
) -> FileAgreement:
    """Compare a file with its network, as :func:`compare_file` does, and refuse one that differs.

    Args:
        network: The network that the file was exported from; not changed.
        architecture: Its architecture.
        exported: The bytes of model.onnx.
        inputs: (N, C, H, W) each, in the file's range.
        half_weights: Whether the file stores its weights in 16 bits.
        threads: Of the engine; 0 for all that this process may use.

    Raises:
        DisagreementError: The file differs, and that is not accepted.
    """
    found = compare_file(network, architecture, exported, inputs, half_weights=half_weights, threads=threads)
    if not found.agrees:
        report_disagreement(
            f"The exported file does not compute what {architecture.id} does: signal to error "
            f"{found.signal_to_error:.1f} dB in ONNX Runtime, {found.bound:.1f} dB are required"
            f"{f'; {found.first}' if found.first else ''}.",
            "Write that part of the network differently, or accept the difference:  --accept-disagreement. "
            "The training so far is kept.",
        )
    return found


def _rounds(exported: bytes) -> bool:
    """Whether a file rounds activations."""
    onnx = require("onnx", "Comparing a file")
    return any(node.op_type in _ROUNDING for node in onnx.load_model_from_string(exported).graph.node)


def run_network(deployed: Deployed, inputs: FloatArray) -> dict[str, Tensor]:
    """Return the outputs of a network with its pre- and post-processing by name, for inputs (N, C, H, W)."""
    parameter = next(deployed.net.parameters(), None)
    given = torch.from_numpy(np.ascontiguousarray(inputs))
    with torch.no_grad():
        returned = deployed(given if parameter is None else given.to(parameter.device))
    outputs = (returned,) if isinstance(returned, Tensor) else returned
    names = (MAIN_OUTPUT, *deployed.architecture.extra_outputs)
    return {name: output.detach().float().cpu() for name, output in zip(names, outputs, strict=True)}


def _expected(deployed: Deployed, inputs: FloatArray, architecture: Architecture) -> dict[str, Tensor]:
    try:
        return run_network(deployed, inputs)
    except Exception as error:  # whatever a stranger's forward() raises
        shape = "x".join(map(str, inputs.shape))
        raise ZooError(f"{architecture.id} does not run on an input of {shape}: {error}") from error


def _least_ratio(
    expected: dict[str, Tensor], actual: dict[str, Tensor], architecture: Architecture
) -> tuple[float, str]:
    """The lowest signal to error over the outputs in dB, and the name of that output."""
    specs = {MAIN_OUTPUT: architecture.output, **architecture.extra_outputs}
    return min((_ratio(value, actual[name], specs[name]), name) for name, value in expected.items())


def _ratio(expected: Tensor, actual: Tensor, spec: OutputSpec) -> float:
    """Signal to error in dB. Pictures and masks that are black all over have no signal to speak of.

    Boxes, whose order says nothing, are compared with those that they overlap most.
    """
    if spec.kind == "boxes" and expected.shape == actual.shape:
        return agreement_psnr(actual.numpy(), expected.numpy(), spec)
    faint = spec.bounded and expected.square().mean().sqrt().item() < _FAINTEST
    if faint and expected.shape == actual.shape:
        error = (expected - actual).double().square().mean().item()
        return -10 * math.log10(error / _FAINTEST**2) if error else math.inf
    return signal_to_error(expected, actual)


def _psnr(expected: Tensor, actual: Tensor, spec: OutputSpec) -> float:
    if expected.shape != actual.shape:
        return -math.inf
    return agreement_psnr(actual.numpy(), expected.numpy(), spec)


def _steadiness(deployed: Deployed, inputs: FloatArray, architecture: Architecture) -> float:
    """The lowest signal to error, in dB, of a network with itself when the output of each layer changes by _NUDGE.

    Where values lie beside the middle between two levels, the least difference makes another level of one, which may
    change all that follows. Changing the input alone would show nothing of a network that rounds it to begin with.
    """
    expected = run_network(deployed, inputs)
    with _nudged(deployed):
        return min(
            _least_ratio(expected, run_network(deployed, inputs), architecture)[0] for _ in range(_NUDGES)
        )


@contextmanager
def _nudged(network: nn.Module) -> Iterator[None]:
    draw = torch.Generator().manual_seed(0)

    def nudge(module: nn.Module, given: Any, output: Any) -> Any:
        if isinstance(output, Tensor) and output.is_floating_point():
            return output * (1 + _NUDGE * torch.randn(output.shape, generator=draw).to(output))
        return output

    handles = [
        layer.register_forward_hook(nudge)
        for layer in network.modules()
        if not (list(layer.children()) or isinstance(layer, torch.jit.ScriptModule))
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
