"""What a device profile is: what a board can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from zoo.contracts.contract_version import CONTRACT_VERSION
from zoo.contracts.limits import PLUGIN_ID, Key, Limits

Execution = Literal["sequential", "parallel"]
#: The numeric types that a profile may name.
PRECISIONS = ("int4", "int8", "float16", "bfloat16", "float32")
#: What a :class:`KernelGap` may say of a net's layers.
GAP_OPERATORS = ("concat", "conv", "depthwise", "grouped", "leaky-relu", "silu", "transposed")


@dataclass(frozen=True)
class KernelGap:
    """Something a board's engines do not compute, or compute slowly.

    what, effect: in words, the operation and what happens. The rest is for `zoo apply --device`, each empty for any:

    precision:  the numeric type that is concerned.
    operators:  kinds of layers, all of which a net must have: see :data:`GAP_OPERATORS`.
    remedy:     a technique that avoids it, put behind a recipe's other changes of structure.
    multiple:   counts of channels that are no multiple of it are concerned; 0 if that makes no difference.
    """

    what: str
    effect: str
    source: str
    precision: Annotated[str, Limits(choices=PRECISIONS)] = ""
    operators: Annotated[tuple[Annotated[str, Limits(choices=GAP_OPERATORS)], ...], Limits(most=50)] = ()
    remedy: Annotated[str, Limits(pattern=f"({PLUGIN_ID})?")] = ""
    multiple: Annotated[int, Limits(0, 1024)] = 0

    @property
    def readable(self) -> bool:
        """Whether a program can tell what it concerns."""
        return bool(self.precision or self.operators or self.multiple)


_Id = Annotated[str, Limits(pattern=PLUGIN_ID)]
_Words = Annotated[str, Limits(most=200)]


@dataclass(frozen=True)
class DeviceProfile:
    """What a board can do; see :func:`zoo.devices.read_profile` for one from a file.

    memory_mb:     physical memory, all of it; a GPU that has none of its own shares it.
    precisions:    numeric types that run fast, best first.
    engines:       engine ids in order of preference; the first that can run here is taken.
    processor, gpu: in words, "" for no GPU.
    bandwidth_gbs: of the memory, in GB/s; None if unknown.
    int8_tops:     dense int8 operations a second, in 10^12, as the maker states them; None if it computes no int8.
    threads:       for an engine on the processor; 0 for as many as the process may use.
    arena:         whether the engine keeps memory it took for the next run; without, it peaks lower or higher by net.
    reserve_mb:    memory an engine with an arena sets aside in one piece, so that it does not fall apart; 0 for none.
                   The runner, which knows what a tile takes, states it.
    execution:     "sequential" runs a net's operators one after another, each on all threads; "parallel" runs those
                   that do not wait for each other at once, which pays for nets of many branches.
    power_modes:   in watts, lowest first; empty if there is one.
    power_sensors: patterns of files that tell the power in mW, or pairs "voltage in mV * current in mA".
    software:      versions the board stops at or comes with, by name (jetpack, tensorrt, cuda, python, glibc).
    gaps:          what its engines do not compute well.
    sources:       where the figures come from, by the name of the field.
    """

    id: _Id
    summary: _Words
    memory_mb: Annotated[int, Limits(16, 1 << 24)]
    precisions: Annotated[tuple[Annotated[str, Limits(choices=PRECISIONS)], ...], Limits(1, 50)]
    engines: Annotated[tuple[_Id, ...], Limits(1, 50)]
    contract: int = CONTRACT_VERSION
    processor: _Words = ""
    gpu: _Words = ""
    bandwidth_gbs: Annotated[float | None, Limits(0, 1e6)] = None
    int8_tops: Annotated[float | None, Limits(0, 1e6)] = None
    threads: Annotated[int, Limits(0, 1024)] = 0
    arena: bool = True
    reserve_mb: int = 0
    execution: Execution = "sequential"
    power_modes: Annotated[tuple[float, ...], Limits(most=20)] = ()
    power_sensors: Annotated[tuple[Annotated[str, Limits(most=300, pattern=".+")], ...], Limits(most=50)] = ()
    software: Annotated[Mapping[str, Annotated[str, Limits(most=50)]], Limits(most=20)] = field(
        default_factory=dict
    )
    gaps: Annotated[tuple[KernelGap, ...], Key("gap"), Limits(most=50)] = ()
    sources: Annotated[Mapping[str, Annotated[str, Limits(most=500)]], Limits(most=50)] = field(
        default_factory=dict
    )
