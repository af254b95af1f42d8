"""What README and documentation show is so: commands parse, examples work, tables and numbers are the code's."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import click
import pytest

from support import fake_distributions
from zoo import errors, plugins
from zoo.artifacts.manifest import Manifest
from zoo.contracts import CONTRACT_VERSION, DeviceProfile, InputSpec, KernelGap, OutputSpec
from zoo.options import format_value, options_of, parse_options
from zoo.plugins.plugin_check import PluginState
from zoo.recipes import canonical, recipe_toml
from zoo.recipes.grammar import parse, parse_stage
from zoo.recipes.presets import expand_preset
from zoo.registry import Checkpoint, checkpoint, parse_registry
from zoo.schema import keys_of, parse_toml
from zoo_cli.main import COMMANDS, EXIT_BROKEN_PIPE, EXIT_BUG, EXIT_INTERRUPTED, cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
_BLOCK = re.compile(r"^```(\w+)?([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`(zoo [^`\n]+)`")
_ENDS = {"&&", "||", "|", ";"}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.text.strip().splitlines()[0][:60]}"


def blocks(*languages: str) -> list[Block]:
    return [
        Block(page, language, title.strip(), text)
        for page in PAGES
        for language, title, text in _BLOCK.findall(page.read_text())
        if not languages or language in languages
    ]


def simple_commands(line: str) -> Iterator[list[str]]:
    """The commands of a line of shell as words, what they read and write left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word in _ENDS:
            if words:
                yield words
            words = []
        else:
            words.append(word)


def zoo_arguments(words: list[str]) -> list[str] | None:
    """The arguments of `zoo`, however it is started; None for another program."""
    if words[0] == "zoo":
        return words[1:]
    return words[words.index("zoo_cli") + 1 :] if "zoo_cli" in words else None


def shown_commands() -> list[tuple[str, list[str]]]:
    """Every `zoo` command line that is shown, with where it is."""
    found = []
    for block in blocks("bash"):
        for line in block.text.replace("\\\n", " ").splitlines():
            found += [(str(block), words) for words in simple_commands(line)]
    for page in PAGES:
        for line in _INLINE.findall(_BLOCK.sub("", page.read_text())):
            found += [(f"{page.relative_to(ROOT)}: {line}", words) for words in simple_commands(line)]
    return [(where, args) for where, words in found if (args := zoo_arguments(words)) is not None]


def read(name: str) -> str:
    return (ROOT / name).read_text()


# -------------------------------------------------------------------------------------------------- commands


def test_every_command_line_shown_is_one_the_program_takes() -> None:
    commands = shown_commands()
    assert len(commands) > 40
    for where, args in commands:
        if args and not args[0].startswith("-"):
            _check_command(where, *args)


def _check_command(where: str, name: str, *args: str) -> None:
    assert name in COMMANDS, where
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    if not args:
        return  # the command is mentioned, not shown
    try:
        given = command.make_context(name, list(args)).params
    except click.exceptions.ClickException as error:
        pytest.fail(f"{where}\n{error.format_message()}")
    if name == "apply" and given["recipe_file"] is None:
        canonical.resolve(expand_preset(parse(given["recipe"]), "unet"))
        if not plugins.own_family(given["architecture"]):
            plugins.architecture(given["architecture"])
    if given.get("data") and not plugins.own_family(given["data"]):
        stage = parse_stage(given["data"], "dataset")
        parse_options(stage.technique, plugins.load("datasets", stage.technique).Config, stage.option_map)
    if name == "pull":
        checkpoint(given["name"])


def test_the_documentation_shows_every_command() -> None:
    assert {args[0] for _, args in shown_commands()} >= set(COMMANDS)


@pytest.mark.parametrize("block", blocks("console"), ids=str)
def test_what_a_command_is_shown_to_print_it_prints(block: Block) -> None:
    for shown in block.text.split("$ ")[1:]:
        line, _, expected = shown.partition("\n")
        (words,) = simple_commands(line)
        args = zoo_arguments(words)
        assert args is not None
        done = fake_distributions.zoo(*args, ZOO_PLUGINS="")
        assert (done.out + done.err).strip() == expected.strip()


def test_the_readme_begins_with_the_two_commands_that_count() -> None:
    first, second = [block.text.strip() for block in blocks("bash") if block.page.name == "README.md"][:2]
    assert first == "pip install '.[compress]' && zoo apply depthwise+qat unet"
    assert second in read(".ci/run").splitlines(), "the CI runs the very test command of the README"
    begin = read("README.md").partition("\n---\n")[0]
    assert len(begin.splitlines()) <= 24, "both fit on one screen, with the picture"
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", begin):
        assert (ROOT / picture).is_file()


# -------------------------------------------------------------------------------------------------- examples


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_examples_compile(block: Block) -> None:
    compile(block.text, str(block), "exec")


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_examples_are_json(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_toml_examples_are_what_they_stand_for(block: Block) -> None:
    if "[[stage]]" in block.text:
        canonical.resolve(recipe_toml.loads(block.text).recipe)
    elif "[checkpoint." in block.text:
        assert parse_registry(block.text.encode(), str(block))
    else:
        parse_toml(block.text.encode(), str(block), error=errors.ZooError)


def test_the_example_plugin_works(tmp_path: Path) -> None:
    """Its two files as documented, installed as pip would, seen by the command, and applied to a network."""
    files = {
        block.title.partition('"')[2].rstrip('"'): block.text for block in blocks() if "title=" in block.title
    }
    project = parse_toml(files["pyproject.toml"].encode(), "the example", error=errors.ZooError)["project"]
    source = files["src/zoo_lowrank/__init__.py"]
    fake_distributions.install(
        tmp_path, project["name"], project["entry-points"], source, version=project["version"]
    )
    listed = fake_distributions.zoo("techniques", "--json", path=(tmp_path,)).json["techniques"]
    assert {"id": "lowrank", "distribution": "zoo-lowrank"}.items() <= {each["id"]: each for each in listed}[
        "lowrank"
    ].items()
    program = (
        "import torch\n"
        "from zoo import plugins\n"
        "from zoo.contracts import Context\n"
        "torch.manual_seed(0)\n"
        "wide = torch.nn.Linear(64, 48)\n"
        "with torch.no_grad(): wide.weight.copy_(torch.rand(48, 8) @ torch.rand(8, 64))\n"
        "net = torch.nn.Sequential(wide, torch.nn.ReLU(), torch.nn.Linear(48, 1))\n"
        "x = torch.rand(4, 64); before = net(x)\n"
        "context = Context(None, x)\n"
        "net = plugins.technique('lowrank', {'share': '0.25'}).rewrite(net, context)\n"
        "assert sum(p.numel() for p in net[0].parameters()) == 12 * (64 + 48) + 48\n"
        "assert torch.allclose(net(x), before, atol=1e-3), (net(x) - before).abs().max()\n"
        "assert [each.layer for each in context.skipped_layers] == ['2']\n"
    )
    done = fake_distributions.python("-c", program, path=(tmp_path,))
    assert done.code == 0, done.err


def test_the_tutorial_shows_the_whole_module_of_its_plugin() -> None:
    place = "src/zoo_small_kernels/small_kernels.py"
    (shown,) = [block.text for block in blocks("python") if f'title="{place}"' in block.title]
    assert shown.strip() == read(f"plugins/zoo-small-kernels/{place}").strip()


# -------------------------------------------------------------------------------------------- tables, numbers


def option_table(config: type) -> str:
    """The options as the documentation shows them."""
    lines = ["| option | type | default | range | unit | meaning |", "|---|---|---|---|---|---|"]
    for each in options_of(config):
        default = "" if each.required else format_value(each.default)
        shown = default if isinstance(default, str) else f"[{','.join(default)}]"
        kind = each.type_name.replace("|", "\\|")
        lines.append(f"| `{each.name}` | {kind} | {shown} | {each.range} | {each.unit} | {each.help} |")
    return "\n".join(lines) + "\n"


def built_in(kind: str) -> list[str]:
    return [plugin.id for plugin in plugins.find_plugins(kind) if plugin.builtin]


@pytest.mark.parametrize("name", built_in("techniques"))
def test_every_technique_has_a_page_with_its_options(name: str) -> None:
    assert option_table(plugins.load("techniques", name).Config) in read(f"docs/techniques/{name}.md")


@pytest.mark.parametrize("name", built_in("datasets"))
def test_every_dataset_has_a_section_with_its_options(name: str) -> None:
    section = read("docs/data.md").partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    assert option_table(plugins.load("datasets", name).Config) in section


@pytest.mark.parametrize("name", built_in("devices"))
def test_every_device_is_described_as_it_is(name: str) -> None:
    row = next(line for line in read("docs/devices.md").splitlines() if line.startswith(f"| `{name}`"))
    profile = plugins.device(name)
    if name != "host":
        assert f"| {profile.memory_mb // 1024} GB" in row
        assert f"| {', '.join(profile.precisions)} |" in row


def test_every_engine_is_described() -> None:
    assert [name for name in built_in("engines") if f"`{name}`" not in read("docs/devices.md")] == []


@pytest.mark.parametrize(
    "name", [name for name in built_in("architectures") if not plugins.load("architectures", name).family]
)
def test_the_networks_have_as_many_parameters_as_stated(name: str) -> None:
    import torch

    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in plugins.architecture(name).build().parameters())
    row = next(line for line in read("docs/architectures.md").splitlines() if line.startswith(f"| `{name}`"))
    assert f"| {count:,} |" in row


def test_the_exit_codes_are_those_of_the_errors() -> None:
    rows = re.findall(r"^\| (\d+) \| (?:`(\w+)`)? ?\|", read("docs/exit-codes.md"), re.MULTILINE)
    stated = {int(code): name for code, name in rows}
    kinds = (errors.ZooError, *errors.ZooError.__subclasses__())
    assert {code for code, name in stated.items() if not name} == {
        0,
        EXIT_BUG,
        EXIT_INTERRUPTED,
        EXIT_BROKEN_PIPE,
    }
    assert {code: name for code, name in stated.items() if name} == {
        kind.exit_code: kind.__name__ for kind in kinds
    }
    every = {
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ZooError)
    }
    assert {kind.exit_code for kind in every} == {kind.exit_code for kind in kinds}


@pytest.mark.parametrize(
    ("page", "place", "keys"),
    [
        ("artifact", "created_with", ("format", *keys_of(Manifest))),
        ("artifact", "target_level", keys_of(InputSpec)),
        ("artifact", "scale", keys_of(OutputSpec)),
        ("registry", "figures", ("format", *keys_of(Checkpoint, "id", "registry"))),
        ("devices", "memory_mb", ("format", *keys_of(DeviceProfile, "contract", "reserve_mb"))),
        ("devices", "remedy", keys_of(KernelGap)),
        ("recipes", "weights", ("steps", *keys_of(recipe_toml.RecipeFile, "recipe", "steps"))),
    ],
)
def test_the_keys_of_a_file_are_those_of_its_table(page: str, place: str, keys: tuple[str, ...]) -> None:
    """`place` is a key that only this table of the page has in its first column."""
    tables = re.findall(r"(?:^\|.*\n)+", read(f"docs/{page}.md"), re.MULTILINE)
    columns = [" ".join(row.split("|")[1] for row in table.splitlines()) for table in tables]
    described = [re.findall(r"`([^`]+)`", column) for column in columns]
    (found,) = [names for names in described if place in names]
    assert sorted(name for name in found if not name.startswith("[")) == sorted(keys)


def test_the_plugin_page_knows_states_groups_and_contract() -> None:
    page = read("docs/plugins.md")
    assert [state.value for state in PluginState if f"| `{state.value}` |" not in page] == []
    assert [group for group in plugins.GROUPS.values() if f"| `{group}` |" not in page] == []
    assert f"today {CONTRACT_VERSION};" in page


def test_the_tables_of_checkpoints_are_those_of_their_metrics() -> None:
    script = load(ROOT / "docs" / "benchmarks" / "checkpoints" / "table.py")
    stale = [page for page in script.TABLES if script.renewed(page) != read(page)]
    assert stale == [], f"run: python {script.__file__} --write"


def test_the_charts_are_those_of_the_numbers_in_the_repository() -> None:
    script = load(ROOT / "docs" / "images" / "charts.py")
    stale = [name for name, draw in script.CHARTS.items() if draw() != read(f"docs/images/{name}")]
    assert stale == [], f"run: python {script.__file__}"


@pytest.mark.parametrize(
    "picture", sorted((ROOT / "docs" / "images").glob("*.[jps]*g")), ids=lambda path: path.name
)
def test_every_picture_is_small_and_shown(picture: Path) -> None:
    assert picture.stat().st_size < 300_000
    assert [page for page in PAGES if f"images/{picture.name}" in page.read_text()] != []


def load(path: Path) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_no_page_names_a_place_on_the_machine_it_was_written_on() -> None:
    places = [
        (page.name, found)
        for page in PAGES
        for found in re.findall(r"(?<!\w)/work\b|\.\./shared", page.read_text())
    ]
    assert places == []


def test_every_fault_upstream_names_a_test_that_exists() -> None:
    page = (ROOT / "docs" / "internals" / "upstream-faults.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| fault")]
    named = [re.fullmatch(r"\| .* \| .* \| `(tests/[\w/]+\.py)::(test_\w+)` \|", row) for row in rows]
    assert len(rows) > 10
    assert all(named), [row for row, found in zip(rows, named, strict=True) if not found]
    for found in named:
        assert found is not None
        assert f"def {found[2]}(" in (ROOT / found[1]).read_text(), found[0]
