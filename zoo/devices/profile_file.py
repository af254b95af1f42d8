"""Reading a device profile from a TOML file."""

from __future__ import annotations

from pathlib import Path

from zoo.contracts import GAP_OPERATORS, DeviceProfile, Execution, KernelGap
from zoo.errors import PluginError
from zoo.schema import Fields, parse_toml
from zoo.storage.atomic import read_bytes

FORMAT = 1
#: the numeric types a profile may name
PRECISIONS = ("int4", "int8", "float16", "bfloat16", "float32")
_LARGEST = 1 << 20
_ID = r"[a-z][a-z0-9-]{1,31}"
#: what needs a source where it is given
_FIGURES = (
    "memory_mb", "precisions", "processor", "gpu", "bandwidth_gbs", "int8_tops", "power_modes", "power_sensors",
    "software",
)  # fmt: skip


def read_profile(path: Path) -> DeviceProfile:
    """The profile that a TOML file describes; docs/devices.md has the format.

    A plugin's entry point names a function that calls this for the file beside it. Every figure needs a source.
    Raises PluginError, naming the file and the place, for anything that is not exactly as it should be.
    """
    fields = Fields(
        parse_toml(read_bytes(path, _LARGEST, error=PluginError), str(path), error=PluginError),
        str(path),
        error=PluginError,
    )
    fields.check_format("device profile", FORMAT)
    profile = DeviceProfile(
        id=fields.text("id", pattern=_ID),
        summary=fields.text("summary", longest=200),
        memory_mb=fields.integer("memory_mb", least=16, most=1 << 24),
        precisions=_words(fields, "precisions", PRECISIONS),
        engines=_words(fields, "engines", None),
        processor=fields.text("processor", "", longest=200),
        gpu=fields.text("gpu", "", longest=200),
        bandwidth_gbs=_number(fields, "bandwidth_gbs"),
        int8_tops=_number(fields, "int8_tops"),
        threads=fields.integer("threads", 0, most=1024),
        arena=fields.boolean("arena", True),
        execution=_execution(fields),
        power_modes=fields.numbers("power_modes", longest=20),
        power_sensors=_words(fields, "power_sensors", None, needed=False),
        software=fields.table("software", {}).texts(most=20, longest=50),
        gaps=tuple(map(_gap, fields.list_of_tables("gap", most=50))),
        sources=fields.table("sources", {}).texts(most=50, longest=500),
    )
    fields.close()
    stated = [name for name in _FIGURES if getattr(profile, name)]
    bare = [name for name in stated if name not in profile.sources]
    if bare:
        fields.refuse(f"gives no source for {', '.join(bare)}", "sources")
    return profile


def _execution(fields: Fields) -> Execution:
    given = fields.choice("execution", ("sequential", "parallel")) if "execution" in fields else ""
    return "parallel" if given == "parallel" else "sequential"


def _gap(fields: Fields) -> KernelGap:
    gap = KernelGap(
        fields.text("what"),
        fields.text("effect"),
        fields.text("source"),
        precision=fields.choice("precision", PRECISIONS) if "precision" in fields else "",
        operators=_words(fields, "operators", GAP_OPERATORS, needed=False),
        remedy=fields.text("remedy", "", pattern=f"({_ID})?"),
        multiple=fields.integer("multiple", 0, most=1024),
    )
    fields.close()
    return gap


def _number(fields: Fields, key: str) -> float | None:
    return None if fields.get(key, None) is None else fields.number(key, least=0, most=1e6)


def _words(
    fields: Fields, key: str, allowed: tuple[str, ...] | None, *, needed: bool = True
) -> tuple[str, ...]:
    value = fields.get(key, [])
    if not isinstance(value, list) or (needed and not value) or len(value) > 50:
        fields.refuse("must be a list of texts", key)
    for word in value:
        fields.check_text(word, key, pattern=_ID if allowed is None and needed else ".+", longest=300)
        if allowed is not None and word not in allowed:
            fields.refuse(f"must hold only {', '.join(allowed)}", key)
    return tuple(value)
