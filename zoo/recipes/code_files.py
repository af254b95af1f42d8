"""Which Python files a recipe file would have executed."""

from __future__ import annotations

import re

from zoo.errors import UsageError
from zoo.recipes.recipe_toml import RecipeFile

#: A file and what is taken from it, as in ``./net.py:make``, wherever it stands in a value.
_REFERENCE = re.compile(r"[^\s(),=\[\]\"']+\.py(?=:[A-Za-z_])")


def code_files(file: RecipeFile) -> tuple[str, ...]:
    """Return the Python files that applying a recipe file executes: networks, teachers and datasets of one's own."""
    options = (value for stage in file.recipe.stages for value in stage.option_map.values())
    texts = [file.architecture or "", file.data or "", file.weights or "", *map(str, options)]
    found = (match[0] for text in texts for match in _REFERENCE.finditer(text))
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
