"""`zoo data`: show what a dataset holds, before anything is trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.progress import progress
from zoo_cli.output import json_option, print_json, print_table, print_text, quiet_stdout

if TYPE_CHECKING:
    from zoo.data.survey import Survey

#: Classes, sizes and files that are shown; JSON holds all.
_MOST_CLASSES, _MOST_SIZES, _MOST_NAMED = 40, 4, 8


@click.command(short_help="Show what a dataset holds, and a contact sheet.")
@click.argument("dataset")
@click.argument("network", required=False)
@click.option(
    "--photos", multiple=True, type=click.Path(path_type=Path), help="Folder of photographs to add."
)
@click.option(
    "--skip-bad", is_flag=True, help="Leave out files that cannot be used, instead of refusing them."
)
@click.option("--images", type=click.IntRange(1), help="Decode only this many images [all].")
@click.option(
    "--sheet", type=click.Path(path_type=Path), help="PNG file for the contact sheet [out/DATASET-sheet.png]."
)
@click.option("--no-sheet", is_flag=True, help="Draw no contact sheet.")
@json_option
def command(
    dataset: str,
    network: str | None,
    photos: tuple[Path, ...],
    skip_bad: bool,
    images: int | None,
    sheet: Path | None,
    no_sheet: bool,
    as_json: bool,
) -> None:
    """Count the classes and splits of DATASET, decode its images, and draw some of them with their labels.

    DATASET is what --data accepts elsewhere, such as 'folder(root=DIR)'. With NETWORK, it is checked that the data
    suits the network, and the sheet shows images as the network sees them: as they are evaluated and calibrated on,
    then as they are trained on.
    """
    from zoo import plugins
    from zoo.architectures.weight_option import split_weights
    from zoo.data.choose import leaving_out_bad
    from zoo.data.contact_sheet import draw_sheet
    from zoo.data.survey import survey_dataset
    from zoo.storage.atomic import atomic_write, check_png_target

    if skip_bad:
        dataset = leaving_out_bad(dataset)
    if sheet is not None:
        check_png_target(sheet, "sheet.png")
    with quiet_stdout(as_json), progress() as reporter:
        # Data must suit the network, whatever its weights.
        named = split_weights(network)[0] if network else ""
        architecture = plugins.architecture(named, own_files=True) if named else None
        found = survey_dataset(dataset, photos, architecture, reporter, images)
    path = None if no_sheet or not found.tiles else sheet or Path("out", f"{found.id}-sheet.png")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as stream:
            stream.write(draw_sheet(found.tiles, found.data))
    if as_json:
        print_json({**found.to_json(), "sheet": path})
    else:
        show(found)
        print_text(f"Wrote {path}." if path else _no_sheet(found, no_sheet))
    found.raise_for_faults()


def show(found: Survey) -> None:
    """Print the numbers of scenes, classes and sizes, and what is wrong."""
    splits = list(found.scenes)
    rows: list[list[Any]] = [["all", *(f"{count:,}" for count in found.scenes.values())]]
    if len(found.classes) <= _MOST_CLASSES:
        rows += [[label, *(counts[split] for split in splits)] for label, counts in found.classes.items()]
    print_table(["class" if found.classes else "scenes", *splits], rows, right=splits)
    if len(found.classes) > _MOST_CLASSES:
        per_class = sorted(sum(counts.values()) for counts in found.classes.values())
        print_text(
            f"{len(found.classes)} classes with {per_class[0]} to {per_class[-1]} images each; --json has all."
        )
    if found.sizes:
        common = [f"{w}x{h} ({count:,})" for (w, h), count in found.sizes.most_common(_MOST_SIZES)]
        more = len(found.sizes) - len(common)
        print_text(f"Sizes: {', '.join(common)}{f' and {more:,} more' if more > 0 else ''}")
    for note in found.notes:
        print_text(note)
    _print_named("Damaged", [f"{name}: {fault}" for name, fault in found.faults.items()])
    _print_named(
        "Warning: a test image is in training too",
        [f"{test} is {train}" for test, train in found.twice.items()],
    )
    if found.checked:
        print_text("The data suits the network.")


def _print_named(what: str, lines: list[str]) -> None:
    print_text(*(f"{what}: {line}" for line in lines[:_MOST_NAMED]))
    if len(lines) > _MOST_NAMED:
        print_text(f"... and {len(lines) - _MOST_NAMED:,} more; --json has all.")


def _no_sheet(found: Survey, no_sheet: bool) -> str:
    if no_sheet:
        return "Drew no contact sheet."
    return f"Name a network to see samples of {found.id}:  zoo data '{found.data}' NETWORK"
