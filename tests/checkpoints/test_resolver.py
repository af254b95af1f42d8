"""A name means the same artifact to every command, to --weights and to a teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import tiny
from support.installation import install
from support.pulling import Notes
from zoo import registry
from zoo.artifacts import Artifact
from zoo.checkpoints.resolver import find_location, locate_artifact
from zoo.download import pull
from zoo.errors import IntegrityError, UnknownIdError, ZooError
from zoo_cli.main import main

NAME = "small-unet"
Ask = Callable[[str], str]


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The folder of NAME inside an installation that ships it; the working directory is empty, and so is the cache."""
    monkeypatch.setenv("ZOO_REGISTRY", "")
    package = install(monkeypatch, tmp_path, tiny.bayer_artifact(tmp_path / NAME))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yield package / "checkpoints" / NAME
    registry.checkpoints.cache_clear()


def by_command(*arguments: str) -> Callable[[pytest.CaptureFixture[str]], Ask]:
    def made(capfd: pytest.CaptureFixture[str]) -> Ask:
        def ask(name: str) -> str:
            assert main([name if each == "NAME" else each for each in arguments]) != 0
            return capfd.readouterr().err

        return ask

    return made


def as_weights(capfd: pytest.CaptureFixture[str]) -> Ask:
    pytest.importorskip("torch")
    from zoo import plugins
    from zoo.training.weights import load_start

    architecture = plugins.architecture("thin-unet-student")

    def ask(name: str) -> str:
        with pytest.raises(ZooError) as caught:
            load_start(architecture.build(), architecture, name)
        return str(caught.value)

    return ask


def as_teacher(capfd: pytest.CaptureFixture[str]) -> Ask:
    pytest.importorskip("torch")
    from zoo.training.teachers import load_teacher

    def ask(name: str) -> str:
        with pytest.raises(ZooError) as caught:
            load_teacher(name)
        return str(caught.value)

    return ask


@pytest.fixture(
    params=[
        by_command("run", "NAME", "shot.dng", "-o", "pictures"),
        by_command("doctor", "NAME"),
        by_command("bench", "NAME"),
        by_command("eval", "NAME"),
        by_command("explain", "NAME"),
        as_weights,
        as_teacher,
    ],
    ids=["run", "doctor", "bench", "eval", "explain", "weights", "teacher"],
)
def ask(request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]) -> Ask:
    """What a command that is given a name says of the damaged artifact it finds."""
    made: Ask = request.param(capfd)
    return made


def damage(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    manifest = folder / "zoo.json"
    manifest.write_bytes((manifest.read_bytes() if manifest.exists() else b"") + b"\n")
    return manifest


def test_a_name_means_the_same_everywhere(ask: Ask, installed: Path) -> None:
    shipped = damage(installed)
    assert f"{shipped} is not the one that the registry pins" in ask(NAME)
    Path(NAME).mkdir()  # without a zoo.json it hides nothing
    assert f"{shipped} is not the one that the registry pins" in ask(NAME)
    shipped.write_bytes(shipped.read_bytes()[:-1])
    pulled = damage(pull(NAME).path)
    assert f"{pulled} is not the one that was pulled" in ask(NAME)
    assert f"{damage(Path(NAME))} " in ask(NAME)


def test_what_is_only_listed_must_be_pulled_first(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (tmp_path / "zoo" / "registry.toml").read_text()
    (tmp_path / "own.toml").write_text(text.replace(NAME, "far").replace('"package"', '"file:/far"'))
    monkeypatch.setenv("ZOO_REGISTRY", str(tmp_path / "own.toml"))
    registry.checkpoints.cache_clear()
    assert "zoo pull far" in ask("far")


def test_it_is_said_where_a_checkpoint_is_from(installed: Path, bayer: Artifact) -> None:
    notes = Notes()
    assert locate_artifact(NAME, reporter=notes).path == installed
    assert notes.notes == [f"{NAME}: the checkpoint of this installation in {installed}"]
    Path(NAME).mkdir()
    pulled = pull(NAME).path
    assert locate_artifact(NAME, reporter=notes).path == pulled
    assert notes.notes[1:] == [
        f"{NAME}: the pulled checkpoint in {pulled}; ignoring the folder {NAME}: it has no zoo.json"
    ]
    assert locate_artifact(str(bayer.path), reporter=notes).path == bayer.path
    assert len(notes.notes) == 2


def test_a_folder_that_is_not_an_artifact_is_named_if_nothing_else_is_meant() -> None:
    Path("mine").mkdir()
    with pytest.raises(UnknownIdError, match=r"mine .*zoo\.json"):
        locate_artifact("mine")
    assert find_location("mine") is None


def test_a_checkpoint_of_the_installation_needs_no_place_for_a_cache(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("ZOO_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(variable, raising=False)

    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", homeless)
    assert locate_artifact(NAME).path == installed


def test_a_checkpoint_missing_from_the_installation_is_reported(installed: Path) -> None:
    installed.rename(installed.with_name("elsewhere"))
    with pytest.raises(IntegrityError, match="should be part of this installation"):
        locate_artifact(NAME)
