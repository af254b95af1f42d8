"""``python -m zoo.registry ARTIFACT ID`` prints the registry entry of an artifact folder."""

from __future__ import annotations

import sys
from pathlib import Path

from zoo.artifacts import open_artifact
from zoo.errors import ZooError
from zoo.registry.entry import entry_for


def main(arguments: list[str]) -> int:
    """Print the entry of an artifact and return the exit code."""
    if len(arguments) not in (2, 3):
        sys.stderr.write("usage: python -m zoo.registry ARTIFACT ID [SUMMARY]\n")
        return 2
    try:
        entry = entry_for(open_artifact(Path(arguments[0])), *arguments[1:])
    except ZooError as error:
        sys.stderr.write(f"Error: {error}\n")
        return error.exit_code
    sys.stdout.write(entry)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
