"""Work that no image of a batch needs is skipped: a choice between two results becomes an If.

A network that ends early for easy images computes both results and chooses one for each image, or for each position of
it (`torch.where`). Where the second takes convolutions or products of matrices that nothing else needs, they move into
a branch of an If that runs if at least one image needs them, at one position. That changes no result, whatever the
batch: in the branch the choice is made as before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx
    from onnx import GraphProto, NodeProto, ValueInfoProto

#: Axes of a condition for each position: (N, 1, H, W).
_POSITIONS = 4
#: What is worth an If.
_HEAVY = frozenset(
    {"Conv", "ConvInteger", "ConvTranspose", "Gemm", "GRU", "LSTM", "MatMul", "MatMulInteger", "RNN"}
)


def skip_unneeded_work(proto: onnx.ModelProto) -> None:
    """Edit `proto` in place: a `Where` of a condition (N, 1) or (N, 1, H, W) becomes an `If` if that saves work."""
    if not any(node.op_type == "Where" for node in proto.graph.node):
        return
    from onnx import shape_inference

    inferred = shape_inference.infer_shapes(proto).graph
    values = {value.name: value for value in (*inferred.input, *inferred.value_info, *inferred.output)}
    _divide(proto.graph, {value.name for value in proto.graph.output}, values)


def _divide(graph: GraphProto, results: set[str], values: dict[str, ValueInfoProto]) -> None:
    """Move into branches what the choices of a graph can do without, from the last choice to the first."""
    number = len(graph.node)
    while number:
        number -= 1
        choice = graph.node[number]
        if (
            choice.op_type != "Where"
            or not _for_all_channels(values.get(choice.input[0]))
            or not _alike(values, choice)
        ):
            continue
        moved = _needed_only_by(graph, number, results)
        if any(graph.node[each].op_type in _HEAVY for each in moved):
            _branch(graph, number, moved, values)
            number -= len(moved)


def _for_all_channels(condition: ValueInfoProto | None) -> bool:
    """Whether a condition is one truth value for each image, or for each position of it: (N, 1, ...)."""
    sides = condition.type.tensor_type.shape.dim if condition is not None else ()
    single = [side.HasField("dim_value") and side.dim_value == 1 for side in sides]
    per_position = len(sides) == _POSITIONS and single[1] and not single[0]
    return per_position or (len(sides) > 1 and all(single[1:]))


def _alike(values: dict[str, ValueInfoProto], choice: NodeProto) -> bool:
    """Whether the first of what is chosen from has the shape of the result, so that it can take its place."""
    shapes = []
    for name in (choice.input[1], choice.output[0]):
        if name not in values or not values[name].type.tensor_type.HasField("shape"):
            return False
        dims = values[name].type.tensor_type.shape.dim
        shapes.append([side.dim_value if side.HasField("dim_value") else None for side in dims])
    return shapes[0] == shapes[1] and len(shapes[0]) > 1 and shapes[0][0] is None


def _needed_only_by(graph: GraphProto, chosen: int, results: set[str]) -> list[int]:
    """The numbers of the nodes that serve nothing but the second of what a node chooses from, in order."""
    users: dict[str, set[int]] = {}
    for number, node in enumerate(graph.node):
        for name in _read_by(node):
            users.setdefault(name, set()).add(number)
    condition, early, late = graph.node[chosen].input
    inside: set[int] = set()
    for number in reversed(range(chosen)):
        outputs = {name for name in graph.node[number].output if name}
        served = {user for name in outputs for user in users.get(name, ())}
        if not served or outputs & {*results, condition, early}:
            continue
        others = served - inside
        if not others or (others == {chosen} and late in outputs):
            inside.add(number)
    return sorted(inside)


def _read_by(node: NodeProto) -> set[str]:
    """The values that a node reads, and those that its branches read from around it."""
    found = {name for name in node.input if name}
    for branch in (attribute.g for attribute in node.attribute if attribute.HasField("g")):
        own = {name for each in branch.node for name in each.output}
        own |= {tensor.name for tensor in branch.initializer}
        found |= {name for each in branch.node for name in _read_by(each)} - own
        found |= {value.name for value in branch.output} - own
    return found


def _branch(graph: GraphProto, chosen: int, moved: list[int], values: dict[str, ValueInfoProto]) -> None:
    """Replace a choice by an If whose second branch holds what was moved, and the choice itself."""
    from onnx import TensorProto, ValueInfoProto, helper

    choice = graph.node[chosen]
    (condition, early, _), result, name = choice.input, choice.output[0], choice.name

    def output(value: str) -> ValueInfoProto:
        info = ValueInfoProto()
        info.CopyFrom(values[result])
        info.name = value
        return info

    ends = [f"{name}:{part}" for part in ("early", "late")]
    then = helper.make_graph(
        [helper.make_node("Identity", [early], ends[:1], f"{name}_early")],
        f"{name}_then",
        [],
        [output(ends[0])],
    )
    rest = helper.make_graph([], f"{name}_else", [], [output(ends[1])])
    rest.node.extend(graph.node[number] for number in (*moved, chosen))
    rest.node[-1].output[0] = ends[1]
    before = [
        _copied(node) for number, node in enumerate(graph.node) if number < chosen and number not in moved
    ]
    after = [_copied(node) for node in graph.node[chosen + 1 :]]
    _take_constants(graph, rest, {read for node in (*before, *after) for read in _read_by(node)})
    _divide(rest, {ends[1]}, values)
    numbers, lowest, every = (f"{name}:{part}" for part in ("numbers", "lowest", "all"))
    decision: list[NodeProto] = [
        helper.make_node("Cast", [condition], [numbers], f"{name}_numbers", to=TensorProto.INT32),
        helper.make_node("ReduceMin", [numbers], [lowest], f"{name}_lowest", keepdims=0),
        helper.make_node("Cast", [lowest], [every], f"{name}_all", to=TensorProto.BOOL),
        helper.make_node("If", [every], [result], f"{name}_if", then_branch=then, else_branch=rest),
    ]
    del graph.node[:]
    graph.node.extend((*before, *decision, *after))


def _copied(node: NodeProto) -> NodeProto:
    copy = type(node)()
    copy.CopyFrom(node)
    return copy


def _take_constants(graph: GraphProto, branch: GraphProto, read_outside: set[str]) -> None:
    """Move into a branch the constants that only it reads: engines prepare a layer's weights where they find them."""
    wanted = {name for node in branch.node for name in _read_by(node)} - read_outside
    wanted -= {value.name for value in graph.output}
    for tensor in [each for each in graph.initializer if each.name in wanted]:
        branch.initializer.add().CopyFrom(tensor)
        graph.initializer.remove(tensor)
