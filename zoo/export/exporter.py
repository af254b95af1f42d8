"""One ONNX file from a torch network: standard operators, pre- and post-processing inside, nothing else."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from zoo.contracts import Architecture, InputSpec
from zoo.contracts.random_inputs import random_inputs
from zoo.errors import ZooError
from zoo.export.decomposition import rename_composite_operators
from zoo.export.dynamic_qdq import insert_dynamic_qdq_nodes
from zoo.export.engine_refusal import blaming_export
from zoo.export.qdq import OPSET, insert_qdq_nodes
from zoo.export.refusal import reason_of, refusal
from zoo.export.rewrite_rules import narrowed_rewrite_rules
from zoo.export.simplify import simplify_model
from zoo.export.symbolic_shapes import limit_symbolic_shapes
from zoo.export.translation_tables import kept_translation_tables
from zoo.export.transposed_weights import name_transposed_weights
from zoo.extras import require
from zoo.modules.copying import copied
from zoo.modules.output_tree import split_outputs
from zoo.modules.several_inputs import inputs_themselves
from zoo.onnx.check import check_onnx
from zoo.quantization.quantized_layers import weights_in_float16
from zoo.storage.atomic import write_bytes_atomic

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    import onnx


#: Axes of an input with the batch dimension, up to which none is a height or a width.
_IMAGE_AXES = 3


class Deployed(nn.Module):
    """The network with what must happen before and after it.

    Args:
        net: The network.
        architecture: Its architecture.
        separate: Whether it is called with the inputs of a network that has several, not with the array that holds
            them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, architecture: Architecture, *, separate: bool = False) -> None:
        super().__init__()
        self.net = net
        spec = architecture.input
        self.architecture = architecture
        self.separate = separate and bool(spec.parts)
        self.normalises = bool(spec.mean or spec.std)
        self.clips = architecture.output.kind in ("rgb", "gray")
        if self.normalises:
            shape = (1, spec.channels, 1, 1)
            mean = spec.mean or (0.0,) * spec.channels
            std = spec.std or (1.0,) * spec.channels
            self.register_buffer("mean", torch.tensor(mean).view(shape))
            self.register_buffer("std", torch.tensor(std).view(shape))

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        if self.separate:
            with inputs_themselves(self._normalised(inputs)) as first:
                returned = self.net(first)
        else:
            (x,) = inputs
            returned = self.net((x - self.mean) / self.std if self.normalises else x)
        y, extras = split_outputs(returned, self.architecture)
        y = y.clamp(0.0, 1.0) if self.clips else y
        return (y, *extras.values()) if extras else y

    def _normalised(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        if not self.normalises:
            return inputs
        packing = self.architecture.input.packing
        means, deviations = packing.unpack(self.mean), packing.unpack(self.std)
        return [(x - mean) / std for x, mean, std in zip(inputs, means, deviations, strict=True)]


def export_onnx(
    model: nn.Module, architecture: Architecture, path: Path | None = None, *, half_weights: bool = False
) -> bytes:
    """Return the bytes of the ONNX file of a network, which is not changed; equal networks make equal bytes.

    Input "input": float32 (N, C, H, W), any N, any H and W that are multiples of
    ``architecture.input.multiple_of`` (or the fixed size). A network with several inputs has them under their names,
    whole numbers as float32, too. Output "output": float32; RGB is clipped to [0, 1]. Further outputs have the names
    that the architecture states. A network that went through quantization-aware training becomes
    QuantizeLinear/DequantizeLinear pairs around int8 weights; for any other, the initializers are named like the state
    dict's keys.

    Args:
        model: The network.
        architecture: States its input and output.
        path: Where the bytes are also written, if at all.
        half_weights: Whether weights of all float layers are stored in float16, and not just of those that the network
            marks so; float32 is computed all the same.

    Raises:
        ExportError: torch cannot export the network.
        ZooError: One file cannot hold it.
        OutputError: `path` cannot be written.
    """
    require("onnx", "Exporting")
    require("onnxscript", "Exporting")
    import onnx

    half: Collection[str] | Literal[True] = half_weights or weights_in_float16(model)
    net = insert_qdq_nodes(insert_dynamic_qdq_nodes(copied(model).cpu().float().eval()))
    deployed = Deployed(net, architecture, separate=True).eval()
    proto = _export(deployed, architecture)
    name_transposed_weights(proto.graph, deployed)
    simplify_model(proto, architecture, prefix="net.", half_weights=half)
    try:
        data: bytes = proto.SerializeToString(deterministic=True)
    except Exception as error:  # protobuf's type for it depends on its version
        raise ZooError(
            f"{architecture.id} cannot be written as one ONNX file: {reason_of(error)}.",
            hint="Such a file has at most 2 GiB: compress the network further, or use --half-weights.",
        ) from error
    try:
        onnx.checker.check_model(data)
    except onnx.checker.ValidationError as error:
        raise refusal(architecture.id, error, None) from error
    with blaming_export(architecture.id, data):
        check_onnx(data)  # what is exported, every runner must take
    if path is not None:
        write_bytes_atomic(path, data)
    return data


def _export(deployed: nn.Module, architecture: Architecture) -> onnx.ModelProto:
    limit_symbolic_shapes(deployed)
    first: tuple[Exception, ExportedProgram | None] | None = None
    spec = architecture.input
    names = [part.name for part in spec.parts] or ["input"]
    for height, width, axes in _varying(spec):
        packed = torch.from_numpy(random_inputs(spec, 2, (height, width)))
        examples = tuple(spec.packing.unpack(packed)) if spec.parts else (torch.zeros_like(packed),)
        varying = tuple(
            {axis if axis == 0 else example.ndim - 4 + axis: size for axis, size in axes.items()}
            if example.ndim > _IMAGE_AXES
            else {0: axes[0]}
            for example in examples
        )
        graph: ExportedProgram | None = None
        try:
            with _silence(), torch.no_grad():
                # Left to itself the exporter falls back on tracing that takes this input's branches for all.
                graph = torch.export.export(deployed, examples, dynamic_shapes=(varying,), strict=False)
                rename_composite_operators(graph)
                with narrowed_rewrite_rules(), kept_translation_tables():
                    program = torch.onnx.export(
                        graph, examples, dynamo=True, opset_version=OPSET, input_names=names,
                        output_names=["output", *architecture.extra_outputs], verbose=False, external_data=False,
                    )  # fmt: skip
        except Exception as error:  # the exporter has no closed set of errors
            first = first or (error, graph)
        else:
            assert program is not None
            return program.model_proto
    assert first is not None
    raise refusal(architecture.id, *first) from first[0]


def _varying(spec: InputSpec) -> Iterator[tuple[int, int, dict[int, Any]]]:
    """Height and width of an example, and which axes vary how, for one attempt after the other."""
    from torch.export import Dim

    (height, width), multiple = spec.example, spec.multiple_of
    if spec.fixed_size:
        yield height, width, {0: Dim.DYNAMIC}
        return
    width += 2 * multiple  # sides of the same length would be taken for one and the same
    yield height, width, {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    if multiple > 1:  # sums over skip connections may need to know it
        yield height, width, {0: Dim.DYNAMIC, 2: multiple * Dim("height"), 3: multiple * Dim("width")}


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The exporter talks on stdout, through warnings and through loggers; none of it is for the user."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            with contextlib.redirect_stderr(io.StringIO()):
                yield
    finally:
        logging.disable(before)
