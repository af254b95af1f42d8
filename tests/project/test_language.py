"""What a user reads keeps to the glossary of CONTRIBUTING.md: pages, help texts, and the messages of errors."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from zoo_cli.main import COMMANDS, cli

ROOT = Path(__file__).resolve().parents[2]

#: What a user reads: pages, and the packages whose messages and help texts are shown.
PAGES = ["*.md", "docs/**/*.md", "examples/*.md", "plugins/*/*.md", "tests/**/*.md"]
PACKAGES = ["cli", "zoo", "techniques", "plugins"]

#: What is not written, as a regular expression, and what to write.
FORBIDDEN = {
    r"(?<!there )\b(is|are) no (?!more|less|longer|\w+er than\b)(?=\w)": "is not a, has no",
    r"\banew\b": "again",
    r"\b(whence|thereof|whereof|wherein|therein)\b": "where ... from, of it, in which",
    r"\bshall\b": "should, must",
    r"\bnor (are|is|do|does|has|have|can)\b": "neither are, and ... not ... either",
    r"\bof which (the|a|an|some|it|they|nobody|each)\b": "whose",
    r"\bso (many|much|long)(?!( \w+)? (as|that)\b)": "that many, N",
    r"\bin turns\b": "interleaved, alternating",
    r"\bwhat (it|they|that|this|he|one|the \w+) (gives?|gave|takes)\b": "its result, its input",
    r"\bmend(s|ed|ing)?\b": "repair, fix",
    r"\btells? (of|about|what|how|which|whether|the|its)\b": "show, report, say",
    r"\b(make|makes|made|making) good\b": "compensate for",
    r"\bbut for\b": "except",
    r"\b(goes|go|went|going) on (where|with|from|at|to)\b": "continue",
    r"\bbeside\b": "next to, in addition to",
    r"\b\d+ \w+s an? (stage|list|step|channel|image|side|row|layer|file)\b": "per",
    r"\b(a|an|one) (row|value|line|number|test|file|module) an? \w+": "one ... per ...",
    r"\bat hand\b": "available, this machine",
    r"\bto be had\b": "available",
}
_BLOCK = re.compile(r"^( *)```.*?^\1```$", re.DOTALL | re.MULTILINE)
#: Code, and words in italics, which the glossary quotes.
_QUOTED = re.compile(r"`[^`\n]*`|(?<!\*)\*[^*\n]+\*(?!\*)")


def slips(text: str, where: str) -> list[str]:
    """Return one line for each forbidden construction in `text`."""
    flat = " ".join(text.split())
    return [
        f"{where}: '...{flat[max(0, found.start() - 30) : found.end() + 30]}...' (write: {instead})"
        for pattern, instead in FORBIDDEN.items()
        for found in re.finditer(pattern, flat, re.IGNORECASE)
    ]


def pages() -> list[Path]:
    return sorted({page for pattern in PAGES for page in ROOT.glob(pattern)})


def messages(source: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and text of every message in `source`: of errors, hints and notes."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Call) and _speaks_to_the_user(node.func):
            for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
                if text := _literal(argument):
                    yield argument.lineno, text


def _speaks_to_the_user(function: ast.expr) -> bool:
    name = getattr(function, "attr", getattr(function, "id", ""))
    return name.endswith("Error") or name in ("note", "print_text", "skip_layer", "leave", "option")


def _literal(node: ast.expr) -> str:
    """Return the text of a string expression, with X for what is filled in; "" if it is not one."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_literal(part) or "X" for part in node.values)
    if isinstance(node, ast.BinOp):
        return _literal(node.left) + _literal(node.right)
    if isinstance(node, ast.IfExp):
        return f"{_literal(node.body)} | {_literal(node.orelse)}"
    return ""


def helps(command: click.Command) -> Iterator[str]:
    """Yield every text of `command --help`, and of its sub-commands."""
    yield from filter(None, (command.help, command.short_help, command.epilog))
    for parameter in command.params:
        yield getattr(parameter, "help", "") or ""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            yield from helps(each)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_keep_to_the_glossary(page: Path) -> None:
    prose = _QUOTED.sub("X", _BLOCK.sub("", page.read_text()))
    assert slips(prose, page.name) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_texts_keep_to_the_glossary(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert slips(" \n ".join([COMMANDS[name], *helps(command)]), f"zoo {name} --help") == []


@pytest.mark.parametrize("package", PACKAGES)
def test_messages_keep_to_the_glossary(package: str) -> None:
    sources = sorted((ROOT / package).rglob("*.py"))
    assert sources
    found = [
        slip
        for source in sources
        for line, text in messages(source)
        for slip in slips(text, f"{source.relative_to(ROOT)}:{line}")
    ]
    assert found == []


def test_slips_are_found() -> None:
    assert slips("It is no folder.", "here")
    assert slips("The scene of which the name is known, built anew.", "here")
    assert slips("There is no such file, and it is no longer there; none of which matters.", "here") == []
