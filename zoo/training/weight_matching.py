"""Which tensors of a file belong to which of a network: by name, without the prefixes of wrappers, and by shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Prefixes of DataParallel, Lightning, torch.compile and training code; removed where that makes more names match.
_PREFIXES = (
    "module.",
    "model.",
    "_orig_mod.",
    "net.",
    "network.",
    "backbone.",
    "encoder.",
    "student.",
)
#: The same in the middle of a name.
_INNER = ("_orig_mod.", "module.")
_DEPTH = 3
#: Numbers that networks or tools that count operations store; no network computes with them in eval mode.
_COUNTERS = ("num_batches_tracked", "total_ops", "total_params", "n_averaged")
_SHOWN = 4


@dataclass(frozen=True)
class Match:
    """How a set of weights fits a network.

    Attributes:
        values: Tensors (...,) of any shape, by the network's name for them.
        missing: Names in the network that the set lacks.
        left_over: Names in the set that the network lacks.
        other_shape: Names in the network with the shapes in the set and in the network.
        renamed: What was done to the set's names, "" for nothing.
    """

    values: Mapping[str, Tensor] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    left_over: tuple[str, ...] = ()
    other_shape: tuple[str, ...] = ()
    renamed: str = ""

    @property
    def complete(self) -> bool:
        """Return whether each tensor of the network has a value and each of the set a place."""
        return not (self.missing or self.left_over or self.other_shape)

    @property
    def rank(self) -> tuple[bool, int, int]:
        """Return what the better of two matches has more of."""
        return self.complete, len(self.values), -len(self.left_over)

    def problems(self) -> str:
        """Return what does not fit, as text."""
        return "; ".join(
            f"{title}: {', '.join(names[:_SHOWN])}"
            + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
            for title, names in (
                ("missing in the file", self.missing),
                ("left over in the file", self.left_over),
                ("of another shape or type", self.other_shape),
            )
            if names
        )


def match_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> Match:
    """Return the match with the most tensors over all ways to remove or add the prefixes of wrappers.

    Args:
        model: The network.
        tensors: Weights (...,) of any shape by name.
    """
    wanted = {key: value for key, value in model.state_dict().items() if not key.endswith(_COUNTERS)}
    held = {key: value for key, value in tensors.items() if not key.endswith(_COUNTERS)}
    aliases = _aliases(model)
    best = Match()
    for index, (names, how) in enumerate(_renamings(held, wanted)):
        match = _matched(wanted, held, names, aliases, how)
        if index == 0 or match.rank > best.rank:
            best = match
        if best.complete:
            break
    return best


def _matched(
    wanted: Mapping[str, Tensor],
    held: Mapping[str, Tensor],
    names: Mapping[str, str],
    aliases: Mapping[str, frozenset[str]],
    how: str,
) -> Match:
    values, other = {}, []
    for theirs, ours in names.items():
        if ours not in wanted:
            continue
        old, new = wanted[ours], held[theirs]
        if old.shape == new.shape and old.is_floating_point() == new.is_floating_point():
            values[ours] = new
        else:
            other.append(f"{ours} ({_form(new)} in the file, {_form(old)} in the network)")
    known = {ours for ours in names.values() if ours in wanted}
    missing = [key for key in wanted if key not in known and not aliases.get(key, frozenset()) & known]
    left = [theirs for theirs in held if names.get(theirs) not in wanted]
    return Match(values, tuple(missing), tuple(left), tuple(other), how)


def _form(tensor: Tensor) -> str:
    return f"{'x'.join(map(str, tensor.shape)) or 'a number'} {str(tensor.dtype).removeprefix('torch.')}"


def _aliases(model: nn.Module) -> dict[str, frozenset[str]]:
    """Return the other names of tensors that have several, as tied weights do."""
    names: dict[int, list[str]] = {}
    for key, value in model.state_dict(keep_vars=True).items():
        names.setdefault(id(value), []).append(key)
    return {key: frozenset(several) for several in names.values() if len(several) > 1 for key in several}


def _renamings(held: Iterable[str], wanted: Iterable[str]) -> Iterator[tuple[dict[str, str], str]]:
    """Yield ways to rename the tensors of a file, fewest changes first, each with its description."""
    start = {name: name for name in held}
    wrappers = {f"{name.partition('.')[0]}." for name in wanted if "." in name}
    seen: set[frozenset[str]] = set()
    level = [(start, "")]
    for _ in range(_DEPTH + 1):
        yield from level
        level = [
            (changed, f"{how}, {what}".removeprefix(", "))
            for names, how in level
            for changed, what in _changes(names, wrappers)
            if frozenset(changed.values()) not in seen and not seen.add(frozenset(changed.values()))  # type: ignore[func-returns-value]
        ]


def _changes(names: Mapping[str, str], wrappers: Iterable[str]) -> Iterator[tuple[dict[str, str], str]]:
    for prefix in _PREFIXES:
        if any(name.startswith(prefix) for name in names.values()):
            kept = {key: name.removeprefix(prefix) for key, name in names.items() if name.startswith(prefix)}
            yield kept, f"prefix '{prefix}' removed"
    for inner in _INNER:
        if any(f".{inner}" in name for name in names.values()):
            yield _each(names, lambda name, inner=inner: name.replace(f".{inner}", ".")), f"'{inner}' removed"  # type: ignore[misc]
    for wrapper in wrappers:
        if not any(name.startswith(wrapper) for name in names.values()):
            yield _each(names, lambda name, wrapper=wrapper: wrapper + name), f"prefix '{wrapper}' added"  # type: ignore[misc]


def _each(names: Mapping[str, str], change: Callable[[str], str]) -> dict[str, str]:
    return {key: change(name) for key, name in names.items()}
