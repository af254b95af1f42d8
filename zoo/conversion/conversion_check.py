"""Holding a converted network against the file it came from, as ONNX Runtime computes it."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx

from zoo.engines.feeds import feeds_of
from zoo.engines.patience import opening, running
from zoo.errors import DisagreementError, InputError
from zoo.extras import require
from zoo.surgery.agreement import signal_to_error

if TYPE_CHECKING:
    from zoo.contracts import FloatArray

#: Signal to error, in dB, that two float computations of one function reach at least.
AGREEMENT_DB = 60.0
#: What the input is changed by, relative to its largest magnitude, to see how steady the file itself is.
_NUDGE = 1e-6
_MARGIN_DB = 10.0
#: Root of the mean square of a value below which errors count as if the signal were this strong: probabilities of
#: almost 0 differ between two implementations of one sigmoid.
_FAINTEST = 1e-3


def check_conversion(
    network: fx.GraphModule,
    data: bytes,
    example: FloatArray,
    names: Mapping[str, tuple[fx.Node, str]],
    source: str,
    *,
    fixed: bool,
    others: FloatArray | None = None,
) -> float:
    """Compare a network with its file on random inputs, one of them a batch of two.

    Args:
        network: The network, in eval mode.
        data: The bytes of the file.
        example: (1, C, H, W), a size that the file accepts.
        names: The node of the network, and the operator of the file, by the name of the value that both compute.
        source: What messages call the file.
        fixed: Whether only the size of the example is tried.
        others: Another example of inputs that are not in [0, 1], of the same shape; None for random numbers.

    Returns:
        The lowest signal to error, in dB.

    Raises:
        DisagreementError: They differ by more than rounding; the first node that does is named.
    """
    run = _runner(data)
    generator = np.random.default_rng(0)
    first, second = (generator.random(example.shape, dtype=np.float32) for _ in range(2))
    if others is not None:
        first, second = example, others
    expected = [np.concatenate(each) for each in zip(run(first), run(second), strict=True)]
    nudge = generator.standard_normal(first.shape).astype(np.float32) * _NUDGE
    steadiness = min(_ratio_of(a, b) for a, b in zip(run(first), run(first + nudge), strict=True))
    bound = min(AGREEMENT_DB, steadiness - _MARGIN_DB)
    found = _ratio(network, np.concatenate([first, second]), expected)
    if found >= bound:
        return found
    alone = _ratio(network, first, run(first))
    where = _first_difference(network, data, first, names, bound)
    if alone >= bound:
        reason = f"a batch of two images is not computed as two images are: signal to error {found:.1f} dB"
    else:
        reason = f"signal to error {alone:.1f} dB in ONNX Runtime, {bound:.1f} dB are required"
    raise DisagreementError(
        f"The network that {source} was converted to does not compute what the file does: {reason}"
        f"{f'; they differ first at {where}' if where else ''}.",
        hint="If you have the network in torch, compress it there:  zoo apply RECIPE path/to/module.py:factory",
    )


def _ratio_of(expected: Any, actual: Any) -> float:
    """Return the signal to error in dB; a signal fainter than `_FAINTEST` counts as if it were that strong."""
    want, have = (torch.from_numpy(np.asarray(each)) for each in (expected, actual))
    found = signal_to_error(want, have)
    if (
        found >= AGREEMENT_DB
        or want.shape != have.shape
        or not bool(want.isfinite().all() and have.isfinite().all())
    ):
        return found
    error = (want.double() - have.double()).square().mean().item()
    return max(found, 10 * math.log10(_FAINTEST**2 / error))


def _ratio(network: fx.GraphModule, inputs: FloatArray, expected: list[Any]) -> float:
    # Of a network that fails, a graph of torch.fx prints its code on standard error, which says nothing to a user.
    try:
        with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):
            outputs = network(torch.from_numpy(inputs))
    except Exception:  # shapes that hold for a batch of one only
        return -math.inf
    given = outputs.values() if isinstance(outputs, dict) else (outputs,)
    return min(_ratio_of(want, have.numpy()) for want, have in zip(expected, given, strict=True))


def _runner(data: bytes, outputs: list[str] | None = None) -> Any:
    """Return a function from an input to the file's outputs, or to the values called `outputs`."""
    runtime = require("onnxruntime", "Converting an ONNX file", extra="cpu")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    try:
        with opening(len(data)):
            session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen unrelated types
        raise InputError(f"ONNX Runtime cannot load the file: {error}") from error

    def run(given: FloatArray) -> Any:
        feeds = feeds_of(session.get_inputs(), given)
        with running(given.shape):
            try:
                return session.run(outputs, feeds)
            except Exception as error:  # as above
                raise InputError(
                    f"ONNX Runtime cannot compute the file for one sample: {error}",
                    hint="Export it again for batches of one, or of any size.",
                ) from error

    return run


def _first_difference(
    network: fx.GraphModule,
    data: bytes,
    inputs: FloatArray,
    names: Mapping[str, tuple[fx.Node, str]],
    bound: float,
) -> str:
    """Return the first operator of the file whose value differs from the network's; "" if none shows."""
    onnx = require("onnx", "Converting an ONNX file")
    model = onnx.load_model_from_string(data)
    own = {output.name for output in model.graph.output}
    kept = {node.name for node in network.graph.nodes}
    wanted = [name for name, (node, _) in names.items() if node.name in kept]
    for name in wanted:
        if name not in own:
            model.graph.output.add(name=name)
    values: dict[str, Any] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            values[n.name] = super().run_node(n)
            return values[n.name]

    try:
        expected = dict(zip(wanted, _runner(model.SerializeToString(), wanted)(inputs), strict=True))
        with torch.no_grad():
            Recorder(network).run(torch.from_numpy(inputs))
    except Exception:  # it is only about where
        pass
    else:
        for name in wanted:
            node, operator = names[name]
            value = values.get(node.name)
            if isinstance(value, torch.Tensor) and _ratio_of(expected[name], value.numpy()) < bound:
                return operator
    return ""
