"""Choosing a dataset for a network, from what the user named."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import plugins
from zoo.contracts import Dataset
from zoo.data.dataset_file import load_dataset_file
from zoo.errors import UsageError
from zoo.options import options_of
from zoo.recipes.grammar import Stage, parse_stage

if TYPE_CHECKING:
    from zoo.contracts import Architecture

#: How recipe files call data that a Python program passed: the id of such a dataset.
_OF_A_PROGRAM = "program"


def choose_dataset(
    text: str | Dataset,
    photos: Sequence[Path],
    architecture: Architecture,
    opened: tuple[str, Dataset] | None = None,
) -> tuple[str, Dataset]:
    """Return the dataset that a text such as ``darkroom(min_ratio=200)`` names, with its full text.

    Args:
        text: Id and options; "" for the task's default; or a dataset, which is called by its id.
        photos: Folders added to its option `photos`.
        architecture: The network the data is for.
        opened: What :func:`open_dataset` returned for the text, if it was called before.

    Raises:
        UsageError: The task has no default, or the data is for another task.
        ZooError: What :func:`zoo.plugins.dataset` and :meth:`zoo.contracts.Dataset.check` raise.
    """
    task = plugins.task_of(architecture)
    if not text and not task.data:
        raise UsageError(
            f"No data is packaged for {task.id}, the task of {architecture.id}.", hint=task.data_hint
        )
    text, dataset = opened or open_dataset(text or task.data, photos)
    if task.id != "any" and not {task.id, "any", *task.data_of} & set(dataset.tasks):
        raise UsageError(
            f"The data '{dataset.id}' is for {', '.join(sorted(dataset.tasks))}; "
            f"the task of {architecture.id} is {task.id}.",
            hint=f"{task.data_hint}, or see:  zoo list datasets",
        )
    dataset.check(architecture)
    return text, dataset


def open_dataset(text: str | Dataset, photos: Sequence[Path] = ()) -> tuple[str, Dataset]:
    """Return the dataset that a text names, whatever it is for, with its full text.

    Args:
        text: Id and options, a file of arrays, or ``path/to/file.py:NAME``, a file that is then executed; or a dataset,
            which is called by its id.
        photos: Folders added to its option `photos`.

    Raises:
        ZooError: What :func:`zoo.plugins.dataset` and :func:`zoo.data.dataset_file.load_dataset_file` raise.
    """
    if isinstance(text, Dataset):
        if photos:
            raise UsageError("Photographs can only be added to data that is named.", hint="Omit --photos.")
        return text.id, text
    if text == _OF_A_PROGRAM:
        raise UsageError(
            "The data of this recipe was passed by a Python program, which no text names.",
            hint='Pass it again:  zoo.apply(model, Path("recipe.toml"), data=...)',
        )
    if plugins.own_family(text) == "module":
        if photos:
            raise UsageError("--photos is for darkroom and photos, not for a dataset of your own.")
        return text, load_dataset_file(text)
    if os.sep in text and Path(text).expanduser().is_dir():
        raise UsageError(
            f"{text} is a folder, of which is not said what it holds.",
            hint=f"Say it:  --data 'folder(root={text})' with a folder for each class, 'pairs(target={text})', "
            f"'coco(root={text})', or see:  zoo list datasets",
        )
    text = _with_photos(_written_out(text), photos)
    stage = parse_stage(text, "dataset")
    return text, plugins.dataset(stage.technique, stage.option_map)


def leaving_out_bad(text: str) -> str:
    """Return a dataset with the option that leaves out files that cannot be used, as ``--skip-bad`` asks for.

    Args:
        text: Id and options.

    Raises:
        UsageError: It has no such option.
    """
    if text and not plugins.own_family(text):
        stage = parse_stage(_written_out(text), "dataset")
        if "skip_bad" in {
            option.name for option in options_of(plugins.load("datasets", stage.technique).Config)
        }:
            return str(Stage.of(stage.technique, {**stage.option_map, "skip_bad": "true"}))
    raise UsageError(
        f"'{text}' has no option skip_bad." if text else "--skip-bad needs --data.",
        hint="Name data of your own files, as in:  --data 'folder(root=DIR)' --skip-bad",
    )


def _written_out(text: str) -> str:
    """Return the dataset that the name of a file of arrays stands for; any other text as it is."""
    name = text.removeprefix("tensors(").removesuffix(")") if text.startswith("tensors(") else text
    if name.endswith((".npz", ".safetensors")) and not set(name) & set("=,()"):
        return str(Stage.of("tensors", {"file": name}))
    return text


def _with_photos(text: str, photos: Sequence[Path]) -> str:
    if not photos:
        return text
    stage = parse_stage(text, "dataset")
    options = stage.option_map
    given = options.get("photos", ())
    folders = (given,) if isinstance(given, str) else given
    options["photos"] = (*folders, *(str(folder) for folder in photos))
    return str(Stage.of(stage.technique, options))
