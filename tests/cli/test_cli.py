"""The `zoo` command: quick to start, one exit code for each kind of failure, never a stray traceback."""

from __future__ import annotations

import ast
import importlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

import zoo
import zoo_cli.commands
from support import tiny
from support.fake_distributions import Result, install_technique, python
from zoo import errors, formatting, registry
from zoo.progress import progress
from zoo.progress.lines import LineReporter
from zoo.registry import installed
from zoo_cli import output
from zoo_cli.main import COMMANDS, EXIT_BROKEN_PIPE, EXIT_BUG, EXIT_INTERRUPTED, cli, main

HEAVY = ("torch", "numpy", "onnxruntime", "onnx", "rawpy", "PIL", "rich", "huggingface_hub", "entrypoints")

REGISTRY = """
format = 1
[checkpoint.lighter-unet]
summary = "a small net"
architecture = "unet"
recipe = "depthwise"
fingerprint = "sha256:{digest}"
sources = ["package"]
figures = {{ parameters = 1513812, gmacs = 1.999 }}
[checkpoint.lighter-unet.files]
"zoo.json" = {{ sha256 = "{digest}", size = 1500 }}
""".format(digest="a1" * 32)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Any:
    def run(*args: str) -> Result:
        capfd.readouterr()
        code = main(args)
        return Result(code, *capfd.readouterr())

    return run


@contextmanager
def command_that(monkeypatch: pytest.MonkeyPatch, action: Any) -> Iterator[None]:
    """``zoo list`` does `action` meanwhile: the way from a command's failure to the shell is what is tested."""
    with monkeypatch.context() as patch:
        patch.setattr("zoo_cli.commands.list.command", click.command()(action))
        yield


# ----------------------------------------------------------------------------------------------------- start


def test_importing_the_command_loads_nothing_heavy() -> None:
    program = f"import sys, zoo_cli.main; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    assert python("-c", program).out.strip() == "[]"


@pytest.mark.parametrize(
    ("args", "allowed"),
    [
        (("--help",), set()),
        (("list", "--json"), {"entrypoints", "numpy"}),  # which datasets and architectures import
        (("plugins", "--json"), {"entrypoints"}),
        (("techniques", "--matrix"), {"entrypoints"}),
        (("info", "qat"), {"entrypoints"}),
    ],
)
def test_a_command_loads_only_what_it_needs(args: tuple[str, ...], allowed: set[str]) -> None:
    program = (
        "import sys\nfrom zoo_cli.main import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    )
    loaded = set(ast.literal_eval(python("-c", program, *args).err.strip().splitlines()[-1]))
    assert loaded - allowed == set()


def test_everything_that_is_listed_has_a_summary(tmp_path: Path) -> None:
    info = install_technique(tmp_path, "zoo-fancy", "fancy", "raise SystemExit('imported')")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zoo-fancy\nVersion: 1.0\nSummary: fancier\n")
    program = ("-m", "zoo_cli", "list")
    listed = python(*program, "--json", path=(tmp_path,)).json
    rows = {row["id"]: row["summary"] for kind in listed.values() for row in kind}
    assert [name for name, summary in rows.items() if not summary] == []
    assert rows["fancy"] == "fancier"
    shown = python(*program, path=(tmp_path,)).out
    assert shown.count("SUMMARY") == len(listed)
    assert all(rows[name] in shown for name in ("qat", "unet", "onnxruntime", "fancy"))


def test_help_shows_every_command_without_importing_one() -> None:
    program = (
        "import sys\nfrom zoo_cli.main import main\ncode = main(['--help'])\n"
        "print(code, [name for name in sys.modules if name.startswith('zoo_cli.commands')], file=sys.stderr)"
    )
    done = python("-c", program)
    assert done.err.strip() == "0 []"
    for name, summary in COMMANDS.items():
        assert f"  {name} " in done.out
        assert summary in " ".join(done.out.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_listed_command_exists_and_has_help(run: Any, name: str) -> None:
    assert isinstance(importlib.import_module(f"zoo_cli.commands.{name}").command, click.Command)
    done = run(name, "--help")
    assert done.code == 0
    assert f"Usage: zoo {name}" in done.out


def test_every_command_module_is_listed() -> None:
    folder = Path(zoo_cli.commands.__file__).parent
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(COMMANDS)


def test_the_version_is_that_of_the_distribution() -> None:
    done = python("-m", "zoo_cli", "--version")
    assert (done.code, done.out) == (0, f"zoo {zoo.__version__}\n")


# ----------------------------------------------------------------------------------------------- exit codes


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("lsit",), "No such command 'lsit'; did you mean 'list'?"),
        (("list", "--jsno"), "--json"),
        (("list", "technique"), "techniques"),
        (("info",), "ID"),
        (("info", "unte"), "did you mean 'unet'"),
        (("info", "unet", "--kind", "techniques"), "'unet' is an architecture, not a technique"),
        ((), "Usage: zoo"),
    ],
)
def test_a_wrong_command_line_exits_with_2_and_helps(run: Any, args: tuple[str, ...], message: str) -> None:
    done = run(*args)
    assert done.code == 2
    assert message in done.err
    assert done.out == ""


@pytest.mark.parametrize(
    "kind",
    [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ZooError)],
)
def test_each_error_ends_with_its_message_its_hint_and_its_exit_code(
    run: Any, monkeypatch: pytest.MonkeyPatch, kind: type[errors.ZooError]
) -> None:
    def fail() -> None:
        raise kind("what is wrong", hint="what to type")

    with command_that(monkeypatch, fail):
        done = run("list")
    assert done.code == kind.exit_code
    assert done.err == "Error: what is wrong\nwhat to type\n"
    assert done.out == ""


def test_every_kind_of_error_but_usage_has_an_exit_code_of_its_own() -> None:
    direct = errors.ZooError.__subclasses__()
    codes = [kind.exit_code for kind in (errors.ZooError, *direct)]
    assert len(set(codes)) == len(codes)
    assert errors.UsageError.exit_code == 2


def test_an_unexpected_error_is_called_a_bug_and_shows_its_traceback_only_on_demand(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.delenv("ZOO_DEBUG", raising=False)
    with command_that(monkeypatch, fail):
        quiet = run("list")
        loud = run("--debug", "list")
        monkeypatch.setenv("ZOO_DEBUG", "1")
        louder = run("list")
    assert quiet.code == loud.code == louder.code == EXIT_BUG
    assert "ZeroDivisionError: division by zero" in quiet.err
    assert "bug" in quiet.err
    assert "Traceback" not in quiet.err
    assert "Traceback" in loud.err
    assert "in fail" in louder.err


def test_too_little_memory_is_no_bug(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise MemoryError

    with command_that(monkeypatch, fail):
        done = run("list")
    assert (done.code, done.err) == (1, "Error: not enough memory for this.\n")


def test_an_error_message_holds_no_control_characters(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise errors.InputError("no file \x1b[2J\x07 here")

    with command_that(monkeypatch, fail):
        done = run("list")
    assert "\x1b" not in done.err
    assert "\x07" not in done.err


def test_an_interrupt_ends_quickly_and_quietly_with_130(tmp_path: Path) -> None:
    program = (
        "import time\nfrom zoo_cli.main import main\nimport zoo_cli.commands.list as module, click, sys\n"
        "def wait():\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "module.command = click.command()(wait)\nsys.exit(main(['list']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell starts its background jobs with the interrupt ignored, and children would inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == EXIT_INTERRUPTED
    assert err == "Interrupted.\n"


@pytest.mark.parametrize("args", [("list", "--json"), ("--help",)])
def test_a_reader_that_goes_away_is_no_error(args: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "zoo_cli", *args],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (EXIT_BROKEN_PIPE, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("args", [("list", "--json"), ("--help",)])
def test_a_full_disk_behind_standard_output_is_an_output_error(args: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "zoo_cli", *args],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == errors.OutputError.exit_code
    assert done.stderr == "Error: the output cannot be written: No space left on device.\n"


def test_closed_standard_streams_do_not_confuse_it() -> None:
    command = f"{sys.executable} -m zoo_cli list --json <&- >&- 2>&-; echo $?"
    assert subprocess.run(["sh", "-c", command], capture_output=True, text=True).stdout == "0\n"


def test_a_shell_gets_completions() -> None:
    done = python("-m", "zoo_cli", _ZOO_COMPLETE="bash_source")
    assert "_ZOO_COMPLETE=bash_complete" in done.out
    done = python("-m", "zoo_cli", _ZOO_COMPLETE="bash_complete", COMP_WORDS="zoo te", COMP_CWORD="1")
    assert done.out == "plain,techniques\n"


# ---------------------------------------------------------------------------------------- list, info, ...


def test_list_shows_what_is_installed_by_kind(run: Any) -> None:
    listed = run("list", "--json").json
    assert list(listed) == [
        "architectures",
        "techniques",
        "tasks",
        "engines",
        "datasets",
        "devices",
        "checkpoints",
    ]
    assert {"unet", "light-unet", "lighter-unet", "unet-xtrans", "timm"} <= {
        each["id"] for each in listed["architectures"]
    }
    assert list(run("list", "techniques", "--json").json) == ["techniques"]
    text = run("list")
    assert text.code == 0
    for each in listed["architectures"]:
        assert f"{each['id']} " in text.out


@pytest.mark.parametrize(("architecture", "parameters"), [("unet", 7_760_748), ("lighter-unet", 1_513_812)])
def test_info_counts_the_parameters_of_an_architecture(run: Any, architecture: str, parameters: int) -> None:
    pytest.importorskip("torch")
    told = run("info", architecture, "--json").json
    assert (told["id"], told["kind"], told["parameters"]) == (architecture, "architecture", parameters)
    assert told["input"]["channels"] == 4


def test_info_counts_macs_for_a_512_by_512_raw(run: Any) -> None:
    pytest.importorskip("torch")
    told = run("info", "lighter-unet", "--json").json
    assert told["macs_input"] == [1, 4, 256, 256]
    assert round(told["macs"] / 1e9, 3) == 1.999
    assert "1,513,812" in run("info", "lighter-unet").out


def test_info_without_torch_tells_what_is_known_and_how_to_get_the_rest(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    done = run("info", "light-unet", "--json")
    assert done.code == 0
    assert done.json["parameters"] is None
    assert done.json["paper"]
    assert "pip install '.[compress]'" in done.err


def test_info_without_torch_quotes_the_published_checkpoint(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "registry.toml").write_text(REGISTRY)
    monkeypatch.setattr(installed, "PACKAGE", tmp_path / "zoo" / "registry")
    monkeypatch.setitem(sys.modules, "torch", None)
    registry.checkpoints.cache_clear()
    try:
        done = run("info", "lighter-unet", "--json")
        text = run("info", "lighter-unet").out
        listed = run("list", "checkpoints").out
    finally:
        registry.checkpoints.cache_clear()
    assert done.json["kind"] == "architecture"
    assert (done.json["parameters"], done.json["macs"]) == (1_513_812, 1_999_000_000)
    assert done.json["also"][0]["kind"] == "checkpoint"
    assert "those of the published checkpoint" in done.err
    assert "1.999 GMACs" in text
    assert "a small net" in listed
    assert "1.5 kB" in listed


def test_info_tells_the_options_of_a_technique(run: Any) -> None:
    told = run("info", "depthwise", "--json").json
    which = next(each for each in told["options"] if each["name"] == "which")
    assert which["default"] == "all"
    assert "second" in which["range"]
    assert told["phase"] == "structure"
    assert "which" in run("info", "depthwise").out


@pytest.mark.parametrize("kind", ["engines", "datasets", "devices", "checkpoints"])
def test_info_tells_of_everything_that_list_lists(run: Any, kind: str) -> None:
    for each in run("list", kind, "--json").json[kind]:
        told = run("info", each["id"], "--kind", kind, "--json")
        assert told.code == 0
        assert told.json["id"] == each["id"]
        assert told.json["kind"] == kind.removesuffix("s")


def test_the_matrix_shows_each_pair_once(run: Any) -> None:
    told = run("techniques", "--matrix", "--json").json
    ids = [each["id"] for each in told["techniques"]]
    pairs = {(each["first"], each["second"]): each["relation"] for each in told["matrix"]}
    assert pairs.keys() == {(first, second) for first in ids for second in ids}
    assert pairs["depthwise", "qat"] == "ordered"
    assert pairs["qat", "depthwise"] == "forbidden"
    row = next(
        line for line in run("techniques", "--matrix").out.splitlines() if line.startswith("depthwise")
    )
    assert "ordered" in row


def test_every_built_in_plugin_loads(run: Any) -> None:
    told = run("plugins", "--check", "--json").json["plugins"]
    assert {each["id"]: each["reason"] for each in told if each["builtin"] and each["state"] != "ok"} == {}


# ----------------------------------------------------------------------------------------------------- output


def test_json_holds_plain_values_only(capsys: pytest.CaptureFixture[str]) -> None:
    numpy = pytest.importorskip("numpy")
    output.print_json(
        {"psnr": float("inf"), "n": numpy.float32(0.5), "path": Path("a/b"), "set": {"b", "a"}, "é": "\ud800"}
    )
    text = capsys.readouterr().out
    assert json.loads(text) == {"psnr": None, "n": 0.5, "path": "a/b", "set": ["a", "b"], "é": "\ud800"}
    assert text.isascii()
    with pytest.raises(TypeError):
        output.print_json(object())


def test_a_table_is_aligned_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("ID", "SIZE"), [("unet", 7), ("[bold]x", None)], title="Networks", right=("SIZE",))
    assert capsys.readouterr().out == "Networks\nID       SIZE\nunet        7\n[bold]x\n"


def test_a_table_on_a_terminal_shows_brackets_as_they_are() -> None:
    program = "from zoo_cli.output import print_table; print_table(('ID',), [('[bold]x',)], title='Networks')"
    shown = on_a_terminal(program)
    assert "[bold]x" in shown
    assert "Networks" in shown


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0412, "41.2 ms"), (3.214, "3.21 s"), (155, "2:35"), (3755, "1:02:35"), (59.99, "60 s"), (None, "")],
)
def test_durations_are_readable(value: float | None, text: str) -> None:
    assert formatting.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(1.999e9, "MACs", "1.999 GMACs"), (6_055_248, "B", "6.055 MB"), (12, "", "12"), (0, "B", "0 B")],
)
def test_large_numbers_are_readable(value: float, unit: str, text: str) -> None:
    assert formatting.scaled(value, unit) == text


# --------------------------------------------------------------------------------------------------- progress


def test_progress_is_plain_lines_on_standard_error_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LineReporter, "interval", 0.0)
    with progress() as report:
        report.start("train", 4)
        report.advance(1, loss=0.03123456)
        time.sleep(0.01)
        report.advance(3, loss=0.02, note="x")
        report.note("saved")
        report.start("evaluate", None)
        report.advance()
        report.finish()
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == "train: 4 steps ..."
    assert lines[1].startswith("train: 1 of 4 steps, ")
    assert "left, loss 0.03123" in lines[1]
    assert "4 of 4" in lines[2]
    assert "loss 0.02  note x" in lines[2]
    assert "saved" in lines
    assert any(line.startswith("train: 4 of 4") and "took" in line for line in lines)
    assert lines[-1].startswith("evaluate: 1 steps, ")


def test_progress_in_a_notebook_is_a_line_that_changes_and_needs_no_widgets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[list[str]] = []

    class Handle:
        def update(self, content: dict[str, str], *, raw: bool) -> None:
            assert raw
            shown[-1].append(content["text/plain"])

    def display(content: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        assert raw
        assert display_id
        shown.append([content["text/plain"]])
        return Handle()

    for name in ("ipykernel", "IPython", "IPython.display"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["IPython.display"].display = display
    with progress() as report:
        report.start("train", 4)
        report.note("16 layers")
        report.advance(4, loss=0.5)
        report.start("evaluate", 2, "images")
        report.advance(2)
        report.finish()
    assert [each[0] for each in shown] == ["train: 4 steps ...", "evaluate: 2 images ..."]
    assert shown[0][-1].startswith("train: 4 of 4 steps, ")
    assert shown[1][-1].startswith("evaluate: 2 of 2 images, ")
    assert capsys.readouterr().out == "16 layers\n"


@pytest.mark.parametrize(
    ("args", "code", "hinted"),
    [
        (("info", "no-such-thing", "--json"), 2, True),
        (("list", "technique", "--json"), 2, False),
        (("run", "--json", "no-such-folder", "x.dng"), 2, True),
        (("cache", "list", "--jso", "--json"), 2, False),
    ],
)
def test_an_error_of_a_command_with_json_is_one_document(
    args: tuple[str, ...], code: int, hinted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == code
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert document.keys() == {"error", "hint", "exit_code"}
    assert document["exit_code"] == code
    assert document["error"].splitlines()[0] in shown.err
    assert (document["hint"] is not None) == hinted
    assert main([each for each in args if each != "--json"]) == code
    assert capsys.readouterr().out == ""


def test_quiet_progress_prints_notes_only(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(quiet=True) as report:
        report.start("train", 1)
        report.advance(loss=1)
        report.note("saved")
    assert capsys.readouterr() == ("", "saved\n")


def test_progress_on_a_terminal_shows_rate_figures_and_notes() -> None:
    program = (
        "import time\nfrom zoo.progress import progress\n"
        "with progress() as report:\n"
        "    report.start('train [x]', 3)\n"
        "    for _ in range(3):\n        time.sleep(0.1); report.advance(loss=0.03123456)\n"
        "    report.note('saved [y]')\n    report.finish()\n"
    )
    shown = on_a_terminal(program)
    assert "train [x]" in shown
    assert "3 of 3 steps" in shown
    assert "/s" in shown
    assert "loss 0.03123" in shown
    assert "saved [y]" in shown


LONG_LABEL = "train depthwise(which=second,activation=relu)+channels(keep=0.5)+distill"


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_long_label_leaves_room_for_bar_count_and_remaining_time(columns: int) -> None:
    program = (
        "import time\nfrom zoo.progress import progress\n"
        "with progress() as report:\n"
        f"    report.start({LONG_LABEL!r}, 12_000)\n"
        "    for _ in range(5):\n"
        "        time.sleep(0.15); report.advance(1200, loss=0.03123456, rate='12.3 steps/s')\n"
    )
    shown = on_a_terminal(program, columns)
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown))
    line = next(line for line in reversed(lines) if "left" in line)
    assert len(line.rstrip()) <= columns
    assert line.startswith("train d")
    assert "…" in line
    assert line.count("━") + line.count("╸") + line.count("╺") >= 8
    assert "of 12,000 steps" in line
    assert re.search(r"\d+ s left", line)
    assert ("loss" in line) == (columns >= 80)


def on_a_terminal(program: str, columns: int = 120) -> str:
    """Return what a Python program shows when standard output and error are a terminal."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": str(columns), "TERM": "xterm"}
    process = subprocess.Popen([sys.executable, "-c", program], stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            block = os.read(ours, 65536)
        except OSError:  # how Linux tells that the other end is closed
            break
        if not block:
            break
        shown += block
    os.close(ours)
    assert process.wait(timeout=300) == 0
    return shown.decode()


def test_the_group_can_be_documented() -> None:
    context = click.Context(cli, info_name="zoo")
    assert cli.list_commands(context) == list(COMMANDS)
    assert cli.get_command(context, "absent") is None


def test_info_describes_an_artifact_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tiny.bayer_artifact(tmp_path / "small")
    assert main(["info", str(made.path), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["kind"], record["architecture"]) == ("artifact", made.manifest.architecture)
    assert record["files"]["model.onnx"] == made.manifest.files["model.onnx"].size
    assert main(["info", str(made.path)]) == 0
    assert made.manifest.fingerprint in capsys.readouterr().out
