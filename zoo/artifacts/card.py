"""README.md of an artifact: what it is, what it measures, how each number was measured, how to run it.

Everything in it comes from zoo.json and metrics.json. Of the latter these keys are read, all optional:

command:  the command line that made the artifact.
baseline: what the column "before" stands for.
figures:  list of tables with key, name, unit, before (or null), after, how; see zoo.artifacts.figures.Figure.
sample:   name of a picture in the artifact; sample_shows: what its panels show, from left to right.
performance: what a run takes on devices, see zoo.artifacts.performance.
training: table of what went into it: data, steps, hours, seed, device, ...
notes:    list of sentences.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.artifacts.figures import Figure, figures_of, format_number
from zoo.artifacts.manifest import Manifest
from zoo.artifacts.metadata import Publication, front_matter
from zoo.artifacts.performance import Performance, performance_of
from zoo.contracts import InputPart, InputSpec
from zoo.errors import RecipeError
from zoo.extras import IN_THE_CLONE, install_command
from zoo.recipes.grammar import parse_stage
from zoo.tasks.built_in_metrics import METRICS

_INSTALL = f"{install_command('cpu')}  # {IN_THE_CLONE}"

#: Lists of scenes in the table of what went into an artifact; of a few the names are shown.
_SCENES = ("trained_on", "calibrated_on", "evaluated_on")
_FEW_SCENES = 8
_EVALUATED = re.compile(r"zoo eval ('[^']*'|[^\s'\x60]+)")


def card_text(
    name: str,
    manifest: Manifest,
    metrics: Mapping[str, Any],
    publication: Publication | None = None,
    *,
    path: Path | None = None,
) -> str:
    """Return the model card of an artifact, in Markdown with the front matter that model hubs read.

    Args:
        name: What the artifact is called.
        manifest: Its manifest.
        metrics: The content of its metrics.json.
        publication: Where it is published; None for an artifact on this machine.
        path: The folder of an artifact on this machine, as `zoo run` is given it; by default `name`.

    Raises:
        IntegrityError: The figures are malformed.
        RecipeError: The recipe does not parse.
        MissingDependencyError: huggingface-hub, of the extras `hub` and `compress`, is not installed.
    """
    figures = figures_of(metrics)
    called = publication.identifier if publication else shlex.quote(str(path or name))
    parts = [
        front_matter(name, manifest, figures, evaluated_on(metrics), publication),
        f"# {name}",
        _what(manifest),
        _sample(metrics),
        _table(figures, str(metrics.get("baseline") or "before")),
        _how_measured(figures, called),
        _on_devices(performance_of(metrics)),
        _made(manifest, metrics),
        _run(path or Path(name), manifest) if publication is None else _run_published(manifest, publication),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def evaluated_on(metrics: Mapping[str, Any]) -> str:
    """Return the dataset that the figures were measured on, as a recipe names it; "" if metrics.json names none."""
    training = metrics.get("training")
    data = training.get("data") if isinstance(training, Mapping) else None
    if not isinstance(data, str) or not data.isprintable() or len(data) > 500:
        return ""
    try:
        parse_stage(data, "dataset")
    except RecipeError:
        return ""
    return data


def _what(manifest: Manifest) -> str:
    spec = manifest.input
    sensor = {"bayer": "Bayer", "xtrans": "X-Trans", None: ""}[spec.mosaic]
    picture = "a grey image" if spec.kind == "gray" else "an RGB image"
    takes = f"{spec.channels} channels of packed {sensor} RAW" if sensor else picture
    if spec.kind == "tensor":
        takes = (
            "numbers, " + " and ".join(_part(part) for part in spec.parts) if spec.parts else _tensor(spec)
        )
    channels, scale = manifest.output.channels, manifest.output.scale
    gives = {
        "rgb": f"an sRGB image with {scale} times the sides of the input",
        "gray": f"a grey image with {scale} times the sides of the input",
        "classes": f"one of {channels} classes for each pixel",
        "boxes": f"boxes around objects of {channels} classes",
        "tensor": f"a tensor with {channels} channels",
        "mask": f"a mask of probabilities in {channels} channels",
        "logits": f"{channels} logits",
    }[manifest.output.kind]
    inputs = "inputs are" if len(spec.parts) > 1 else "input is"
    recipe = f"after the recipe `{manifest.recipe}`" if manifest.recipe else "without compression"
    return (
        f"The network `{manifest.architecture}` {recipe}, computing in {manifest.precision}. "
        f"Its {inputs} {takes}, its output {gives}.\n\nFingerprint: `{manifest.fingerprint}`"
    )


def _tensor(spec: InputSpec) -> str:
    sides = "x".join(map(str, spec.example)) if spec.fixed_size else "HxW"
    return f"numbers in {spec.channels} channels ({spec.channels}x{sides})"


def _part(part: InputPart) -> str:
    """Return one of several inputs in words: "`depth` (gray 1x256x256)"."""
    return str(part).replace(part.name, f"`{part.name}`", 1)


def _sample(metrics: Mapping[str, Any]) -> str:
    if not isinstance(metrics.get("sample"), str):
        return ""
    shows = _plain(metrics.get("sample_shows") or "a sample")
    caption = f"\n\n*From left to right: {shows}.*" if "," in shows else ""
    return f"![{shows}]({metrics['sample']}){caption}"


def _table(figures: Sequence[Figure], baseline: str) -> str:
    if not figures:
        return ""
    rows = [f"| | {_cell(baseline)} | this |", "|---|---:|---:|"]
    rows += [
        f"| {_cell(figure.name)} | {_value(figure, figure.before)} | {_value(figure, figure.after)} |"
        for figure in figures
    ]
    return "\n".join(rows)


def _value(figure: Figure, value: float | None) -> str:
    """Return a value of a figure for readers, shares as tables of the command line show them: "79.40 %"."""
    metric = METRICS.get(figure.key)
    if value is not None and metric is not None and metric.percent:
        return metric.show(value)
    return format_number(value, figure.unit)


def _how_measured(figures: Iterable[Figure], called: str) -> str:
    """Return how each number was measured; commands name the artifact as the reader of this card calls it."""
    lines = [
        f"- {figure.name}: {_EVALUATED.sub(lambda _: f'zoo eval {called}', figure.how)}"
        for figure in figures
        if figure.how
    ]
    return "\n".join(["## How each number was measured", "", *lines]) if lines else ""


def _on_devices(rows: Mapping[str, Performance]) -> str:
    """Return what a run takes where it was measured."""
    if not rows:
        return ""
    energy = any(row.joules is not None for row in rows.values())
    lines = [
        "## On devices", "",
        "Times of a run of the network, measured by `zoo bench --record`; memory is that of the process.", "",
        f"| device | engine | input | median | 95 % | peak memory |{' energy |' if energy else ''}",
        f"|---|---|---|---:|---:|---:|{'---:|' if energy else ''}",
    ]  # fmt: skip
    for key, row in rows.items():
        device, _, engine = key.partition(" ")
        where = f"{device} ({_cell(row.machine)}, {row.threads} thread{'' if row.threads == 1 else 's'})"
        cells = [
            where,
            f"{engine} {_cell(row.version)}",
            row.input,
            f"{row.median_ms:.3g} ms",
            f"{row.p95_ms:.3g} ms",
        ]
        cells += [f"{row.peak_mb:.0f} MB", *([format_number(row.joules, "J")] if energy else [])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _made(manifest: Manifest, metrics: Mapping[str, Any]) -> str:
    lines = []
    if metrics.get("command"):
        lines += ["```", str(metrics["command"]), "```", ""]
    training = metrics.get("training")
    if isinstance(training, Mapping):
        lines += [
            f"- {key.replace('_', ' ')}: {_scenes(value) if key in _SCENES else _plain(value)}"
            for key, value in training.items()
        ]
    if manifest.created_with:
        versions = ", ".join(f"{program} {version}" for program, version in manifest.created_with.items())
        lines.append(f"- made with: {versions}")
    notes = metrics.get("notes")
    if isinstance(notes, Sequence) and not isinstance(notes, str):
        lines += ["", *(f"- {note}" for note in notes)]
    return "\n".join(["## How it was made", "", *lines]) if lines else ""


def _scenes(names: Any) -> str:
    """Return the names of scenes; of more than a few the number and a digest, since they may be private."""
    if not isinstance(names, list) or len(names) <= _FEW_SCENES:
        return _plain(names)
    digest = hashlib.sha256("\n".join(sorted(map(str, names))).encode()).hexdigest()
    return f"{len(names):,} scenes (sha256 of their sorted names: {digest[:16]})"


def _run(path: Path, manifest: Manifest) -> str:
    command = f"zoo run {shlex.quote(str(path))} {_file(manifest)} -o pictures"
    return f"## How to run it\n\n```\n{_INSTALL}\n{command}\n```"


def _run_published(manifest: Manifest, publication: Publication) -> str:
    file, repository, known = _file(manifest), publication.repository, publication.identifier
    name = repository.partition("/")[2]
    tiles = ", and cuts an image into tiles that fit the board's memory" if manifest.output.dense else ""
    return f"""## How to run it on a board

The runner needs neither torch nor a GPU{tiles}. A board that
ships its own engine, such as a Jetson, needs only `{install_command()}`. `COMMIT` stands for the
forty digits of a commit of this repository; every file is compared with the sha256 in its zoo.json.

```
{_INSTALL}
zoo pull {repository}@COMMIT --out {name}
zoo run {name} {file} -o pictures
```

With its entry in registry.toml, which pins every byte, as `{known}`:

```
zoo pull {known}
zoo run {known} {file} -o pictures
```"""


def _file(manifest: Manifest) -> str:
    return {"packed-raw": "IMG_0001.DNG", "tensor": "inputs.npz"}.get(manifest.input.kind, "picture.jpg")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
