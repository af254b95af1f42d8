"""Fuzz one of the targets with atheris, which is led by what the code does: see README.md beside this file."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["zoo", "json", "tomllib"]):
    from targets import TARGETS, ZooError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--corpus", type=Path, required=True, help="Folder for interesting inputs, kept.")
    arguments, more = parser.parse_known_args()
    target = TARGETS[arguments.target]
    arguments.corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (arguments.corpus / f"seed-{number}").write_bytes(seed)

    def one(data: bytes) -> None:
        with contextlib.suppress(ZooError):
            target.run(data)

    atheris.Setup([sys.argv[0], str(arguments.corpus), *more], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
