"""What `pip install compression-zoo` gives: the wheel as it is built, installed where nothing else is."""

from __future__ import annotations

import email
import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoo
from support import dngs
from support.fake_distributions import Result, install
from support.tiny import bayer_artifact
from zoo.artifacts.manifest import MANIFEST_NAME
from zoo.errors import LegalityError, MissingDependencyError
from zoo.extras import COMPRESS_PACKAGES
from zoo.registry import checkpoint, checkpoints, shipped_folder

# One worker builds and installs, once.
pytestmark = [pytest.mark.network, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
NAMES = {"zoo", "zoo_cli", "zoo_techniques"}


@dataclass(frozen=True)
class Built:
    """The two files of a release."""

    sdist: Path
    wheel: Path


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel and what it requires, and nothing else. home: of its user."""

    folder: Path
    home: Path

    def run(self, program: str, *args: str) -> Result:
        """Run a program of the environment in the user's home, from which nothing can be imported by accident."""
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(self.home), "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        done = subprocess.run(
            [self.folder / "bin" / program, *args],
            capture_output=True,
            text=True,
            env=environment,
            cwd=self.home,
            timeout=300,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def zoo(self, *args: str) -> Result:
        return self.run("zoo", *args)

    def ask(self, expression: str) -> object:
        """The value of a Python expression there, which may use importlib.metadata as `metadata`."""
        done = self.run(
            "python", "-c", f"import json; from importlib import metadata; print(json.dumps({expression}))"
        )
        assert done.code == 0, done.err
        return json.loads(done.out)


def pip(*args: str | Path, python: Path | str = sys.executable) -> subprocess.CompletedProcess[str]:
    """Run this environment's pip on that of `python`: bringing each its own takes longer than most tests."""
    return subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", *args],
        capture_output=True,
        text=True,
        timeout=600,
    )


def environment(folder: Path) -> Path:
    """The Python of a new, empty environment."""
    venv.create(folder, with_pip=False)
    return folder / "bin" / "python"


def install_wheel(python: Path, wheel: Path, extra: str = "") -> None:
    done = pip("install", "--quiet", "--no-compile", f"{wheel}{extra}", python=python)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist, and the wheel built from that sdist: what it lacks, the wheel lacks too."""
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Built(*folder.glob("*.tar.gz"), *folder.glob("*.whl"))


@pytest.fixture(scope="module")
def reached(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The package registry, or the test is skipped."""
    folder = tmp_path_factory.mktemp("probe")
    done = pip("download", "--quiet", "--retries", "1", "--no-deps", "--dest", folder, "entrypoints")
    if done.returncode:
        pytest.skip(f"the package registry cannot be reached: {done.stderr.strip().splitlines()[-1]}")


@pytest.fixture(scope="module")
def installed(built: Built, reached: None, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("venv")
    install_wheel(environment(folder), built.wheel, "[cpu]")
    return Installed(folder, tmp_path_factory.mktemp("home"))


# ----------------------------------------------------------------------------------------------------- files


def test_the_wheel_holds_exactly_three_packages(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert {name for name in tops if not name.endswith(".dist-info")} == NAMES
    assert len(tops) == len(NAMES) + 1


def test_the_wheel_holds_the_registry_and_every_checkpoint(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        assert wheel.read("zoo/registry/registry.toml") == (ROOT / "registry.toml").read_bytes()
        for entry in checkpoints().values():
            for file, pinned in entry.files.items():
                assert wheel.getinfo(f"zoo/registry/checkpoints/{entry.id}/{file}").file_size == pinned.size


def test_the_wheel_holds_every_module_and_the_marker_for_type_checkers(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = {name for name in wheel.namelist() if name.endswith((".py", "py.typed"))}
    roots = {"zoo": ROOT, "zoo_cli": ROOT / "cli", "zoo_techniques": ROOT / "techniques"}
    modules = {
        path.relative_to(root).as_posix()
        for name, root in roots.items()
        for path in (root / name).rglob("*.py")
    }
    assert names == modules | {"zoo/py.typed", "zoo_techniques/py.typed"}


def test_the_sdist_holds_every_file_under_version_control(built: Built) -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no clone of the repository")
    with tarfile.open(built.sdist) as sdist:
        held = {name.partition("/")[2] for name in sdist.getnames()}
    wanted = {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}
    assert wanted - held == set()


def test_the_metadata_state_name_licence_and_versions(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        info = next(name for name in wheel.namelist() if name.endswith("/METADATA"))
        about = email.message_from_bytes(wheel.read(info))
        assert any(name.endswith("/licenses/LICENSE") for name in wheel.namelist())
    assert (about["Name"], about["Version"]) == ("compression-zoo", zoo.__version__)
    assert about["License-Expression"] == "Apache-2.0"
    assert {"cpu", "hub", "compress", "test", "docs"} <= set(about.get_all("Provides-Extra", []))
    assert set(about["Requires-Python"].split(",")) == {">=3.10", "<3.14"}


# ---------------------------------------------------------------------------------------------- installation


def test_the_base_install_brings_nothing_of_the_extra(installed: Installed) -> None:
    specs = "[name for name in {!r} if __import__('importlib.util').util.find_spec(name)]"
    assert installed.ask(specs.format(COMPRESS_PACKAGES)) == []


def test_the_base_install_adds_exactly_the_three_names(installed: Installed) -> None:
    files = installed.ask("[str(file) for file in metadata.files('compression-zoo')]")
    assert isinstance(files, list)
    tops = {file.partition("/")[0] for file in files if not file.startswith("..")}
    assert {name for name in tops if not name.endswith(".dist-info")} == NAMES
    assert [Path(file).name for file in files if file.startswith("..")] == ["zoo"]


def test_what_is_installed_fits_together(installed: Installed) -> None:
    checked = pip("check", python=installed.folder / "bin" / "python")
    assert checked.stdout.strip() == "No broken requirements found."


def test_a_boards_own_onnx_runtime_is_never_replaced(built: Built, reached: None, tmp_path: Path) -> None:
    """A stand-in for NVIDIA's onnxruntime-gpu is there first; installing the wheel must leave it as it is."""
    python = environment(tmp_path / "board")
    (site,) = (tmp_path / "board" / "lib").glob("python*/site-packages")
    stand_in = "__version__ = '1.18.0'\nVENDOR = 'the board'\n"
    info = install(site, "onnxruntime-gpu", {}, version="1.18.0")
    (site / "onnxruntime").mkdir()
    (site / "onnxruntime" / "__init__.py").write_text(stand_in)
    (info / "RECORD").write_text("onnxruntime/__init__.py,,\n")
    install_wheel(python, built.wheel)
    assert (site / "onnxruntime" / "__init__.py").read_text() == stand_in
    assert not list(site.glob("onnxruntime-*.dist-info"))
    board = Installed(tmp_path / "board", tmp_path)
    engine = board.zoo("info", "onnxruntime", "--json").json
    assert engine["engine_version"] == "1.18.0"
    assert board.zoo("list", "--json").code == 0


def test_without_an_engine_running_ends_with_the_pip_command(
    built: Built, reached: None, tmp_path: Path
) -> None:
    install_wheel(environment(tmp_path / "bare"), built.wheel)
    bare = Installed(tmp_path / "bare", tmp_path)
    (tmp_path / "shot.dng").write_bytes(dngs.dng(dngs.frame((70, 101))))
    assert bare.zoo("pull", "lighter-unet-int8").code == 0
    run = bare.zoo("run", "lighter-unet-int8", str(tmp_path / "shot.dng"), "-o", str(tmp_path / "out"))
    assert run.code != 0
    assert "pip install '.[cpu]'" in run.err


def test_pulling_needs_no_hub_client_and_publishing_names_the_extra(installed: Installed) -> None:
    assert installed.ask("__import__('importlib.util').util.find_spec('huggingface_hub') is None") is True
    assert installed.zoo("pull", "lighter-unet", "--out", str(installed.home / "mine")).code == 0
    done = installed.zoo("publish", str(installed.home / "mine"), "me/mine")
    assert done.code == MissingDependencyError.exit_code
    assert done.err.strip().endswith("pip install '.[hub]'")


def test_help_and_version(installed: Installed) -> None:
    assert "Usage: zoo" in installed.zoo("--help").out
    assert installed.zoo("--version").out.strip() == f"zoo {zoo.__version__}"


def test_the_list_holds_the_built_in_plugins_and_the_checkpoints(installed: Installed) -> None:
    listed = installed.zoo("list", "--json").json
    for kind, known in (
        ("techniques", {"depthwise", "qat"}),
        ("architectures", {"unet"}),
        ("engines", {"onnxruntime"}),
    ):
        found = {row["id"]: row for row in listed[kind]}
        assert known <= found.keys()
        assert {found[name]["distribution"] for name in known} == {"compression-zoo"}
    assert [row["id"] for row in listed["checkpoints"]] == list(checkpoints())


def test_a_raw_file_becomes_a_picture(installed: Installed, tmp_path: Path) -> None:
    artifact = bayer_artifact(tmp_path / "tiny")
    _check_run(installed, str(artifact.path), tmp_path, dngs.frame((70, 101)))


@pytest.mark.parametrize("name", checkpoints())
def test_every_checkpoint_is_pulled_and_runs(installed: Installed, name: str, tmp_path: Path) -> None:
    target = tmp_path / name
    done = installed.zoo("pull", name, "--out", str(target))
    assert done.code == 0, done.err
    files = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert files == set(checkpoint(name).files)
    manifest = json.loads((shipped_folder(name) / MANIFEST_NAME).read_text())
    if manifest["input"]["kind"] == "packed-raw":
        pattern = dngs.RGGB if manifest["input"]["mosaic"] == "bayer" else dngs.XTRANS
        _check_run(installed, str(target), tmp_path, dngs.frame((540, 546), pattern))
        return
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 70, 3), np.uint8)).save(photo)
    done = installed.zoo("run", str(target), str(photo), "-o", str(tmp_path / "pictures"), "--json")
    assert done.code == 0, done.err
    (row,) = json.loads(done.out)["files"]
    assert row["ok"]


def test_a_checkpoint_of_the_wheel_runs_by_its_id_without_a_pull(
    installed: Installed, tmp_path: Path
) -> None:
    _check_run(installed, "lighter-unet-int8", tmp_path, dngs.frame((140, 146)))


def _check_run(installed: Installed, artifact: str, folder: Path, frame: dngs.RawFrame) -> None:
    raw, pictures = folder / "shot.dng", folder / "pictures"
    raw.write_bytes(dngs.dng(frame))
    done = installed.zoo("run", artifact, str(raw), "-o", str(pictures), "--ratio", "1", "--json")
    assert done.code == 0, done.err
    (picture,) = pictures.iterdir()
    with Image.open(picture) as image:
        assert image.size == frame.mosaic.shape[::-1]
        assert np.asarray(image).std() > 1


@pytest.mark.parametrize(
    "command", [("apply", "depthwise+qat", "unet"), ("train", "unet")], ids=lambda each: each[0]
)
def test_compressing_without_the_extra_ends_with_the_pip_command(
    installed: Installed, command: tuple[str, ...]
) -> None:
    done = installed.zoo(*command)
    assert done.code == MissingDependencyError.exit_code == 6
    assert done.err.strip().splitlines()[-1].endswith("pip install '.[compress]'")
    assert list(installed.home.glob("out")) == []


def test_an_illegal_recipe_is_refused_without_the_extra_too(installed: Installed) -> None:
    done = installed.zoo("apply", "qat+depthwise", "unet")
    assert done.code == LegalityError.exit_code == 2
    assert "did you mean depthwise+qat?" in done.err
