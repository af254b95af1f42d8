"""A recipe as a TOML file, with what else a compression needs::

    architecture = "unet"
    steps = 600

    [[stage]]
    technique = "depthwise"

    [stage.options]
    which = "all"

Option values stay text, as in the one-line form: ``w = 0.10`` is read as ``0.10``, and written so.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from zoo.contracts.limits import Limits
from zoo.errors import RecipeError
from zoo.extras import require
from zoo.options import Text
from zoo.recipes.grammar import MAX_STAGES, Recipe, Stage
from zoo.schema import StrictTable, parse_toml
from zoo.schema import read as read_table
from zoo.storage.atomic import read_bytes, write_bytes_atomic

#: Bytes of a recipe file; far beyond any that a machine could run.
MAX_SIZE = 1 << 20

_LARGEST = 2**53
#: Spellings that TOML reads back as the same text.
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,14}")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30}([eE][+-]?[0-9]{1,4})?|[eE][+-]?[0-9]{1,4})")


@dataclass(frozen=True)
class RecipeFile:
    """The content of a recipe file; None for what it leaves to the command line or the defaults.

    Attributes:
        steps: Steps of all training, or of each training stage.
        minutes: Budget of training in minutes.
        data: A dataset, such as ``darkroom(photos=DIR)``.
        weights: Path or checkpoint id.
        weights_key, partial, batch, crop, learning_rate, precision, half_weights: See
            :class:`zoo.pipeline.request.ApplyRequest`.
    """

    recipe: Recipe
    architecture: str | None = None
    seed: int | None = None
    steps: tuple[int, ...] | None = None
    minutes: Annotated[float | None, Limits(0, 1e9)] = None
    data: str | None = None
    weights: str | None = None
    weights_key: str | None = None
    partial: bool | None = None
    batch: Annotated[int | None, Limits(1, 1 << 16)] = None
    crop: Annotated[int | None, Limits(1, 1 << 16)] = None
    learning_rate: Annotated[float | None, Limits(0, 1e3)] = None
    precision: str | None = None
    half_weights: bool | None = None


def loads(content: bytes | str, source: str = "the recipe file") -> RecipeFile:
    """Read the TOML form.

    Args:
        content: Of the file.
        source: Name of the file, for messages.

    Raises:
        RecipeError: It is wrong; the message names the place.
    """
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    if len(raw) > MAX_SIZE:
        raise RecipeError(f"{source} has {len(raw)} bytes; the limit is {MAX_SIZE}.")
    top = StrictTable(
        parse_toml(raw, source, error=RecipeError, parse_float=_Exact), source, error=RecipeError
    )
    stages = tuple(_stage(each) for each in top.list_of_tables("stage", most=MAX_STAGES))
    if not stages:
        top.refuse("has no stage; each technique is one [[stage]] table")
    return read_table(RecipeFile, top, recipe=Recipe(stages), steps=_steps(top))


def dumps(form: RecipeFile) -> str:
    """Return the TOML form, which loads to an equal object.

    Raises:
        RecipeError: TOML cannot hold a value.
        MissingDependencyError: tomlkit, of the extras `hub` and `compress`, is not installed.
    """
    require("tomlkit", "Writing a recipe file")
    import tomlkit

    document = tomlkit.document()
    for field in fields(form):
        value = getattr(form, field.name)
        if field.name != "recipe" and value is not None:
            document[field.name] = _literal(value)
    stages = tomlkit.aot()
    for stage in form.recipe:
        table = tomlkit.table()
        table["technique"] = stage.technique
        if stage.options:
            table["options"] = tomlkit.table()
            table["options"].update((name, _text_literal(value)) for name, value in stage.options)
        stages.append(table)
    document["stage"] = stages
    text = tomlkit.dumps(document)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        surrogate = error.object[error.start]
        raise RecipeError(f"A recipe file cannot hold the lone surrogate {surrogate!a}.") from None
    return text


def read(path: Path) -> RecipeFile:
    """Read a recipe file.

    Raises:
        InputError: It cannot be read.
        RecipeError: Its content is wrong.
    """
    return loads(read_bytes(path, MAX_SIZE), str(path))


def write(path: Path, form: RecipeFile) -> None:
    """Write a recipe file atomically.

    Raises:
        OutputError: It cannot be written.
    """
    write_bytes_atomic(path, dumps(form).encode("utf-8"))


# --------------------------------------------------------------------------------------------------- details


class _Exact(float):
    """A float that remembers how it was written."""

    text: str

    def __new__(cls, text: str) -> _Exact:
        self = super().__new__(cls, text)
        self.text = text.replace("_", "")
        return self


def _stage(table: StrictTable) -> Stage:
    technique = table.text("technique", longest=200)
    options = table.table("options", {})
    values = tuple((name, _value(options, name)) for name in options)
    table.close()
    try:
        return Stage(technique, values)
    except RecipeError as error:
        table.refuse(f"is wrong: {error.message.splitlines()[0].rstrip('.')}")


def _value(options: StrictTable, name: str) -> Text:
    value = options.get(name)
    if isinstance(value, list):
        return tuple(_scalar(options, name, item) for item in value)
    return _scalar(options, name, value)


def _scalar(options: StrictTable, name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, _Exact):
        return value.text
    if not isinstance(value, int) or abs(value) > _LARGEST:
        options.refuse("must be text, a number, true or false, or a list of these", name)
    return str(value)


def _steps(table: StrictTable) -> tuple[int, ...] | None:
    value = table.get("steps", None)
    if value is None:
        return None
    values = value if isinstance(value, list) else [value]
    if not values or not all(type(item) is int and 0 <= item <= _LARGEST for item in values):
        table.refuse("must be a whole number, or a list of one for each training", "steps")
    return tuple(values)


def _literal(value: str | int | float | tuple[int, ...]) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise RecipeError(f"A recipe file cannot hold the number {value}.")
    if isinstance(value, tuple):
        return list(value) if len(value) != 1 else value[0]
    return value


def _text_literal(value: Text) -> Any:
    """Return an item that is read back as the same text, a number where that is one in the same spelling."""
    import tomlkit

    if not isinstance(value, str):
        return [_text_literal(each) for each in value]
    bare = _INTEGER.fullmatch(value) or _FLOAT.fullmatch(value) or value in ("true", "false")
    return tomlkit.value(value) if bare else value
