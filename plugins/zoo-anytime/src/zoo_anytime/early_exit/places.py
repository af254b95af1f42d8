"""Where exits can be: tensors of a network that all data passes through."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx, nn

from zoo.errors import UsageError, ZooError
from zoo.suggest import did_you_mean
from zoo.surgery import DataFlow, area_of, layer_of, shape_of

#: Shares of all multiplications between which an exit is worth its own.
_EARLIEST, _LATEST = 0.02, 0.95


@dataclass(frozen=True)
class Place:
    """A tensor (N, C, H, W) that all data passes through.

    Attributes:
        node: Its node.
        name: The module that computes it; for what a block computes with its last operator, the block.
        share: The multiplications up to it, of those of the whole network.
    """

    node: fx.Node
    name: str
    share: float


def find_places(module: fx.GraphModule) -> list[Place]:
    """Return the places of a traced network in order; of several with nothing to multiply between them the last."""
    flow = DataFlow(module)
    output = next(node for node in module.graph.nodes if node.op == "output")
    passed = set(flow.common_dominators([output]))
    total = sum(_multiplications(module, node) for node in flow.nodes)
    done, path = 0, ""
    found: dict[int, Place] = {}
    for node in flow.nodes:
        done += _multiplications(module, node)
        if (
            node.op == "call_module"
            and next(module.get_submodule(str(node.target)).parameters(), None) is not None
        ):
            path = str(node.target)
        if node in passed and (area_of(node) or 0) > 1 and total and _EARLIEST <= done / total <= _LATEST:
            block = str(node.target) if node.op == "call_module" else path.rpartition(".")[0]
            found[done] = Place(node, block or path, done / total)
    return list(found.values())


def choose_places(places: list[Place], at: tuple[str, ...], count: int, technique: str) -> list[Place]:
    """Return the places for exits, in order.

    Args:
        places: All of them.
        at: Names of modules: of each, the last place inside it.
        count: Without names, how many to take, at equal distances.
        technique: For messages.

    Raises:
        ZooError: There are no places.
        UsageError: There are fewer than `count`, or none inside a module of that name.
    """
    known = sorted({place.name for place in places})
    if not places:
        raise ZooError(
            f"{technique} finds no tensor that all data passes through, and behind which there is still work to save."
        )
    if at:
        chosen = []
        for name in at:
            inside = [place for place in places if f"{place.name}.".startswith(f"{name}.")]
            if not inside:
                raise UsageError(
                    f"{technique}: no exit is possible after '{name}'{did_you_mean(name, known) or '.'}",
                    hint=f"Possible after:  {'  '.join(known)}",
                )
            chosen.append(inside[-1])
        return sorted(set(chosen), key=lambda place: place.share)
    if count > len(places):
        raise UsageError(
            f"{technique}: {count} exits were asked for, but the network has {len(places)} places for them.",
            hint=f"Possible after:  {'  '.join(known)}",
        )
    left, taken = list(places), list[Place]()
    for number in range(1, count + 1):
        wanted = number / (count + 1)
        nearest = min(left, key=lambda place: abs(place.share - wanted))
        left.remove(nearest)
        taken.append(nearest)
    return sorted(taken, key=lambda place: place.share)


def _multiplications(module: fx.GraphModule, node: fx.Node) -> int:
    """For one image, of a convolution or linear layer."""
    layer, shape = layer_of(module, node), shape_of(node)
    if not isinstance(layer, (nn.Conv2d, nn.Linear)) or shape is None:
        return 0
    positions = shape[1:].numel() // layer.weight.shape[0]
    return layer.weight.numel() * positions
