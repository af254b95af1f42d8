"""The contract of device profiles: what a board can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from zoo.contracts.contract_version import CONTRACT_VERSION
from zoo.contracts.limits import PLUGIN_ID, Key, Limits

Execution = Literal["sequential", "parallel"]
#: The numeric types that a profile may name.
PRECISIONS = ("int4", "int8", "float16", "bfloat16", "float32")
#: Kinds of layers that a :class:`KernelGap` may name.
GAP_OPERATORS = ("concat", "conv", "depthwise", "grouped", "leaky-relu", "silu", "transposed")


@dataclass(frozen=True)
class KernelGap:
    """Something that a board's engines do not compute, or compute slowly.

    The first three attributes are for people, the others for `zoo apply --device`; an empty one matches anything.

    Attributes:
        what: The operation, in words.
        effect: What happens, in words.
        source: Who says so.
        precision: Numeric type that is affected.
        operators: Kinds of layers that a network must all have to be affected: see :data:`GAP_OPERATORS`.
        remedy: Technique that avoids it, placed after a recipe's other changes of structure.
        multiple: Numbers of channels that are not multiples of this are affected; 0 if it makes no difference.
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
        """Return whether a program can decide which networks it affects."""
        return bool(self.precision or self.operators or self.multiple)


_Id = Annotated[str, Limits(pattern=PLUGIN_ID)]
_Words = Annotated[str, Limits(most=200)]


@dataclass(frozen=True)
class DeviceProfile:
    """What a board can do; see :func:`zoo.devices.read_profile` for reading one from a file.

    Attributes:
        memory_mb: All physical memory, in MiB; a GPU without memory of its own shares it.
        precisions: Numeric types that run fast, best first.
        engines: Engine ids in order of preference; the first one that can run here is used.
        processor: The processor, in words.
        gpu: The GPU, in words; "" for none.
        bandwidth_gbs: Memory bandwidth in GB/s; None if unknown.
        int8_tops: Dense int8 operations per second, in 10^12, as stated by the vendor; None without int8.
        threads: Threads of an engine on the processor; 0 for as many as the process may use.
        arena: Whether the engine keeps its memory for the next run; without it, the peak depends on the network.
        reserve_mb: Memory in MiB that an engine with an arena reserves in one piece, which avoids fragmentation; 0
            for none. The runner sets it, because it knows how much a tile takes.
        execution: "sequential" runs a network's operators one after another, each on all threads; "parallel" runs
            independent ones at once, which helps networks with many branches.
        power_modes: In watts, lowest first; empty if there is only one.
        power_sensors: Patterns of files that contain the power in mW, or pairs "voltage in mV * current in mA".
        software: Versions that the board comes with or is limited to, by name (jetpack, tensorrt, cuda, python,
            glibc).
        gaps: What its engines do not compute well.
        sources: Where the figures come from, by the name of the field.
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
