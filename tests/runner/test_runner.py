"""`zoo run` turns RAW files into the picture the network makes of the whole frame, in bounded memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from support import fake_distributions, tiny
from support.dngs import COLORCHART, PHASES, XTRANS, dng, frame, odd_dng
from support.installation import install
from zoo import engines, onnx, plugins, registry
from zoo.artifacts import Artifact, write_artifact
from zoo.artifacts.golden import GOLDEN_NAME, golden_bytes
from zoo.contracts import InputSpec
from zoo.devices import host
from zoo.errors import IntegrityError, PluginError, UsageError
from zoo.raw.pack import pack_mosaic
from zoo.registry import checkpoints
from zoo.runner.loading import load
from zoo.storage.result_cache import ResultCache
from zoo_cli.main import main

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def shot(tmp_path: Path) -> Path:
    path = tmp_path / "shot.dng"
    path.write_bytes(dng(frame((70, 101), PHASES["gbrg"])))
    return path


def zoo(*arguments: Any) -> int:
    return main([str(argument) for argument in arguments])


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def whole(artifact: Artifact, of: Any, ratio: float) -> np.ndarray:
    """What the network makes of the whole frame, by ONNX's reference implementation, in 8 bits."""
    packed = pack_mosaic(of, artifact.manifest.input, ratio)
    height, width = packed.data.shape[1:]
    inputs = np.pad(packed.data, ((0, 0), (0, height % 2), (0, width % 2)), mode="symmetric")[None]
    picture = tiny.run(artifact.read("model.onnx"), inputs)[0].transpose(1, 2, 0)
    picture = picture[packed.top : packed.top + packed.height, packed.left : packed.left + packed.width]
    return np.rint(picture * 255).astype(int)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("shape", [(64, 96), (71, 99)])
@pytest.mark.parametrize("tile", [None, 28])
def test_the_picture_is_that_of_the_whole_frame(
    bayer: Artifact, tmp_path: Path, phase: str, shape: tuple[int, int], tile: int | None
) -> None:
    of = frame(shape, PHASES[phase])
    (tmp_path / "a.dng").write_bytes(dng(of))
    options = ["--tile", tile] if tile else []
    assert zoo("run", bayer.path, tmp_path / "a.dng", "-o", tmp_path / "out", "--ratio", 5, *options) == 0
    picture = pixels(tmp_path / "out" / "a.png")
    assert picture.shape == (*shape, 3)
    assert picture.std() > 5
    assert np.abs(picture - whole(bayer, of, 5)).max() <= 1


def test_a_network_of_one_input_size_makes_the_picture_from_tiles_of_that_size(tmp_path: Path) -> None:
    spec = InputSpec(
        "packed-raw", 4, multiple_of=2, example=(32, 32), fixed_size=True, mosaic="bayer", halo=10
    )
    artifact = write_artifact(
        tmp_path / "a", tiny.manifest(input=spec, golden=None), {"model.onnx": tiny.small_unet()}
    )
    for shape in ((40, 50), (130, 161)):
        of = frame(shape)
        (tmp_path / "a.dng").write_bytes(dng(of))
        out = tmp_path / f"{shape}"
        assert zoo("run", artifact.path, tmp_path / "a.dng", "-o", out, "--ratio", 5) == 0
        expected = whole(artifact, of, 5)
        inner = (
            slice(0, shape[0] - 24),
            slice(0, shape[1] - 24),
        )  # beyond, a small frame is mirrored further
        assert np.abs(pixels(out / "a.png") - expected)[inner].max() <= 1


def test_an_xtrans_file_is_run_by_a_network_for_it_and_by_no_other(
    bayer: Artifact, shot: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    artifact = tiny.xtrans_artifact(tmp_path / "x")
    of = frame((62, 85), np.roll(XTRANS, (1, 4), (0, 1)), (1024,) * 4)
    (tmp_path / "x.dng").write_bytes(dng(of))
    assert zoo("run", artifact.path, tmp_path / "x.dng", "-o", tmp_path / "out", "--ratio", 3) == 0
    assert pixels(tmp_path / "out" / "x.png").shape == (62, 85, 3)
    assert np.abs(pixels(tmp_path / "out" / "x.png") - whole(artifact, of, 3)).max() <= 1
    assert zoo("run", bayer.path, tmp_path / "x.dng", "-o", tmp_path / "out2") == 5
    assert "expects Bayer RAW files; the file is from an X-Trans sensor" in capfd.readouterr().err
    assert zoo("run", artifact.path, shot, "-o", tmp_path / "out2") == 5
    assert list((tmp_path / "out2").iterdir()) == []


def test_a_tiff_has_sixteen_bits_of_the_same_picture(bayer: Artifact, shot: Path, tmp_path: Path) -> None:
    for format_ in ("png", "tiff"):
        assert zoo("run", bayer.path, shot, "-o", tmp_path, "--format", format_) == 0
    deep = tifffile.imread(tmp_path / "shot.tiff")
    assert deep.dtype == np.uint16
    assert len(np.unique(deep)) > 256
    assert np.abs(deep / 257 - pixels(tmp_path / "shot.png")).max() <= 0.51


@pytest.mark.parametrize("tile", [None, 28])
def test_the_picture_is_upright_whatever_the_orientation(
    bayer: Artifact, tmp_path: Path, tile: int | None
) -> None:
    mosaic = frame((64, 96)).mosaic
    files = [tmp_path / f"{orientation}.dng" for orientation in range(1, 9)]
    for orientation, file in enumerate(files, 1):
        file.write_bytes(odd_dng(mosaic, tags=((274, 3, 1, orientation, True),)))
    options = ["--tile", tile] if tile else []
    assert zoo("run", bayer.path, *files, "-o", tmp_path, "--ratio", 4, *options) == 0
    plain = Image.open(tmp_path / "1.png")
    for orientation in range(1, 9):
        plain.getexif()[274] = orientation
        upright = np.asarray(ImageOps.exif_transpose(plain)).astype(int)
        assert np.array_equal(pixels(tmp_path / f"{orientation}.png"), upright)


def test_json_tells_the_steps_the_ratio_and_the_peak_memory(
    bayer: Artifact, shot: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert zoo("run", bayer.path, shot, "-o", tmp_path / "out", "--json") == 0
    report = json.loads(capfd.readouterr().out)
    (file,) = report["files"]
    assert file["output"] == str(tmp_path / "out" / "shot.png")
    assert file["size"] == [101, 70]
    assert list(file["steps_ms"]) == ["decode", "pack", "infer", "write"]
    assert all(value > 0 for value in file["steps_ms"].values())
    assert file["steps_ms"]["decode"] > 1  # what it took, not how long the run waited for it
    assert file["wall_ms"] > file["steps_ms"]["infer"] + file["steps_ms"]["write"]
    assert 1 <= file["ratio"] <= 300
    assert report["engine"] == "onnxruntime"
    assert report["golden_psnr_db"] > 50
    assert report["peak_rss_mb"] > 20
    assert report["failed"] == 0


def test_a_bad_file_does_not_stop_the_others(
    bayer: Artifact, shot: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.dng"
    bad.write_bytes(shot.read_bytes()[:3000])
    other = tmp_path / "other.dng"
    shutil.copy(shot, other)
    assert zoo("run", bayer.path, shot, bad, other, "-o", tmp_path / "out", "--json") == 5
    printed = capfd.readouterr()
    report = json.loads(printed.out)
    assert [file["ok"] for file in report["files"]] == [True, False, True]
    assert "damaged" in report["files"][1]["error"]
    assert "1 of 3 files failed" in printed.err
    assert sorted(os.listdir(tmp_path / "out")) == ["other.png", "shot.png"]


def test_existing_pictures_are_kept_unless_overwriting_is_asked(
    bayer: Artifact, shot: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shot.png").write_bytes(b"precious")
    other = tmp_path / "other.dng"
    shutil.copy(shot, other)
    assert zoo("run", bayer.path, other, shot, "-o", tmp_path) == 2
    assert "--overwrite" in capfd.readouterr().err
    assert (tmp_path / "shot.png").read_bytes() == b"precious"
    assert not (tmp_path / "other.png").exists()  # refused before any work
    assert zoo("run", bayer.path, other, shot, "-o", tmp_path, "--overwrite") == 0
    assert pixels(tmp_path / "shot.png").shape == (70, 101, 3)


def test_an_output_that_cannot_be_written_is_refused(
    bayer: Artifact, shot: Path, tmp_path: Path, small_disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert zoo("run", bayer.path, shot, "-o", shot) == 8
    assert zoo("run", bayer.path, shot, "-o", "/proc/nowhere") == 8
    assert zoo("run", bayer.path, shot) == 2
    capfd.readouterr()
    large = tmp_path / "large.dng"
    large.write_bytes(dng(frame((400, 600))))
    assert zoo("run", bayer.path, large, "-o", small_disk) == 8
    assert "no space is left" in capfd.readouterr().err
    assert zoo("run", bayer.path, large, "-o", small_disk, "--format", "tiff") == 8
    assert "no space is left" in capfd.readouterr().err
    assert os.listdir(small_disk) == []
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert zoo("run", bayer.path, shot, "-o", small_disk) == 8
    assert "read-only" in capfd.readouterr().err


def test_two_inputs_of_one_name_are_refused(
    bayer: Artifact, shot: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "more").mkdir()
    shutil.copy(shot, tmp_path / "more" / "shot.dng")
    assert zoo("run", bayer.path, shot, tmp_path / "more" / "shot.dng", "-o", tmp_path / "out") == 2
    assert "Several inputs would be written to" in capfd.readouterr().err


@pytest.mark.parametrize(
    "options",
    [["--ratio", "x"], ["--ratio", "0"], ["--ratio", "nan"], ["--tile", "16"], ["--engine", "onnxruntine"],
     ["--device", "jetson-nan"], ["--format", "jpg"]],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(
    bayer: Artifact, shot: Path, tmp_path: Path, options: list[str]
) -> None:
    assert zoo("run", bayer.path, shot, "-o", tmp_path / "out", *options) == 2
    assert not (tmp_path / "out" / "shot.png").exists()


def test_a_device_profile_chooses_the_engine(bayer: Artifact, shot: Path, tmp_path: Path) -> None:
    assert zoo("run", bayer.path, shot, "-o", tmp_path, "--device", "jetson-nano", "--threads", 1) == 0


# ---------------------------------------------------------------------------------------------- trust


def test_an_altered_artifact_is_not_run(
    bayer: Artifact, shot: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    altered = tmp_path / "altered"
    shutil.copytree(bayer.path, altered)
    for name in bayer.manifest.files:
        content = (altered / name).read_bytes()
        (altered / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert zoo("run", altered, shot, "-o", tmp_path / "out") == 4
        assert f"{name} is not the file its manifest lists" in capfd.readouterr().err
        (altered / name).write_bytes(content)
    assert not (tmp_path / "out").exists()


WRONG_ENGINE = """
from zoo.engines.onnxruntime import OnnxRuntimeEngine

class Darker:
    def __init__(self, session):
        self.session = session
    def run(self, inputs):
        return self.session.run(inputs) * 0.8

class WrongEngine(OnnxRuntimeEngine):
    contract = 1
    id = "wrong-engine"
    summary = "computes through ONNX Runtime, and then wrongly"
    opened = 0
    def available(self):
        return None
    def version(self):
        return "1.0"
    def open(self, model, *, threads=0):
        type(self).opened += 1
        return Darker(super().open(model, threads=threads))

class BrokenEngine(WrongEngine):
    id = "broken-engine"
    def open(self, model, **rest):
        raise RuntimeError("no such kernel")

class FallingEngine(WrongEngine):
    id = "falling-engine"
    def available(self):
        raise OSError("libgpu.so: cannot open shared object file")

def wrong_board():
    from dataclasses import replace
    from zoo.devices import host
    return replace(host(), id="wrong-board", engines=("wrong-engine", "onnxruntime"))
"""


@pytest.fixture
def wrong_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two engines of a third party, neither to be used; gives the class of the first."""
    engines = {"wrong-engine": "zoo_wrong:WrongEngine", "broken-engine": "zoo_wrong:BrokenEngine",
               "falling-engine": "zoo_wrong:FallingEngine"}  # fmt: skip
    entries = {"zoo.engines": engines, "zoo.devices": {"wrong-board": "zoo_wrong:wrong_board"}}
    fake_distributions.install(tmp_path / "site", "zoo-wrong", entries, WRONG_ENGINE)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "zoo_wrong", raising=False)
    return plugins.load("engines", "wrong-engine")


def test_an_engine_that_computes_wrongly_is_named(tmp_path: Path) -> None:
    inputs = np.random.default_rng(2).random((1, 4, 32, 48), dtype=np.float32)
    wrong = np.zeros((1, 3, 64, 96), np.float32)
    contents = {"model.onnx": tiny.small_unet(), GOLDEN_NAME: golden_bytes([(inputs, wrong)])}
    artifact = write_artifact(tmp_path / "a", tiny.manifest(), contents)
    for _ in range(2):  # a failure is not remembered as a success
        with pytest.raises(IntegrityError, match=r"onnxruntime \d+\.\d+.* computes .* wrongly"):
            load(artifact, host())


def test_the_next_engine_is_used_in_place_of_a_wrong_one_and_that_is_remembered(
    bayer: Artifact, wrong_engine: Any
) -> None:
    profile = replace(host(), engines=("broken-engine", "wrong-engine", "onnxruntime"))
    for _ in range(2):
        loaded = load(bayer, profile, supervised=False)
        assert loaded.engine == "onnxruntime"
        assert loaded.golden_psnr is not None
        assert loaded.golden_psnr > 60
        assert [each.engine for each in loaded.refused] == ["broken-engine", "wrong-engine"]
        assert "no such kernel" in loaded.refused[0].reason
        assert "wrong-engine 1.0 computes" in loaded.refused[1].reason
    assert wrong_engine.opened == 1


def test_the_user_is_told_once_which_engine_was_passed_over_and_why(
    bayer: Artifact, wrong_engine: Any, shot: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    device = ["--device", "wrong-board", "--overwrite"]
    assert zoo("run", bayer.path, shot, "-o", tmp_path / "out", *device) == 0
    printed = capfd.readouterr()
    assert printed.err.count("The engine wrong-engine is passed over: wrong-engine 1.0 computes") == 1
    assert "onnxruntime" in printed.out
    assert zoo("run", bayer.path, shot, "-o", tmp_path / "out", *device, "--json") == 0
    report = json.loads(capfd.readouterr().out)
    assert report["engine"] == "onnxruntime"
    assert [each["engine"] for each in report["engines_refused"]] == ["wrong-engine"]
    assert "computes" in report["engines_refused"][0]["reason"]


def test_if_no_engine_is_right_each_is_named_with_its_reason(bayer: Artifact, wrong_engine: Any) -> None:
    with pytest.raises(IntegrityError) as caught:
        load(bayer, replace(host(), engines=("nowhere", "falling-engine", "broken-engine", "wrong-engine")))
    lines = caught.value.message.splitlines()
    named = ["nowhere", "falling-engine", "broken-engine", "wrong-engine"]
    assert [line.split(":")[0].strip() for line in lines[1:]] == named
    assert "cannot open shared object file" in lines[2]
    with pytest.raises(PluginError, match="falling-engine failed: OSError"):
        load(bayer, host(), engine="falling-engine")
    with pytest.raises(PluginError, match="nowhere"):
        load(bayer, replace(host(), engines=("nowhere",)))


def test_a_wrong_engine_named_by_the_user_is_refused_with_an_error(
    bayer: Artifact, wrong_engine: Any, shot: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert zoo("run", bayer.path, shot, "-o", tmp_path / "out", "--engine", "wrong-engine") == 4
        assert "wrong-engine 1.0 computes" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_golden_check_is_made_once(bayer: Artifact, tmp_path: Path) -> None:
    first = load(bayer, host()).golden_psnr
    assert first is not None
    assert first > 60
    (record,) = Path(os.environ["ZOO_CACHE"], "golden").iterdir()

    def say(psnr: float) -> None:
        subject = json.loads(record.read_bytes().partition(b"\n")[0])["of"]
        del subject["zoo"], subject["changed"]
        cache = ResultCache("golden", subject, Path(engines.__file__), Path(onnx.__file__))
        assert cache.path == record
        cache.write(json.dumps({"psnr_db": psnr}).encode())

    say(77.5)
    assert load(bayer, host()).golden_psnr == 77.5
    say(20)  # below the threshold: checked anew
    assert load(bayer, host()).golden_psnr == first
    record.write_text("damaged")
    assert load(bayer, host()).golden_psnr == first


def test_a_cache_that_cannot_be_written_only_costs_the_check(
    bayer: Artifact, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))
    assert load(bayer, host()).golden_psnr is not None


def test_an_engine_that_is_not_there_is_told_so(bayer: Artifact) -> None:
    with pytest.raises(UsageError, match="did you mean"):
        load(bayer, host(), engine="onxruntime")


# --------------------------------------------------------------------------------------- checkpoints


def test_a_checkpoint_is_run_by_its_id_shipped_or_pulled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shot: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, tmp_path / "i", tiny.bayer_artifact(tmp_path / "small-unet"))
    try:
        assert zoo("run", "smal-unet", shot, "-o", tmp_path / "out") == 2
        assert "did you mean 'small-unet'" in capfd.readouterr().err
        assert zoo("run", "small-unet", shot, "-o", tmp_path / "out") == 0
        assert "small-unet: the checkpoint of this installation in" in capfd.readouterr().err
        assert zoo("pull", "small-unet", "--json") == 0
        assert json.loads(capfd.readouterr().out)["fresh"] is True
        assert zoo("pull", "small-unet") == 0
        assert "Already there" in capfd.readouterr().out
        assert zoo("run", "small-unet", shot, "-o", tmp_path / "again") == 0
        assert "small-unet: the pulled checkpoint in" in capfd.readouterr().err
        assert zoo("pull", "small-unet", "--out", tmp_path / "copy") == 0
        assert zoo("run", tmp_path / "copy", shot, "-o", tmp_path / "out", "--overwrite") == 0
    finally:
        registry.checkpoints.cache_clear()


# --------------------------------------------------------------------------------------- classifiers


def test_a_classifier_takes_a_photograph_and_gives_the_five_highest_classes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    artifact = tiny.classifier_artifact(tmp_path / "c")
    photo = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "p.png")
    assert zoo("run", artifact.path, tmp_path / "p.png", "--json") == 0
    top = json.loads(capfd.readouterr().out)["files"][0]["top"]
    inputs = (photo / np.float32(255)).transpose(2, 0, 1)[None].astype(np.float32)
    logits = tiny.run(artifact.read("model.onnx"), inputs)[0]
    assert [entry["class"] for entry in top] == np.argsort(-logits)[:5].tolist()
    assert [entry["logit"] for entry in top] == pytest.approx(sorted(logits)[:-6:-1], abs=1e-4)
    Image.fromarray(photo[:, :, 0]).resize((300, 90)).save(tmp_path / "grey.jpg")
    assert zoo("run", artifact.path, tmp_path / "grey.jpg") == 0
    assert "class 1" in capfd.readouterr().out


def test_a_classifier_refuses_what_is_no_photograph(
    tmp_path: Path, shot: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    artifact = tiny.classifier_artifact(tmp_path / "c")
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for path in (tmp_path / "cut.png", tmp_path, tmp_path / "none.jpg"):
        assert zoo("run", artifact.path, path) == 5
    assert "an image (PNG" in capfd.readouterr().err


# --------------------------------------------------------------------------------------------- memory


def run_apart(*arguments: Any) -> tuple[dict[str, Any], set[str]]:
    """Run `zoo` in a process of its own; its JSON report and the modules it had loaded in the end."""
    code = (
        "import sys; from zoo_cli.main import main\n"
        "code = main(sys.argv[1:]); sys.stdout.flush()\n"
        "print(*sys.modules, file=sys.stderr); sys.exit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout), set(done.stderr.split())


def test_running_loads_neither_torch_nor_onnx(bayer: Artifact, shot: Path, tmp_path: Path) -> None:
    _, modules = run_apart("run", bayer.path, shot, "-o", tmp_path, "--no-isolate", "--json")
    assert "onnxruntime" in modules
    assert not {"torch", "onnx", "timm", "skimage", "scipy", "huggingface_hub"} & modules


@pytest.mark.skipif(not COLORCHART.exists(), reason="the camera file is not here")
@pytest.mark.parametrize("name", ["lighter-unet-int8", "lighter-unet", "unet"])
def test_a_real_camera_file_is_run_within_the_usual_memory(name: str, tmp_path: Path) -> None:
    if name not in checkpoints():
        pytest.skip(f"the checkpoint {name} is not published")
    pulled, _ = run_apart("pull", name, "--out", tmp_path / name, "--json")
    report, modules = run_apart("run", pulled["path"], COLORCHART, "-o", tmp_path / "out", "--json")
    assert report["peak_rss_mb"] < 420  # 384 and what both processes map, which counts twice
    assert "torch" not in modules
    picture = pixels(tmp_path / "out" / "colorchart.png")
    assert picture.shape == (1156, 1734, 3)
    assert 40 < picture.mean() < 200
    steps = report["files"][0]["steps_ms"]
    assert steps["pack"] < 0.05 * sum(steps.values())


def test_a_large_frame_takes_memory_for_its_pixels_and_one_tile(bayer: Artifact, tmp_path: Path) -> None:
    peaks = []
    for shape in ((600, 900), (1600, 2400)):
        path = tmp_path / f"{shape[0]}.dng"
        path.write_bytes(dng(frame(shape)))
        report, _ = run_apart("run", bayer.path, path, "-o", tmp_path, "--tile", 256, "--json")
        peaks.append(report["peak_rss_mb"])
    # 3.3 million pixels more: RAW file and mosaic 2 x 2 bytes, packed 4, picture 3 + 4 for the PNG writer
    assert peaks[1] - peaks[0] < 3.3 * 15
