"""Lower a captured network to operators that have a translation to ONNX, without capturing it a second time.

Before it translates a graph, `torch.onnx` recaptures the graph to take composite and in-place operators apart, which
is two fifths of the time of an export. The graph of a network in eval mode rarely holds one that is more than another
name for an operator of ONNX; where all of them are, their nodes are renamed and that second capture is left out.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

aten = torch.ops.aten
#: These promise something to the tracer and compute nothing.
_ASSERTIONS = (aten._assert_tensor_metadata.default,)
#: Composite operators that always compute a new tensor.
_COMPUTING = (aten.conv2d.default, aten.conv2d.padding, aten.conv_transpose2d.input, aten.linear.default)
#: Composite operators that torch would take apart, and that are one operator of ONNX as they are.
_ONE_OPERATOR = (
    aten.flatten.using_ints,
    aten.reshape.default,
    aten.upsample_nearest2d.vec,
    aten.upsample_bilinear2d.vec,
)


def rename_composite_operators(graph: ExportedProgram) -> None:
    """Rename what can be renamed in `graph`, and keep its `run_decompositions` from capturing it again if that was all.

    Where any operator remains that needs more, `run_decompositions` does what it always does. The graph computes the
    same either way.
    """
    module = graph.graph_module
    for node in list(module.graph.nodes):
        _make_numbers_alike(node)
        rename = _RENAMES.get(node.target, _in_place if _mutates(node) else None)
        if rename is not None and (rename is _attention or not node.kwargs):
            rename(module, node)
    capture_anew = graph.run_decompositions

    def run_decompositions(table: Mapping[Any, Any] | None = None, **options: Any) -> Any:
        if table is not None and _translates(module, table):
            return graph
        return capture_anew(table, **options)

    graph.run_decompositions = run_decompositions


def _translates(module: GraphModule, table: Mapping[Any, Any]) -> bool:
    """Return whether no operator needs to be taken apart. `table` has those without a translation."""
    known = _decomposed_by_default()
    for node in module.graph.nodes:
        if node.op != "call_function" or node.target in _ASSERTIONS:
            continue
        target = node.target
        if isinstance(target, OpOverload):
            unknown = _composite(target) and target not in known and target not in _ONE_OPERATOR
            if unknown or target in table or target._schema.is_mutable:
                return False
        elif getattr(target, "__module__", "") not in ("_operator", "math"):  # control flow
            return False
    return True


@functools.cache
def _decomposed_by_default() -> frozenset[Any]:
    return frozenset(torch.export.default_decompositions())


def _mutates(node: Node) -> bool:
    return isinstance(node.target, OpOverload) and node.target._schema.is_mutable


def _rename(node: Node, target: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """The node keeps its own name, by which the graph's signature knows an output."""
    node.target, node.args = target, arguments


def _make_numbers_alike(node: Node) -> None:
    """Make all numbers given to an operator floats if one is: torch.onnx finds no overload for `clamp(x, 0, 0.5)`."""
    if not isinstance(node.target, OpOverload):
        return
    numbers = [
        argument.name for argument in node.target._schema.arguments if "number" in str(argument.real_type)
    ]
    names = [argument.name for argument in node.target._schema.arguments]
    given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    if {type(given[name]) for name in numbers if name in given} >= {int, float}:
        alike = {
            name: float(value) if name in numbers and type(value) is int else value
            for name, value in given.items()
        }
        node.args = tuple(alike.pop(name) for name in names[: len(node.args)])
        node.kwargs = alike


def _average_pool(module: GraphModule, node: Node) -> None:
    """torch.onnx ignores the divisor: the mean is taken, and multiplied by what it should not have been divided by."""
    x, kernel, *options = node.args
    if len(options) < 5 or options[4] is None or not isinstance(x, Node):
        return
    sides = _pair(kernel)
    strides, padding = _pair(options[0]) if options[0] else sides, _pair(options[1])
    beyond = _beyond_the_border(x, node, sides, strides, padding) if options[2] else [0, 0]
    if beyond is None:
        return  # the comparison refuses the file
    with module.graph.inserting_before(node):
        if options[2]:  # the mean would divide by less there: zeros count like all others
            (top, left), (bottom, right) = padding, beyond
            around = [left, left + right, top, top + bottom]
            x, padding = _padded(module, x, around), [0, 0]
        mean = _inserted(module, node.target, (x, sides, strides, padding, False, True))
    _rename(node, aten.mul.Tensor, (mean, sides[0] * sides[1] / options[4]))  # type: ignore[operator]


def _padded(module: GraphModule, x: Node, around: list[int]) -> Node:
    """`x` with zeros around it. Computing its value would take the example's batch for the only one."""
    node = module.graph.call_function(aten.constant_pad_nd.default, (x, around, 0.0))
    value, (left, right, top, bottom) = x.meta["val"], around
    height, width = value.shape[-2:]
    node.meta["val"] = value.new_empty((*value.shape[:-2], height + top + bottom, width + left + right))
    return node


def _beyond_the_border(
    x: Node, node: Node, sides: list[int], strides: list[int], padding: list[int]
) -> list[int] | None:
    """How far the windows of a pool with `ceil_mode` reach beyond the padding, below and right; None if that varies."""
    given, wanted = x.meta["val"].shape[-2:], node.meta["val"].shape[-2:]
    if all(isinstance(size, int) for size in (*given, *wanted)):
        axes = zip(given, wanted, sides, strides, padding, strict=True)
        return [max(0, (n - 1) * stride + side - size - 2 * pad) for size, n, side, stride, pad in axes]
    # Without padding the last window begins inside, and what is too much for it makes no further one.
    follows = not any(padding) and all(stride <= side for side, stride in zip(sides, strides, strict=True))
    return [stride - 1 for stride in strides] if follows else None


def _pair(value: Any) -> list[int]:
    """Height and width, given as one number or two."""
    sides = [int(side) for side in value] if isinstance(value, (tuple, list)) else [int(value)]
    return [sides[0], sides[-1]]


def _batch_norm(module: GraphModule, node: Node) -> None:
    """In eval mode it is an operator of ONNX, under another name and with more results."""
    x, weight, bias, mean, var, training, momentum, eps, _ = node.args
    if training:
        return
    with module.graph.inserting_before(node):
        results = module.graph.call_function(
            aten._native_batch_norm_legit_no_training.default, (x, weight, bias, mean, var, momentum, eps)
        )
    results.meta = {**node.meta, "val": (node.meta.get("val"), None, None)}
    _rename(node, operator.getitem, (results, 0))


def _dropout(module: GraphModule, node: Node) -> None:
    """In eval mode it is nothing, written to or not."""
    x, _, training = node.args
    if not training and isinstance(x, Node) and all(user.op != "output" for user in node.users):
        node.replace_all_uses_with(x)
        module.graph.erase_node(node)


def _transposed_convolution(module: GraphModule, node: Node) -> None:
    """It is a convolution with a flag; what the call leaves out has the schema's default."""
    assert isinstance(node.target, OpOverload)
    schema = node.target._schema.arguments
    given: list[Any] = [*node.args, *(each.default_value for each in schema[len(node.args) :])]
    x, weight, bias, stride, padding, output_padding, groups, dilation = given
    pairs = [[each, each] if isinstance(each, int) else list(each) for each in (stride, padding, dilation)]
    _rename(node, aten.convolution.default, (x, weight, bias, *pairs, True, output_padding, groups))


def _adaptive_average(module: GraphModule, node: Node) -> None:
    """To one pixel it is the mean."""
    x, size = node.args
    if tuple(size) == (1, 1):  # type: ignore[arg-type]
        _rename(node, aten.mean.dim, (x, [-1, -2], True))


def _adaptive_maximum(module: GraphModule, node: Node) -> None:
    """To one pixel it is the maximum, to sides that divide the input's a pool, otherwise the maxima of slices."""
    x, size = node.args
    results = {user.args[1]: user for user in node.users if user.target is operator.getitem}
    others = [user for index, user in results.items() if index != 0]
    if not isinstance(x, Node) or 0 not in results or any(user.users for user in others):
        return
    wanted, given = _pair(size), x.meta["val"].shape[-2:]
    fixed = all(isinstance(side, int) for side in given)
    windows = [whole // part for whole, part in zip(given, wanted, strict=True)] if fixed else []
    if wanted == [1, 1]:
        _rename(results[0], aten.amax.default, (x, [-2, -1], True))
    elif fixed and all(
        part * window == whole for part, window, whole in zip(wanted, windows, given, strict=True)
    ):
        _rename(results[0], aten.max_pool2d.default, (x, windows, windows))
    elif fixed:
        with module.graph.inserting_before(node):
            rows = _inserted(module, aten.cat.default, (_slice_maxima(module, x, -2, wanted[0]), -2))
            columns = _slice_maxima(module, rows, -1, wanted[1])
        _rename(results[0], aten.cat.default, (columns, -1))
    else:
        return
    for unused in (*others, node):
        module.graph.erase_node(unused)


def _slice_maxima(module: GraphModule, x: Node, axis: int, parts: int) -> list[Node]:
    """The maximum of each of the slices, overlapping where they do not divide the axis, that adaptive pooling takes."""
    length, maxima = x.meta["val"].shape[axis], []
    for index in range(parts):
        ends = index * length // parts, -(-(index + 1) * length // parts)
        part = _inserted(module, aten.slice.Tensor, (x, axis, *ends))
        maxima.append(_inserted(module, aten.amax.default, (part, [axis], True)))
    return maxima


def _joining(axis: int) -> Callable[[GraphModule, Node], None]:
    """Stacking along an axis that all parts have is joining; its translation would be a loop over the parts."""

    def rename(module: GraphModule, node: Node) -> None:
        (parts,) = node.args
        if isinstance(parts, (tuple, list)) and all(part.meta["val"].dim() > axis for part in parts):  # type: ignore[union-attr]
            _rename(node, aten.cat.default, (parts, axis))

    return rename


def _attention(module: GraphModule, node: Node) -> None:
    """Its translation takes four dimensions: of more, those between are counted as one; of three, one is added."""
    inputs = [argument for argument in node.args[:3] if isinstance(argument, Node) and "val" in argument.meta]
    shapes = [argument.meta["val"].shape for argument in inputs]
    masked = len(node.args) > 3 and node.args[3] is not None
    if masked or len(shapes) < 3 or len(shapes[0]) in (2, 4):
        return
    rank, between = len(shapes[0]), shapes[0][1:-2]
    alike = all(len(shape) == rank and shape[1:-2] == between for shape in shapes)
    if not alike or not all(isinstance(size, int) for size in between):
        return
    with module.graph.inserting_before(node):
        fold = (aten.unsqueeze.default, 1) if rank == 3 else (aten.flatten.using_ints, 1, rank - 3)
        folded = tuple(_inserted(module, fold[0], (argument, *fold[1:])) for argument in inputs)
        attention = _inserted(module, node.target, folded + node.args[3:], node.kwargs)
    node.kwargs = {}
    if rank == 3:
        _rename(node, aten.squeeze.dim, (attention, 1))
    else:
        _rename(node, aten.unflatten.int, (attention, 1, list(between)))


def _inserted(module: GraphModule, target: Any, arguments: tuple[Any, ...], options: Any = None) -> Node:
    """Return a new node, and what later ones read of its value."""
    node = module.graph.call_function(target, arguments, options)
    node.meta["val"] = target(*map_arg(arguments, lambda source: source.meta["val"]), **(options or {}))
    return node


def _in_place(module: GraphModule, node: Node) -> None:
    """`relu_` is `relu` where nothing else can see the tensor that it writes to."""
    written = node.args[0] if node.args else None
    if not (isinstance(written, Node) and len(written.users) == 1 and _fresh(written)):
        return
    assert isinstance(node.target, OpOverload)
    name, _, overload = str(node.target).removeprefix("aten.").partition(".")
    packet = getattr(aten, name.removesuffix("_"), None)
    target = getattr(packet, overload, None)
    if not name.endswith("_") or name.endswith("__") or target is None or target._schema.is_mutable:
        return
    dtypes = {argument.meta["val"].dtype for argument in node.all_input_nodes if "val" in argument.meta}
    if len(dtypes) == 1:  # or the result would be of another type
        _rename(node, target, node.args)


def _fresh(node: Node) -> bool:
    """Return whether a node's result is memory of its own: not a view of its input, nor, like dropout's, the input."""
    if node.target is operator.getitem and isinstance(node.args[0], Node):
        return node.args[0].target is aten._native_batch_norm_legit_no_training.default
    target = node.target
    if not isinstance(target, OpOverload):
        return False
    aliases = any(returned.alias_info is not None for returned in target._schema.returns)
    return not aliases and (not _composite(target) or target in _COMPUTING)


def _composite(target: OpOverload) -> bool:
    """Return whether torch may decompose an operator whatever table it is given, or does not dispatch it."""
    try:
        return target.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd)
    except RuntimeError:
        return True


_RENAMES: dict[Any, Callable[[GraphModule, Node], None]] = {
    aten.batch_norm.default: _batch_norm,
    aten.conv_transpose2d.input: _transposed_convolution,
    aten.dropout.default: _dropout,
    aten.dropout_.default: _dropout,
    aten.adaptive_avg_pool2d.default: _adaptive_average,
    aten.adaptive_max_pool2d.default: _adaptive_maximum,
    aten.avg_pool2d.default: _average_pool,
    aten.vstack.default: _joining(0),
    aten.hstack.default: _joining(1),
    aten.column_stack.default: _joining(1),
    aten.dstack.default: _joining(2),
    aten.scaled_dot_product_attention.default: _attention,
}
