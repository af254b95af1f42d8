"""The tables of README.md from results/*.jsonl.

python docs/benchmarks/breadth/report.py            print them
python docs/benchmarks/breadth/report.py --write    put them into README.md
python docs/benchmarks/breadth/report.py --failed   print every failure with its reason
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from marked import put_table  # noqa: E402
from nets import names  # noqa: E402
from run import builtin, done  # noqa: E402

OUTCOMES = ("pass", "nothing", "refused", "unsteady", "failed")
Results = dict[str, dict[str, dict[str, Any]]]


def results() -> Results:
    """By network, then by recipe; networks that do not export as they are left out."""
    found = {net: done(net) for net in names()}
    return {net: records for net, records in found.items() if records.get("", {}).get("outcome") == "pass"}


def tables(found: Results) -> str:
    """Markdown: singles, then pairs."""
    tried = [net for net in names() if done(net)]
    libraries = sorted({_library(net) for net in names()}, reverse=True)
    shares = [
        f"{_of(library, tried)} of the {_of(library, names())} networks of {library}" for library in libraries
    ]
    parts = [
        f"{' and '.join(shares)} were tried; {len(found)} of these export and run as they are, and the tables are "
        "about them.",
        "### Single techniques",
        _table(found, builtin()),
        _total(found, builtin(), "single techniques"),
    ]
    pairs = sorted({recipe for records in found.values() for recipe in records if "+" in recipe})
    if pairs:
        parts += ["### Pairs", _matrix(found, pairs), _total(found, pairs, "pairs")]
    parts += [
        "### Where there is nothing to do",
        _reasons(found, "nothing"),
        "### Why refused",
        _reasons(found, "refused"),
        "### Where the network is unsteady",
        _listed(found, "unsteady"),
        "### Why failed",
        _listed(found, "failed"),
        "### What does not run as it is",
        _listed({net: {"": done(net)[""]} for net in tried if net not in found}, "refused", "failed"),
    ]
    return "\n\n".join(parts)


def _table(found: Results, recipes: list[str]) -> str:
    rows = [
        "| technique | networks | pass | nothing to do | refused | unsteady | failed | pass, nothing or refused |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for recipe in recipes:
        counts = _counts(found, [recipe])
        total = sum(counts.values())
        if total:
            cells = " | ".join(str(counts[outcome]) for outcome in OUTCOMES)
            good = total - counts["failed"] - counts["unsteady"]
            rows.append(f"| `{recipe}` | {total} | {cells} | {good / total:.1%} |")
    return "\n".join(rows)


def _matrix(found: Results, pairs: list[str]) -> str:
    """Passed of tried, the first technique on the left, the second above."""
    seconds = sorted({pair.split("+")[1] for pair in pairs})
    rows = ["| | " + " | ".join(f"`{each}`" for each in seconds) + " |", "|---|" + "---:|" * len(seconds)]
    for first in sorted({pair.split("+")[0] for pair in pairs}):
        cells = []
        for second in seconds:
            counts = _counts(found, [f"{first}+{second}"])
            cells.append(f"{counts['pass']}/{sum(counts.values())}" if counts else "")
        rows.append(f"| `{first}` | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _library(net: str) -> str:
    return net.partition(":")[0]


def _of(library: str, nets: list[str]) -> int:
    return sum(_library(net) == library for net in nets)


def _listed(found: Results, *outcomes: str) -> str:
    """Each case with its reason."""
    rows = ["| network | recipe | reason |", "|---|---|---|"]
    rows += [
        f"| `{net}` | {f'`{recipe}`' if recipe else 'none'} | {record['why'][:200].replace('|', '/')} |"
        for net, records in found.items()
        for recipe, record in records.items()
        if record["outcome"] in outcomes
    ]
    return "\n".join(rows) if len(rows) > 2 else "None."


def _total(found: Results, recipes: list[str], what: str) -> str:
    counts = _counts(found, recipes)
    total = max(1, sum(counts.values()))
    return (
        f"All {what}: {total:,} cases, {counts['pass'] / total:.1%} pass, {counts['nothing'] / total:.1%} find nothing "
        f"to do, {counts['refused'] / total:.1%} refused with a reason, {counts['unsteady'] / total:.1%} unsteady, "
        f"{counts['failed'] / total:.1%} failed."
    )


def _counts(found: Results, recipes: list[str]) -> Counter[str]:
    return Counter(
        records[recipe]["outcome"] for records in found.values() for recipe in recipes if recipe in records
    )


def _reasons(found: Results, outcome: str) -> str:
    """How often each reason occurs, with the names of layers and networks left out."""
    reasons: Counter[tuple[str, str]] = Counter()
    for records in found.values():
        for recipe, record in records.items():
            if record["outcome"] == outcome:
                why = record["why"].removeprefix(f"{recipe}: ")
                why = re.sub(r"(cannot run|drop in|links in|channels in) \w+", r"\1 the network", why)
                why = re.sub(r"^\w+ has no", "the network has no", why)
                reasons[recipe, why.split(":")[0][:110].replace("|", "/")] += 1
    if not reasons:
        return "None."
    rows = ["| recipe | reason | networks |", "|---|---|---:|"]
    rows += [f"| `{recipe}` | {why} | {count} |" for (recipe, why), count in reasons.most_common(40)]
    return "\n".join(rows)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--failed", action="store_true")
    given = parser.parse_args()
    found = results()
    if given.failed:
        for net, records in found.items():
            for recipe, record in records.items():
                if record["outcome"] == "failed":
                    print(f"{net}  {recipe}: {record['why']}")
        return
    text = tables(found)
    if not given.write:
        print(text)
        return
    put_table(HERE / "README.md", "results", text)


if __name__ == "__main__":
    main()
