"""Which Python files a recipe file would have executed."""

from __future__ import annotations

import re

from zoo.errors import UsageError
from zoo.recipes.recipe_toml import RecipeFile

#: A file and what is taken from it, as in ``./net.py:make``, wherever it stands in a value.
_REFERENCE = re.compile(r"[^\s(),=\[\]\"']+\.py(?=:[A-Za-z_])")
#: Where one ends, whatever the file is called.
_ANY = re.compile(r"\.py(?=:[A-Za-z_])")


def code_files(file: RecipeFile) -> tuple[str, ...]:
    """Return the Python files that applying a recipe file executes: networks, teachers and datasets of one's own."""
    options = (value for stage in file.recipe.stages for value in stage.option_map.values())
    texts = [file.architecture or "", file.data or "", file.weights or "", *map(str, options)]
    found: list[str] = []
    for text in texts:
        names = _REFERENCE.findall(text)
        # A name may hold what elsewhere separates names: then the whole value is meant.
        found += names if len(names) == len(_ANY.findall(text)) else [text]
    return tuple(dict.fromkeys(found))


def refuse_untrusted_code(file: RecipeFile, named: str = "") -> None:
    """Refuse a recipe file that would have code executed which the user did not name.

    Args:
        file: The recipe file.
        named: What the user typed besides; a file that it names is meant.

    Raises:
        UsageError: The recipe file names Python files.
    """
    unnamed = [path for path in code_files(file) if path not in named]
    if unnamed:
        raise UsageError(
            f"The recipe file would execute Python code: {', '.join(unnamed)}.",
            hint="Read the code first. If you trust it, add --trust-code (in Python: trust_code=True).",
        )
