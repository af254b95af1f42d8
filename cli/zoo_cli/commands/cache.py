"""`zoo cache`: list, verify and prune pulled checkpoints."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import click

from zoo.errors import IntegrityError
from zoo.formatting import scaled
from zoo.progress import progress
from zoo_cli.output import json_option, print_json, print_table, print_text

if TYPE_CHECKING:
    from zoo.checkpoints.listing import CachedCheckpoint, Leftover


@click.group(name="cache")
def command() -> None:
    """List, verify or prune the checkpoints that zoo pull keeps."""


@command.command(name="list")
@json_option
def list_(as_json: bool) -> None:
    """List the checkpoints in the cache with their sizes and when they were last used."""
    from zoo.checkpoints.listing import cached_checkpoints, leftovers
    from zoo.storage.cache_dir import cache_dir

    checkpoints, others = cached_checkpoints(), leftovers()
    if as_json:
        print_json(
            {
                "cache": cache_dir(),
                "checkpoints": [_record(each) for each in checkpoints],
                "others": others,
                "size": sum(each.size for each in checkpoints) + sum(each.size for each in others),
            }
        )
        return
    rows = [
        (
            each.id,
            scaled(each.size, "B"),
            _ago(each.used),
            "all" if each.whole else "for a device",
            _origin(each),
        )
        for each in checkpoints
    ]
    print_table(("CHECKPOINT", "SIZE", "LAST USE", "FILES", "FROM"), rows, right=("SIZE",))
    if others:
        size = scaled(sum(each.size for each in others), "B")
        kinds = ", ".join(
            f"{what} ({count})" for what, count in Counter(each.what for each in others).items()
        )
        print_text(f"Also, {size}: {kinds}", "  Remove them with:  zoo cache prune")
    print_text(f"In {cache_dir()}")


@command.command()
@json_option
def verify(as_json: bool) -> None:
    """Read every file and compare its sha256; move damaged checkpoints to quarantine.

    The exit code is 4 if any is damaged.
    """
    from zoo.checkpoints.listing import cached_checkpoints
    from zoo.checkpoints.pruning import verify

    with progress() as reporter:
        reporter.start("verify", sum(each.size for each in cached_checkpoints()), "B")
        checked = verify(reporter.advance)
        reporter.finish()
    damaged = [each for each in checked if each.problem]
    if as_json:
        print_json(
            [
                {**_record(each.cached), "problem": each.problem or None, "moved": each.moved}
                for each in checked
            ]
        )
    else:
        for each in damaged:
            print_text(f"{each.cached.id}: {each.problem}", f"  It was moved to {each.moved}")
        print_text(f"{len(checked) - len(damaged)} of {len(checked)} checkpoints are intact.")
    if damaged:
        names = ", ".join(each.cached.id for each in damaged[:5])
        raise IntegrityError(
            f"{len(damaged)} checkpoints in the cache are damaged: {names}.",
            hint=f"Fetch those that you need again:  zoo pull {damaged[0].cached.id}",
        )


@command.command()
@click.option(
    "--unused",
    type=click.FloatRange(0),
    metavar="DAYS",
    help="Also remove checkpoints not used for this many days.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@json_option
def prune(unused: float | None, dry_run: bool, as_json: bool) -> None:
    """Remove partial downloads, and checkpoints that are damaged, replaced by a newer version or unlisted."""
    from zoo.checkpoints.pruning import forget_missing, prunable, remove

    items = prunable(unused)
    removed = items if dry_run else [item for item in items if remove(item)]
    if not dry_run:
        forget_missing()
    size = sum(item.size for item in removed)
    if as_json:
        print_json({"dry_run": dry_run, "size": size, "removed": [_removed(item) for item in removed]})
        return
    done = "Would remove" if dry_run else "Removed"
    for item in removed:
        print_text(f"{done} {_removed(item)['what']} {item.path} ({scaled(item.size, 'B')})")
    print_text(f"{done} {len(removed)} items, {scaled(size, 'B')}.")


def _record(each: CachedCheckpoint) -> dict[str, object]:
    return {
        "id": each.id,
        "path": each.path,
        "pinned": each.pinned,
        "registry": each.registry or None,
        "current": each.current,
        "whole": each.whole,
        "size": each.size,
        "last_use": None if each.used is None else round(each.used),
    }


def _removed(item: CachedCheckpoint | Leftover) -> dict[str, object]:
    what = getattr(item, "what", None) or f"checkpoint {getattr(item, 'id', '')}"
    return {"what": what, "path": item.path, "size": item.size}


def _origin(each: CachedCheckpoint) -> str:
    from zoo.registry.installed import registry_file

    if each.registry is None:
        return "unlisted"
    if each.registry == str(registry_file()):
        return "built-in"
    return each.registry or "unpinned"


def _ago(when: float | None) -> str:
    """``today``, ``3 days ago``."""
    if when is None:
        return "unknown"
    days = int((time.time() - when) // 86_400)
    return "today" if days < 1 else f"{days} day{'s' if days > 1 else ''} ago"
