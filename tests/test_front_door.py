"""`import zoo` costs nothing and offers what it lists; so do the packages whose names are imported lazily."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoo
from support.dngs import dng, frame
from support.fake_distributions import python
from support.loopback_hub import LoopbackHub
from support.pulling import REPOSITORY, world
from zoo.artifacts import Artifact
from zoo.errors import UsageError
from zoo.extras import COMPRESS_PACKAGES

ROOT = Path(zoo.__file__).parent
FACES = sorted(
    ".".join(path.parent.relative_to(ROOT.parent).parts)
    for path in ROOT.rglob("__init__.py")
    if "lazy_exports(" in path.read_text()
)
complete = all(importlib.util.find_spec(package) for package in COMPRESS_PACKAGES)


def test_importing_zoo_imports_nothing_else() -> None:
    done = python("-c", "import sys, zoo; dir(zoo); print(*(m for m in sys.modules if m.startswith('zoo')))")
    assert set(done.out.split()) == {"zoo", "zoo.lazy_exports", "zoo.version"}


def test_the_names_of_zoo_are_those_it_lists_whatever_was_imported() -> None:
    import zoo.runner

    assert set(dir(zoo)) == set(zoo.__all__)
    with pytest.raises(AttributeError, match="no attribute 'aply'"):
        zoo.aply  # noqa: B018


@pytest.mark.parametrize("package", FACES)
def test_a_face_lists_the_names_that_type_checkers_see(package: str) -> None:
    face = importlib.import_module(package)
    tree = ast.parse(Path(str(face.__file__)).read_text())
    guards = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name
        for guard in guards
        for node in guard.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen | ({"__version__"} if package == "zoo" else set()) == set(face.__all__)


@pytest.mark.skipif(not complete, reason="needs the extra 'compress'")
@pytest.mark.parametrize("package", FACES)
def test_every_name_of_a_face_is_there(package: str) -> None:
    face = importlib.import_module(package)
    for name in face.__all__:
        assert getattr(face, name) is not None
    assert dir(face) == sorted(face.__all__)


def test_ids_are_those_of_the_command_line() -> None:
    listed = json.loads(python("-m", "zoo_cli", "list", "--json").out)
    for kind in ("architectures", "techniques", "tasks", "datasets", "engines", "devices", "checkpoints"):
        found = getattr(zoo, f"list_{kind}")()
        assert set(found) == {each["id"] for each in listed[kind]}
        assert found == sorted(found)


def test_running_files_needs_no_torch(bayer: Artifact, tmp_path: Path) -> None:
    shot = tmp_path / "shot.dng"
    shot.write_bytes(dng(frame((64, 96))))
    program = (
        "import sys, zoo\n"
        "artifact, shot, out = sys.argv[1:]\n"
        "(result,) = zoo.run(artifact, shot, out)\n"
        "assert result.error is None\n"
        "with zoo.load(artifact) as runner: print(*runner.develop(shot).shape)\n"
        "print(any(name in sys.modules for name in ('torch', 'onnx', 'skimage')))\n"
    )
    done = python("-c", program, str(bayer.path), str(shot), str(tmp_path / "out"))
    assert done.out.split() == ["64", "96", "3", "False"], done.err
    assert np.asarray(Image.open(tmp_path / "out" / "shot.png")).shape == (64, 96, 3)


def test_a_loaded_network_says_what_it_is_and_how_long_it_takes(bayer: Artifact) -> None:
    with zoo.load(bayer.path) as net:
        assert net.spec == bayer.manifest
        assert "packed-raw 4xHxW to rgb 3 at 2 times the size" in repr(net)
        assert net.benchmark(side=16, rounds=3).median > 0
        with pytest.raises(zoo.ZooError, match="is needed"):
            net.benchmark(side=15)
        planned = zoo.publish(net, "me/net", dry_run=True)
    assert planned == zoo.publish(bayer.path, "me/net", dry_run=True)


def test_a_repository_of_the_hub_is_pulled_and_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LoopbackHub() as hub:
        here = world(hub, tmp_path, monkeypatch)
        for moving in ("", "@main", "@v1"):
            with pytest.raises(UsageError, match=here.commit) as refused:
                zoo.load(f"hf:{REPOSITORY}{moving}")
            assert f'zoo.load("hf:{REPOSITORY}@{here.commit}")' in str(refused.value.hint)
        with zoo.load(f"hf:{REPOSITORY}@{here.commit}") as net:
            assert net.benchmark(side=16, rounds=3).median > 0
    with zoo.load(f"hf:{REPOSITORY}@{here.commit}") as net:  # in the cache, without the Hub
        assert "packed-raw" in repr(net)


@pytest.mark.skipif(not complete, reason="needs the extra 'compress'")
def test_an_artifact_is_measured_on_a_programs_data(bayer: Artifact) -> None:
    rng = np.random.default_rng(0)
    inputs = rng.random((3, 4, 32, 32), dtype=np.float32)
    with zoo.load(bayer.path) as net:
        targets = net(inputs)
    found = zoo.evaluate(bayer.path, (inputs, targets))
    assert found.quality.images == 3
    assert found.quality.values["psnr_db"] > 50


@pytest.mark.skipif(not complete, reason="needs the extra 'compress'")
def test_a_model_is_created_with_the_weights_that_are_asked_for() -> None:
    import torch

    trained, again = (zoo.create_model("unet", weights="auto").state_dict() for _ in range(2))
    random = zoo.create_model("unet").state_dict()
    assert all(torch.equal(trained[name], again[name]) for name in trained)
    assert not all(torch.equal(trained[name], random[name]) for name in trained)
    with pytest.raises(zoo.ZooError, match="did you mean 'unet'"):
        zoo.create_model("unett")
