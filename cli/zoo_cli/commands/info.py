"""``zoo info ID``: show details of an architecture, a technique, a checkpoint, ..."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import click

from zoo import plugins
from zoo.artifacts.manifest import MANIFEST_NAME
from zoo.errors import MissingDependencyError, UnknownIdError
from zoo.formatting import integer, scaled
from zoo.options import Option, format_value, options_of
from zoo.plugins.discovery import GROUPS, PluginKind, discover
from zoo.suggest import did_you_mean
from zoo_cli.output import json_option, print_json, print_note, print_table, print_text, quiet_stdout

Record = dict[str, Any]


@click.command()
@click.argument("id_", metavar="ID")
@click.option(
    "--kind", type=click.Choice([*GROUPS, "checkpoints"]), help="Kind to show, if several share this id."
)
@json_option
def command(id_: str, kind: str | None, as_json: bool) -> None:
    """Show details of one architecture, technique, task, checkpoint, engine, dataset, device, or artifact folder.

    ID may be distribution:id, family:member such as timm:resnet18, a network of your own such as ./mynet.py:make_net
    or model.onnx, or the folder of an artifact. The parameters and MACs of an architecture are counted with torch;
    without torch, those of the published checkpoint are shown. If several kinds share the id, JSON holds the first, and
    the others under "also".
    """
    from zoo.architectures.weight_option import split_weights

    id_ = split_weights(id_)[0]
    own = plugins.own_family(id_)
    folder = not kind and Path(id_, MANIFEST_NAME).is_file()
    kinds = [kind] if kind else ["artifacts"] if folder else ["architectures"] if own else _kinds_of(id_)
    with quiet_stdout(as_json):
        records = [_DESCRIBE[each](id_) for each in kinds]
    for record in records:
        if "note" in record:
            print_note(record["note"])
    if as_json:
        print_json({**records[0], **({"also": records[1:]} if records[1:] else {})})
        return
    for number, record in enumerate(records):
        if number:
            print_text("")
        _print(record)


def _kinds_of(name: str) -> list[str]:
    """Return the kinds that have something called `name`, most informative first."""
    from zoo.registry import checkpoints

    installed = discover()
    plain = set(name.split(":")[:2])
    kinds: list[str] = [
        kind for kind in GROUPS if any(each.kind == kind and each.id in plain for each in installed)
    ]
    if name in checkpoints():
        kinds.append("checkpoints")
    if not kinds:
        known = {each.id for each in installed if not each.off} | set(checkpoints())
        raise UnknownIdError(
            f"Nothing is called '{name[:100]}'{did_you_mean(name, known) or '.'}",
            hint="List everything with:  zoo list",
        )
    return kinds


def _origin(kind: PluginKind, name: str) -> Record:
    plugin = plugins.resolve_plugin(kind, name)
    return {"distribution": plugin.distribution, "version": plugin.version}


def _architecture(name: str) -> Record:
    built = plugins.architecture(name, own_files=True)
    record: Record = {
        "id": built.id,
        "kind": "architecture",
        "summary": built.summary,
        "paper": built.paper,
        "task": built.task,
        "parameters": None,
        "macs": None,
        "macs_input": [1, built.input.channels, *built.input.example],
        "input": built.input,
        "output": built.output,
    }
    try:
        record |= _cost(built)
    except MissingDependencyError as error:
        record |= _published_cost(name) or {"note": str(error)}
    return record


def _cost(architecture: Any) -> Record:
    from zoo.extras import require

    torch = require("torch", "Counting parameters and MACs")
    from zoo.cost import model_cost
    from zoo.modules.several_inputs import with_one_input

    # on the meta device nothing is allocated or computed; weights that are loaded cannot be put there
    with torch.device("cpu" if architecture.trained else "meta"):
        spec = architecture.input
        example = torch.empty(1, spec.channels, *spec.example)
        cost = model_cost(with_one_input(architecture.build(), spec.parts), example)
    return {"parameters": cost.parameters, "macs": cost.macs}


def _published_cost(name: str) -> Record:
    """Return the cost stated by the published checkpoint of the same name; empty if there is none."""
    from zoo.registry import checkpoints

    published = checkpoints().get(name)
    figures = published.figures if published else {}
    parameters, gmacs = figures.get("parameters"), figures.get("gmacs")
    if not isinstance(parameters, (int, float)) or not isinstance(gmacs, (int, float)):
        return {}
    note = f"torch is not installed: parameters and MACs are those of the published checkpoint {name}."
    return {"parameters": round(parameters), "macs": round(gmacs * 1e9), "note": note}


def _technique(name: str) -> Record:
    cls = plugins.load("techniques", name)
    return {
        "id": cls.id,
        "kind": "technique",
        "summary": cls.summary,
        "paper": cls.paper,
        "phase": cls.phase,
        "before": cls.before,
        "after": cls.after,
        "conflicts": cls.conflicts,
        "repeatable": cls.repeatable,
        **_origin("techniques", name),
        "options": [_option(each) for each in options_of(cls.Config)],
    }


def _task(name: str) -> Record:
    cls = plugins.load("tasks", name)
    return {
        "id": cls.id,
        "kind": "task",
        "summary": cls.summary,
        "outputs": cls.outputs,
        "data": cls.data or None,
        "search_space": cls.space,
        "presets": dict(cls.presets),
        **_origin("tasks", name),
        "measures": [
            {
                "key": each.key,
                "name": each.name,
                "unit": "%" if each.percent else each.unit,
                "better": "higher" if each.higher_is_better else "lower",
                "may_lose": "" if each.limit is None else f"{each.limit:g} {each.loss_unit}".rstrip(),
            }
            for each in cls.measures
        ],
    }


def _dataset(name: str) -> Record:
    cls = plugins.load("datasets", name)
    return {
        "id": cls.id,
        "kind": "dataset",
        "summary": cls.summary,
        "tasks": cls.tasks,
        **_origin("datasets", name),
        "options": [_option(each) for each in options_of(cls.Config)],
    }


def _engine(name: str) -> Record:
    engine = plugins.engine(name)
    obstacle = engine.available()
    return {
        "id": engine.id,
        "kind": "engine",
        "summary": engine.summary,
        "available": obstacle is None,
        "obstacle": obstacle,
        "engine_version": engine.version() if obstacle is None else None,
        **_origin("engines", name),
    }


def _device(name: str) -> Record:
    profile = plugins.device(name)
    return {
        "id": profile.id,
        "kind": "device",
        "summary": profile.summary,
        "memory_mb": profile.memory_mb,
        "processor": profile.processor,
        "gpu": profile.gpu or None,
        "bandwidth_gbs": profile.bandwidth_gbs,
        "int8_tops": profile.int8_tops,
        "precisions": profile.precisions,
        "engines": profile.engines,
        "power_modes": profile.power_modes,
        "software": dict(profile.software),
        "gaps": [dataclasses.asdict(gap) for gap in profile.gaps],
        "sources": dict(profile.sources),
        **_origin("devices", name),
    }


def _checkpoint(name: str) -> Record:
    from zoo.registry import checkpoint

    entry = checkpoint(name)
    return {
        "id": entry.id,
        "kind": "checkpoint",
        "summary": entry.summary,
        "architecture": entry.architecture,
        "recipe": entry.recipe,
        "fingerprint": entry.fingerprint,
        "sources": entry.sources,
        "tag": entry.tag,
        "registry": entry.registry,
        "devices": entry.devices,
        "size": entry.size,
        "figures": entry.figures,
        "files": entry.files,
    }


def _artifact(name: str) -> Record:
    from zoo.artifacts import open_artifact
    from zoo.artifacts.figures import figures_of

    artifact = open_artifact(Path(name))
    manifest = artifact.manifest
    return {
        "id": name,
        "kind": "artifact",
        "architecture": manifest.architecture,
        "recipe": manifest.recipe or None,
        "precision": manifest.precision,
        "task": manifest.task,
        "classes": len(manifest.classes) or None,
        "fingerprint": manifest.fingerprint,
        "size": sum(entry.size for entry in manifest.files.values()),
        "input": manifest.input,
        "output": manifest.output,
        "extra_outputs": {each: spec.kind for each, spec in manifest.extra_outputs.items()} or None,
        "figures": {figure.key: figure.after for figure in figures_of(artifact.metrics())},
        "files": {each: entry.size for each, entry in manifest.files.items()},
        "created_with": dict(manifest.created_with),
    }


def _option(about: Option) -> Record:
    return {
        "name": about.name,
        "type": about.type_name,
        "default": None if about.required else format_value(about.default),
        "required": about.required,
        "range": about.range,
        "unit": about.unit,
        "help": about.help,
    }


def _print(record: Record) -> None:
    """Print a record as lines of name and value, and its options as a table."""
    plain = {
        key: value
        for key, value in record.items()
        if key not in ("options", "measures", "note", "files", "gaps", "sources")
    }
    width = max(map(len, plain))
    for key, value in plain.items():
        shown = _shown(key, value)
        if shown:
            print_text(f"{key.replace('_', ' '):{width}}  {shown}")
    if record.get("options"):
        print_text("")
        columns = ("name", "type", "default", "range", "unit", "help")
        rows = ([_shown(column, each[column]) for column in columns] for each in record["options"])
        print_table(columns, rows, title="options")
    if record.get("measures"):
        print_text("")
        heads = ("key", "name", "unit", "better", "may_lose")
        rows = ([each[head] for head in heads] for each in record["measures"])
        print_table([head.replace("_", " ") for head in heads], rows, title="measures")
    if record.get("gaps"):
        print_text("")
        rows = ([gap["what"], gap["effect"]] for gap in record["gaps"])
        print_table(("not computed well", "effect"), rows, title="gaps")


def _shown(key: str, value: Any) -> str:
    if value is None:
        return ""
    if key in ("macs", "size"):
        return scaled(value, {"macs": "MACs", "size": "B"}[key])
    if key == "macs_input":
        return "x".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return integer(value)
    if isinstance(value, Enum):
        return str(value.value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return ", ".join(
            f"{name} {_item(item)}" for name, item in value.items() if item not in (None, (), "")
        )
    if isinstance(value, (tuple, list, frozenset, set)):
        return ", ".join(map(str, sorted(value) if isinstance(value, (frozenset, set)) else value))
    return str(value)


def _item(value: Any) -> str:
    """Return a value of a field; of several things, what each says of itself."""
    several = isinstance(value, tuple) and not all(isinstance(each, (int, float, str)) for each in value)
    return ", ".join(map(str, value)) if several else str(value)


_DESCRIBE: dict[str, Callable[[str], Record]] = {
    "architectures": _architecture,
    "techniques": _technique,
    "tasks": _task,
    "datasets": _dataset,
    "engines": _engine,
    "devices": _device,
    "checkpoints": _checkpoint,
    "artifacts": _artifact,
}
