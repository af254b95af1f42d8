"""`zoo survey`: ask people which picture looks best."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.progress import progress
from zoo_cli.output import json_option, print_json, print_note, print_table, print_text, quiet_stdout

if TYPE_CHECKING:
    from zoo.survey.survey_report import SurveyReport

_FOLDER = click.Path(path_type=Path)


@click.group()
def command() -> None:
    """Ask people which picture looks best.

    Make a page with `new`, give it to judges or serve it with `serve`, and count their answers with `report`.
    """


@command.command("new")
@click.argument("folders", nargs=-1, required=True, type=_FOLDER)
@click.option("-o", "--out", default="out/survey", show_default=True, type=_FOLDER, help="Folder to write.")
@click.option("--photos", type=_FOLDER, help="Folder of reference pictures, for PSNR and SSIM in the report.")
@click.option(
    "--pairs", default=60, show_default=True, type=click.IntRange(1, 2000), help="Most pairs to ask about."
)
@click.option(
    "--repeats",
    default=6,
    show_default=True,
    type=click.IntRange(0, 200),
    help="Pairs to ask each judge twice.",
)
@click.option(
    "--crop", default=400, show_default=True, type=click.IntRange(32, 2000), help="Side of a crop in pixels."
)
@click.option("--title", default="Which picture looks better?", show_default=True, help="The question.")
@click.option("--seed", default=0, show_default=True, help="Of the choice of pairs.")
@click.option("--overwrite", is_flag=True, help="Replace an existing survey.")
@json_option
def new(
    folders: tuple[Path, ...],
    out: Path,
    photos: Path | None,
    pairs: int,
    repeats: int,
    crop: int,
    title: str,
    seed: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Make a survey of the pictures that have the same name in all FOLDERS, one folder for each method.

    The page shows blind pairs in random order, at 100 %, where the methods differ most; some pairs come twice. It is
    one file that needs no server and names no method.
    """
    from zoo.survey.new_survey import PAGE_NAME, make_survey
    from zoo.survey.survey_key import KEY_NAME

    with quiet_stdout(as_json), progress() as reporter:
        made = make_survey(
            folders, out, photos=photos, side=crop, most=pairs, repeats=repeats, seed=seed, title=title,
            replace=overwrite, reporter=reporter,
        )  # fmt: skip
    page = out / PAGE_NAME
    if as_json:
        print_json({"page": page, "key": out / KEY_NAME, "pairs": len(made.key.pairs), "bytes": made.bytes})
        return
    print_text(
        f"{page}: {len(made.key.pairs)} pairs of {', '.join(made.key.methods)}, {made.bytes / 1e6:.1f} MB",
        f"Keep {out / KEY_NAME} to yourself: it says which picture is whose.",
        f"Send the page to judges, or:  zoo survey serve {out}",
    )


@command.command("serve")
@click.argument("folder", type=_FOLDER)
@click.option("--answers", type=_FOLDER, help="Folder to write answers to [FOLDER-answers].")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 for any."
)
def serve(folder: Path, answers: Path | None, host: str, port: int) -> None:
    """Serve the survey in FOLDER, and write the answers that come in.

    Nothing about judges is kept but their choices. Ctrl-C ends it.
    """
    from zoo.survey.server import SurveyServer

    kept = answers or folder.with_name(f"{folder.name}-answers")
    with SurveyServer(folder, kept, host, port) as server:
        print_text(f"http://{host}:{server.server_address[1]}/  answers go to {kept}; Ctrl-C ends it.")
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


@command.command("report")
@click.argument("answers", nargs=-1, required=True, type=_FOLDER)
@click.option(
    "--survey", "folder", default="out/survey", show_default=True, type=_FOLDER, help="The survey's folder."
)
@click.option("--plot", type=_FOLDER, help="SVG file for the plot.")
@json_option
def report(answers: tuple[Path, ...], folder: Path, plot: Path | None, as_json: bool) -> None:
    """Count ANSWERS, files that judges sent back or folders of them.

    Scores are those of the Bradley-Terry model, with 95 % intervals: a lead of 1 wins 73 % of the comparisons.
    """
    from zoo.storage.atomic import check_suffix, write_bytes_atomic
    from zoo.survey.answers import read_answers
    from zoo.survey.survey_key import read_key
    from zoo.survey.survey_report import draw_scores, make_report

    if plot is not None:
        check_suffix(plot, ".svg", "The plot is an SVG file", "survey.svg")
    key = read_key(folder)
    found = make_report(key, read_answers(answers, key))
    if plot is not None:
        write_bytes_atomic(plot, draw_scores(found).encode())
    if as_json:
        print_json(found.to_json())
    else:
        _show(found)
        if plot is not None:
            print_note(f"wrote {plot}")


def _show(found: SurveyReport) -> None:
    rows = [
        [
            name,
            f"{score.value:+.2f}",
            f"{score.low:+.2f} to {score.high:+.2f}",
            f"{sum(found.wins[name].values()):g}",
        ]
        for name, score in found.scores.items()
    ]
    print_table(["method", "score", "95 %", "wins"], rows, right=["score", "wins"])
    rows = [
        [
            judge.judge[:6],
            str(judge.answers),
            f"{judge.consistent} of {judge.repeated}",
            "" if judge.left is None else f"{100 * judge.left:.0f} %",
        ]
        for judge in found.judges
    ]
    print_table(["judge", "answers", "repeats alike", "left"], rows, right=["answers"])
    for name, each in found.agreement.items():
        if each.of:
            share = 100 * each.agreed / each.of
            print_text(f"{name} agrees with {share:.0f} % of {each.of} choices.")
