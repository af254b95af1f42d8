"""The promises that plugins of several kinds share: what they declare, what their import costs, their options."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from zoo.contracts import CONTRACT_VERSION
from zoo.errors import UnknownIdError, ZooError
from zoo.extras import COMPRESS_PACKAGES
from zoo.options import format_options, format_value, options_of, parse_options
from zoo.recipes.grammar import Stage, parse_stage

_ID = re.compile(r"[a-z][a-z0-9-]{1,31}", re.ASCII)
_OWN_PACKAGES = ("zoo", "zoo_techniques")


class PluginChecks:
    """The promises of every plugin that is a class."""

    #: import names of packages that the plugin may import only where it needs them
    heavy: ClassVar[tuple[str, ...]] = COMPRESS_PACKAGES

    @classmethod
    def subject(cls) -> type[Any]:
        """Return the plugin's class."""
        raise NotImplementedError

    def test_it_states_the_contract_it_was_written_for(self) -> None:
        subject = self.subject()
        built_in = subject.__module__.partition(".")[0] in _OWN_PACKAGES
        assert "contract" in vars(subject) or built_in, (
            f"state it in the class itself:  contract = {CONTRACT_VERSION}"
        )
        assert subject.contract == CONTRACT_VERSION

    def test_it_has_an_id_and_a_summary_of_one_line(self) -> None:
        check_names(self.subject())

    def test_importing_it_is_cheap(self) -> None:
        loaded = loaded_by(f"import {self.subject().__module__}", self.heavy)
        assert not loaded, f"import these inside the methods: {', '.join(loaded)}"


class OptionChecks(PluginChecks):
    """The promises of every plugin with options: techniques and datasets."""

    options: ClassVar[dict[str, Any]] = {}

    @classmethod
    def made(cls) -> Any:
        """Return a configured instance."""
        subject = cls.subject()
        return subject(parse_options(subject.id, subject.Config, cls.options))

    def test_it_is_constructible_without_options(self) -> None:
        subject = self.subject()
        required = [each.name for each in options_of(subject.Config) if each.required]
        assert set(required) <= set(self.options), f"{required} need defaults"
        refusal = refusal_of(subject)
        # What needs to be told where its files are may refuse the defaults, but not by any error.
        assert refusal is None or self.options, str(refusal)

    def test_options_come_back_from_their_text(self) -> None:
        made = self.made()
        written = str(Stage.of(made.id, format_options(made.config)))
        read: Any = parse_options(made.id, made.Config, parse_stage(written).option_map)
        assert read == made.config

    def test_every_option_is_explained(self) -> None:
        bare = [each.name for each in options_of(self.subject().Config) if not each.help]
        assert not bare, f"give {bare} a help text:  zoo.options.option(default, help=...)"

    def test_an_unknown_option_is_refused_by_name(self) -> None:
        given = {**self.options, "no_such_option": "1"}
        refusal = refusal_of(lambda: parse_options(self.subject().id, self.subject().Config, given))
        assert isinstance(refusal, UnknownIdError), "it was accepted"
        assert "no_such_option" in refusal.message
        assert refusal.hint, "the next command to type is missing"


def as_text(options: Mapping[str, Any]) -> dict[str, str | tuple[str, ...]]:
    """Return option values as a recipe holds them; text stays as it is."""
    return {name: format_value(value) for name, value in options.items()}


def check_names(plugin: Any) -> None:
    """Assert that a plugin has an id that can be installed, and a summary of one line."""
    assert _ID.fullmatch(plugin.id.partition(":")[0]), f"{plugin.id!r} is not an id: 2 to 32 of a-z, 0-9, '-'"
    summary = plugin.summary
    assert summary.strip() == summary != ""
    assert "\n" not in summary, "the summary is one line"


def loaded_by(statements: str, packages: tuple[str, ...]) -> list[str]:
    """Return those of `packages` that a fresh Python process has imported after running `statements`."""
    code = f"import sys\n{statements}\nprint(*sorted({set(packages)!r} & sys.modules.keys()))"
    return _output_of(code).splitlines()[-1].split()


def in_another_process(code: str) -> str:
    """Return what `code` prints in a fresh Python process, whose `hash` of a text is another one."""
    return _output_of(code, "-R")


def _output_of(code: str, *flags: str) -> str:
    # The path of this process: a plugin's tests may run where the plugin is not installed.
    path = f"import sys; sys.path[:] = {sys.path!r}\n"
    done = subprocess.run(
        [sys.executable, *flags, "-c", path + code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusal_of(work: Callable[[], object]) -> ZooError | None:
    """Return the error that `work` is refused with, None if it is not refused."""
    try:
        work()
    except ZooError as error:
        return error
    return None
