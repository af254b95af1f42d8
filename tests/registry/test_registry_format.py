"""The catalogue lists exactly what was published, and refuses a registry that is not as it should be."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import tiny
from support.installation import install
from zoo import registry
from zoo.artifacts import open_artifact, write_artifact
from zoo.artifacts.figures import Figure
from zoo.errors import IntegrityError, MissingDependencyError, UnknownIdError, UsageError, ZooError
from zoo.registry import checkpoint, checkpoints, entry_for, installed, parse_registry, shipped_folder

ENTRY = """
[checkpoint.lighter]
summary = "a net"
architecture = "unet"
recipe = "depthwise"
fingerprint = "sha256:{digest}"
sources = ["package"]
figures = {{ parameters = 12, psnr_db = 28.5, latency = "80 ms on 2 cores" }}
[checkpoint.lighter.files]
"zoo.json" = {{ sha256 = "{digest}", size = 3 }}
"model.onnx" = {{ sha256 = "{digest}", size = 4 }}
""".format(digest="a1" * 32)
GOOD = "format = 1\n" + ENTRY


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    registry.checkpoints.cache_clear()


def parse(text: str) -> dict[str, registry.Checkpoint]:
    return parse_registry(text.encode(), "registry.toml")


def test_the_registry_of_this_project_is_valid_and_its_checkpoints_are_there() -> None:
    for name in checkpoints():
        folder = shipped_folder(name)
        artifact = open_artifact(folder)
        assert {"zoo.json", *artifact.manifest.files} == set(checkpoint(name).files)
        assert checkpoint(name).architecture == artifact.manifest.architecture


def test_an_entry_is_read_with_its_figures() -> None:
    lighter = parse(GOOD)["lighter"]
    assert lighter.figures == {"parameters": 12, "psnr_db": 28.5, "latency": "80 ms on 2 cores"}
    assert lighter.size == 7
    assert lighter.digest != parse(GOOD.replace("size = 4", "size = 4").replace("a1", "b2"))["lighter"].digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("format = 2", "registry format 2"),
        ("", "'format' is missing"),
        ("format = 1\nfoo = 2", "unknown key 'foo'"),
        ("format = 1\n[checkpoint.Bad_Id]", "malformed"),
        (GOOD.replace('summary = "a net"', ""), r"checkpoint\.lighter\.summary' is missing"),
        (GOOD.replace('"package"', '"rm -rf"'), "source"),
        (GOOD.replace("size = 4", "size = -4"), "size"),
        (GOOD.replace("a1" * 32, "a1"), "fingerprint"),
        (GOOD.replace('"zoo.json"', '"other.json"'), "does not list zoo.json"),
        (GOOD.replace('"model.onnx"', '"../model.onnx"'), "refused"),
        (GOOD.replace("= 12,", "= nan,"), "figures"),
        ("format = ", "not valid TOML"),
        ("a = " + "[" * 50_000, "not valid TOML"),
        (GOOD + ENTRY, "not valid TOML"),
    ],
)
def test_a_registry_that_is_not_as_it_should_be_is_refused(text: str, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        parse(text)


@settings(max_examples=100, deadline=None)
@given(st.text("[]{}=.\"'\n ab1#,-\\\0\u00e9", max_size=40), st.integers(0, len(GOOD)))
def test_no_text_escapes_as_anything_but_a_zoo_error(text: str, place: int) -> None:
    for content in (text, GOOD[:place] + text + GOOD[place:]):
        try:
            parse(content)
        except ZooError:
            continue


def test_a_misspelt_id_gets_a_suggestion(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path, tiny.bayer_artifact(tmp_path / "small-unet"))
    with pytest.raises(UnknownIdError, match="did you mean 'small-unet'") as caught:
        checkpoint("smal-unet")
    assert caught.value.hint == "List the checkpoints:  zoo list checkpoints"


def test_a_missing_part_of_the_installation_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = install(monkeypatch, tmp_path, tiny.bayer_artifact(tmp_path / "small-unet"))
    (package / "checkpoints" / "small-unet").rename(tmp_path / "gone")
    with pytest.raises(IntegrityError, match="part of this installation"):
        shipped_folder("small-unet")
    (package / "registry.toml").unlink()
    registry.checkpoints.cache_clear()
    with pytest.raises(IntegrityError, match=r"has no registry\.toml"):
        checkpoints()


def test_a_source_tree_has_its_registry_beside_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "registry.toml").write_text(GOOD)
    monkeypatch.setattr(installed, "PACKAGE", tmp_path / "zoo" / "registry")
    registry.checkpoints.cache_clear()
    assert list(checkpoints()) == ["lighter"]


def test_an_entry_made_for_an_artifact_pins_its_files_and_quotes_its_figures(tmp_path: Path) -> None:
    import json

    figures = [
        Figure("psnr_db", "PSNR", "dB", None, 28.5, ""),
        Figure("parameters", "", "", None, 1200.0, ""),
    ]
    metrics = {"figures": [figure.to_json() for figure in figures]}
    contents = {"model.onnx": tiny.small_unet(), "metrics.json": json.dumps(metrics).encode()}
    artifact = write_artifact(tmp_path / "a", tiny.manifest(golden=None), contents)
    made = subprocess.run(
        [sys.executable, "-m", "zoo.registry", str(artifact.path), "small", 'a "quoted" net'],
        capture_output=True,
        text=True,
        check=True,
    )
    small = parse("format = 1\n" + made.stdout)["small"]
    assert small.summary == 'a "quoted" net'
    assert small.figures == {"psnr_db": 28.5, "parameters": 1200}
    assert "parameters = 1200\n" in made.stdout
    assert {name: small.files[name] for name in artifact.manifest.files} == artifact.manifest.files
    assert small.files["zoo.json"].size == (artifact.path / "zoo.json").stat().st_size
    with pytest.raises(UsageError, match="The entry cannot be created"):
        entry_for(artifact, "Not An Id")


def test_an_entry_is_written_as_those_of_the_installation_are() -> None:
    artifact = open_artifact(shipped_folder("lighter-unet"))
    known = checkpoint("lighter-unet")
    made = entry_for(artifact, known.id, known.summary, known.sources, tag=known.tag, devices=known.devices)
    text = installed.registry_file().read_text()
    start = text.index("[checkpoint.lighter-unet]")
    # What was measured on devices comes later, and stays where the rest is written again.
    assert made == text[start : text.index("\n[checkpoint.lighter-unet.performance]")]


def test_the_extra_that_an_entry_needs_is_named(tmp_path: Path) -> None:
    tiny.bayer_artifact(tmp_path / "small")
    program = (
        "import runpy, sys\n"
        "sys.modules['tomlkit'] = None\n"
        "runpy.run_module('zoo.registry', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "small"), "small"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == MissingDependencyError.exit_code
    assert done.stderr.endswith("pip install '.[hub]'\n")
    assert "Traceback" not in done.stderr
