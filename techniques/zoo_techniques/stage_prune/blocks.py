"""Finding the repeated blocks of a network's stages, and taking the last ones of a stage out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from zoo.surgery import (
    ModuleSlot,
    detect_external_reads,
    evaluating,
    module_slots,
    on_device_of,
    replace_module,
)


@dataclass
class Chain:
    """Blocks of one module that run one after the other, each on the output of the one before.

    Attributes:
        parent: Name of the module.
        blocks: The blocks.
        removable: The last of them that follow one another and whose outputs have the shape of their inputs.
    """

    parent: str
    blocks: list[ModuleSlot] = field(default_factory=list)
    removable: list[ModuleSlot] = field(default_factory=list)

    def add(self, block: ModuleSlot, same: bool) -> None:
        """Add the next block; `same` says whether its output has the shape of its input."""
        if same:
            self.removable = [*self.removable, block] if self.trailing else [block]
        self.blocks.append(block)

    @property
    def trailing(self) -> bool:
        """Return whether the last block is removable."""
        return self.removable[-1:] == self.blocks[-1:]

    @property
    def spare(self) -> int:
        """Return how many blocks may be removed; one always stays."""
        return min(len(self.removable), len(self.blocks) - 1)


@dataclass(frozen=True)
class _Call:
    place: ModuleSlot
    given: Tensor
    result: Tensor


def find_chains(model: nn.Module, example: Tensor) -> list[Chain]:
    """Return the chains that can spare a block, in order of execution, without those inside a block of another one.

    A block holds a convolution or linear layer. Chains whose last block can go are preferred, then those that can
    spare one in the middle; if there are none, as in VGG, single convolutions count as blocks.

    Args:
        model: The network.
        example: An input, (N, C, H, W).
    """
    calls = _calls(model, example)
    chains = _chains([call for call in calls if next(call.place.module.children(), None) is not None])
    return (
        _outermost([chain for chain in chains if chain.trailing])
        or _outermost(chains)
        or _chains([call for call in calls if isinstance(call.place.module, nn.Conv2d)], strict=False)
    )


def _outermost(chains: Sequence[Chain]) -> list[Chain]:
    inside = tuple(f"{block.name}." for chain in chains for block in chain.blocks)
    return [chain for chain in chains if not f"{chain.parent}.".startswith(inside)]


class _Skipped(nn.Identity):
    """In the place of a block that is gone: what else the block was given is of no use here."""

    def forward(self, input: Tensor, *_: object, **__: object) -> Tensor:  # noqa: A002 - its name there
        return input


def remove_last(model: nn.Module, chain: Chain, count: int) -> list[str]:
    """Remove the last `count` removable blocks of a chain; return their names."""
    gone = chain.removable[len(chain.removable) - count :]
    for place in gone:
        replace_module(model, place.module, _Skipped())
    return [place.name for place in gone]


def _chains(calls: Sequence[_Call], *, strict: bool = True) -> list[Chain]:
    """strict: blocks are given exactly what the ones before gave, with nothing between."""
    chains: dict[str, Chain] = {}
    found: list[Chain] = []
    last: dict[str, _Call] = {}
    for call in calls:
        parent = call.place.name.rpartition(".")[0]
        before = last.get(parent)
        if before is None or (strict and before.result is not call.given):
            chains[parent] = Chain(parent)
            found.append(chains[parent])
        same = call.given.shape == call.result.shape and call.given.dim() > 2
        chains[parent].add(call.place, same)
        last[parent] = call
    return [chain for chain in found if chain.spare > 0]


def _calls(model: nn.Module, example: Tensor) -> list[_Call]:
    """What ran once, on one tensor, giving one tensor, and has weights that nothing else reads; in order."""
    began: dict[nn.Module, int] = {}
    done: dict[nn.Module, _Call | None] = {}
    known: dict[nn.Module, ModuleSlot] = {}
    for place in module_slots(model):
        known.setdefault(place.module, place)

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        began.setdefault(module, len(began))

    def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        given = [value for value in (*args, *kwargs.values()) if value is not None]
        plain = len(given) == 1 and isinstance(given[0], Tensor) and isinstance(output, Tensor)
        once = module not in done
        done[module] = _Call(known[module], given[0], output) if plain and once else None

    watched = [m for m, place in known.items() if place.name and _has_weights(m)]
    handles: list[Any] = [m.register_forward_pre_hook(enter, with_kwargs=True) for m in watched]
    handles += [m.register_forward_hook(leave, with_kwargs=True) for m in watched]
    try:
        layers = [module for module in known if module._parameters]
        with detect_external_reads(layers) as read, evaluating(model):
            model(on_device_of(model, example))
    finally:
        for handle in handles:
            handle.remove()
    called = [
        call for module in sorted(began, key=began.__getitem__) if (call := done.get(module)) is not None
    ]
    return [call for call in called if read.isdisjoint(call.place.module.modules())]


def _has_weights(module: nn.Module) -> bool:
    kinds = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    return any(isinstance(each, kinds) for each in module.modules())
