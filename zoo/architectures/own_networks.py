"""Names of networks of the user's own, ``path/to/module.py:factory`` and ``path/to/model.onnx``, with their options."""

from __future__ import annotations

import re
from collections.abc import Sequence

from zoo.errors import UsageError
from zoo.recipes.grammar import Stage, parse_stage

_FORM = re.compile(
    r"(?P<network>.+\.py:[A-Za-z_]\w*|.+\.onnx)\s*(?P<options>\(.*\))?", re.DOTALL | re.IGNORECASE
)


def with_specs(name: str, takes: str, gives: str) -> str:
    """Return `name` with the values of ``--input`` and ``--output`` added to its options.

    Args:
        name: A network, such as ``path/to/module.py:factory`` or ``path/to/model.onnx``.
        takes: The value of ``--input``, "" for none.
        gives: The value of ``--output``, "" for none.

    Raises:
        UsageError: The network defines its own input and output, or one is stated twice.
    """
    said = {key: text for key, text in (("input", takes), ("output", gives)) if text}
    if not said:
        return name
    form = _FORM.fullmatch(name)
    if form is None:
        raise UsageError(
            f"'{name}' defines its own input and output.",
            hint="--input and --output are for networks of your own, as in ./mynet.py:make_net or ./model.onnx",
        )
    stage = parse_stage(f"network{form['options'] or ''}", "network")
    twice = sorted(said.keys() & stage.option_map.keys())
    if twice:
        raise UsageError(
            f"The {twice[0]} of {form['network']} is stated twice, as an option and by --{twice[0]}."
        )
    options = str(Stage.of("network", {**stage.option_map, **said})).removeprefix("network")
    return f"{form['network']}{options}"


def with_specs_of_files(names: Sequence[str], takes: str, gives: str) -> tuple[str, ...]:
    """Return names of artifacts, with the values of ``--input`` and ``--output`` added to those of ONNX files.

    Raises:
        UsageError: None is an ONNX file, or one states the same itself.
    """
    form = re.compile(r".+\.onnx\s*(\(.*\))?", re.DOTALL | re.IGNORECASE)
    files = [form.fullmatch(name) is not None for name in names]
    if (takes or gives) and not any(files):
        raise UsageError(
            f"'{names[0]}' is not an ONNX file.",
            hint="--input and --output are for ONNX files, as in ./model.onnx",
        )
    return tuple(
        with_specs(name, takes, gives) if is_file else name
        for name, is_file in zip(names, files, strict=True)
    )
