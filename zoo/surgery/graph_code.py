"""Code of traced graphs that finds modules by any name.

Keys of nn.ModuleDict need not be names in Python: "in" and "out" are common ones.
"""

from __future__ import annotations

import keyword
from typing import Any
from unittest import mock

from torch import fx
from torch.fx.graph import CodeGen, PythonCode


class AnyNameCodeGen(CodeGen):
    """Writes the code of a graph, as torch.fx does, with getattr() for modules whose names are no identifiers."""

    def _gen_python_code(self, *args: Any, **kwargs: Any) -> PythonCode:
        with mock.patch.object(fx.graph, "_format_target", _reach):
            return super()._gen_python_code(*args, **kwargs)


def _reach(base: str, target: str) -> str:
    """Return an expression for what is at a dotted path of `base`."""
    for name in target.split("."):
        plain = name.isidentifier() and not keyword.iskeyword(name)
        base = f"{base}.{name}" if plain else f"getattr({base}, {name!r})"
    return base
