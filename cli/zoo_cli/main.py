"""The `zoo` command, which finds the sub-command and turns every error into a message and an exit code."""

from __future__ import annotations

import atexit
import contextlib
import errno
import importlib
import io
import itertools
import json
import os
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

import click

import zoo
from zoo.errors import InputError, IntegrityError, OutputError, ZooError
from zoo.formatting import printable
from zoo.suggest import did_you_mean

#: One line about each sub-command; the command itself is `command` in zoo_cli.commands.NAME.
COMMANDS = {
    "train": "Train an architecture as it is, for recipes to start from.",
    "apply": "Compress a network with a recipe, train, export and measure it.",
    "search": "Find the best recipes under a budget.",
    "explain": "Show what rounding does to each tensor of an artifact.",
    "data": "Show what a dataset holds, and a contact sheet.",
    "eval": "Measure the quality of an artifact on a dataset.",
    "run": "Turn RAW files into images with an artifact; needs no torch.",
    "pull": "Fetch a published checkpoint.",
    "cache": "List, verify or prune pulled checkpoints.",
    "publish": "Publish an artifact on the Hub, with its card and registry entry.",
    "list": "List architectures, techniques, engines, datasets, ...",
    "info": "Show details of one architecture, technique, checkpoint, ...",
    "techniques": "List techniques and how they combine.",
    "plugins": "List installed plugins, or check that they load.",
    "plugin": "Create a plugin package of your own.",
    "bench": "Compare the speed of artifacts on this machine.",
    "survey": "Ask people which picture looks best.",
    "doctor": "Check this machine: board, memory, engines, missing packages.",
}

EXIT_BUG = 70  #: EX_SOFTWARE of sysexits.h
EXIT_INTERRUPTED = 130  #: 128 + SIGINT, as shells report it
EXIT_BROKEN_PIPE = 141  #: 128 + SIGPIPE, as shells report it

#: Commands that compute networks, which may be a stranger's, in their own process.
_APART = ("apply", "bench", "data", "eval", "explain", "info", "search", "train")
#: Of the memory of this machine, so much may be theirs.
_SHARE = 0.9
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class LazyGroup(click.Group):
    """A group that imports the module of a sub-command only when that sub-command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"zoo_cli.commands.{name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(
                f"No such command '{args[0]}'{did_you_mean(args[0], COMMANDS) or '.'}", ctx
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(zoo.__version__, prog_name="zoo", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show tracebacks (also: ZOO_DEBUG=1).")
@click.pass_obj
def cli(settings: dict[str, bool], debug: bool) -> None:
    """Compose compression techniques for neural networks, and run the result on small boards.

    A recipe such as  depthwise+qat(bits=8)  names techniques in order:  zoo apply depthwise+qat unet
    """
    settings["debug"] = settings["debug"] or debug


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line `args` (default: of the process); return the exit code."""
    if "_ZOO_COMPLETE" in os.environ:  # a shell asks for completions; click answers and exits
        cli.main(prog_name="zoo")
    given = list(sys.argv[1:] if args is None else args)
    settings = {"debug": os.environ.get("ZOO_DEBUG", "") not in ("", "0"), "printed": False}
    as_json = "--json" in itertools.takewhile(lambda each: each != "--", given)
    _prepare_streams()
    try:
        with cli.make_context("zoo", given, obj=settings) as context:
            cli.invoke(context)
        sys.stdout.flush()  # while an error can still be reported
        return 0
    except Exception as error:
        if settings["debug"] and not isinstance(error, (click.exceptions.Exit, click.ClickException)):
            _print_traceback()
        return _report(error, as_json=as_json and not settings["printed"])
    except KeyboardInterrupt:
        return _report(click.Abort(), as_json=as_json and not settings["printed"])


def program() -> NoReturn:
    """Run the command line of the process `zoo`, and end it."""
    from zoo.processes.fork import can_fork

    command = next((each for each in sys.argv[1:] if not each.startswith("-")), "")
    code = _apart() if command in _APART and can_fork() else main()
    if "torch" in sys.modules or threading.active_count() > 1:
        sys.exit(code)
    # Taking the interpreter and an engine apart, piece by piece, would be a tenth of a small `zoo run`.
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


# --------------------------------------------------------------------------------------------------- details


def _apart() -> int:
    """Run the command line in a copy of this process, which the network that it computes may crash, hang or fill."""
    import signal

    from zoo.devices.host import usable_memory
    from zoo.processes.fork import run_in_copy
    from zoo.processes.process_tree import held_by_tree

    most = round(_SHARE * usable_memory())
    try:
        status = run_in_copy(main, lambda process: held_by_tree(process) > most)
    except MemoryError:
        what = f"The network takes more than {most // 10**6} MB, the memory that this machine has for it."
    else:
        if status >= 0:
            return status
        if -status == signal.SIGINT:
            return _report(click.Abort(), as_json="--json" in sys.argv)
        if -status == signal.SIGTERM:  # somebody wished so
            return 128 - status
        if -status == signal.SIGKILL:
            what = "The network had its process killed, mostly because memory ran out."
        elif -status == signal.SIGALRM:
            what = "The network computed for longer than its size explains, and was stopped."
        else:
            what = f"The network makes its engine crash ({signal.Signals(-status).name})."
    return _report(IntegrityError(what), as_json="--json" in sys.argv)


def _prepare_streams() -> None:
    """Keep printing from failing, whether because a stream is closed or because it lacks a character."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


def _report(error: Exception, *, as_json: bool) -> int:
    """Report an error to the user, with `as_json` as a document on standard output too; return its exit code."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        _discard_stdout()
        return EXIT_BROKEN_PIPE
    if isinstance(error, OSError) and error.errno in _FULL:
        _discard_stdout()
        _say(f"Error: the output cannot be written: {error.strerror}.")
        return OutputError.exit_code
    message, hint, code = _described(error)
    if isinstance(error, click.ClickException):
        shown = io.StringIO()
        error.show(file=shown)  # what was typed may be from outside
        _say(shown.getvalue().rstrip("\n"))
    elif isinstance(error, click.Abort):
        _say(message)
    else:
        _say(f"Error: {message}" if hint is None else f"Error: {message}\n{hint}")
    if as_json:
        with contextlib.suppress(OSError, ValueError):  # standard output may be closed or full
            print(json.dumps({"error": message, "hint": hint, "exit_code": code}, indent=2), flush=True)  # noqa: T201
    return code


def _described(error: Exception) -> tuple[str, str | None, int]:
    """Return the message, the hint and the exit code of an error."""
    if isinstance(error, click.ClickException):
        return error.format_message(), None, error.exit_code
    if isinstance(error, click.Abort):
        return "Interrupted.", None, EXIT_INTERRUPTED
    if isinstance(error, ZooError):
        return error.message, error.hint, error.exit_code
    if isinstance(error, MemoryError):
        return "not enough memory for this.", None, ZooError.exit_code
    if isinstance(error, OSError) and error.errno == errno.EIO:  # of zoo's own files, or a library's, too
        where = f" of {error.filename}" if error.filename else ""
        return f"a disk reported an input/output error{where}.", None, InputError.exit_code
    report = "This is a bug in zoo or in a plugin. Please report it with the output of:  zoo --debug ..."
    return f"{type(error).__name__}: {error}", report, EXIT_BUG


def _say(message: str) -> None:
    """Print to standard error."""
    with contextlib.suppress(
        OSError, ValueError
    ):  # if standard error is closed, the exit code still reports it
        print(printable(message), file=sys.stderr, flush=True)  # noqa: T201


def _print_traceback() -> None:
    import traceback

    _say(traceback.format_exc().rstrip())


def _discard_stdout() -> None:
    """Discard standard output, which nobody reads any more, so that the interpreter does not fail on it."""
    with contextlib.suppress(OSError, ValueError):  # it may not be a file, and then there is nothing to flush
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
