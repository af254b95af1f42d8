"""The networks, the task and the data keep the promises of their contracts, and are compressed like any other."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from zoo import plugins
from zoo.contracts import OutputSpec
from zoo.errors import InputError, UnknownIdError, ZooError
from zoo.testing import architecture_checks, attempt, dataset_checks, task_checks
from zoo_depth.architectures import DepthBiFpnArchitecture, DepthFfnUpArchitecture
from zoo_depth.decoders import FFN_UP, FfnUp
from zoo_depth.depth_maps import DepthConfig, DepthMaps
from zoo_depth.network import DepthNetwork
from zoo_depth.rooms import LARGEST, Rooms, RoomsConfig
from zoo_depth.task import DepthTask, averaged, compare_depths

RNG = np.random.default_rng(0)
OUTPUT = OutputSpec("tensor", 1)
DEPTHS = [RNG.uniform(0.1, 1, (1, 12, 16)).astype(np.float32) for _ in range(4)]
FILES = [RNG.integers(500, 8000, (40, 52)).astype(np.uint16) for _ in range(10)]


class Small(DepthBiFpnArchitecture):
    """The same network with little of everything, at a size whose file is soon made."""

    input = replace(DepthBiFpnArchitecture.input, example=(64, 64))

    def build(self) -> nn.Module:
        return DepthNetwork(encoder="test_efficientnet", channels=16, blocks=1)


TestDepthBiFpn = architecture_checks(DepthBiFpnArchitecture, export=False)
TestDepthFfnUp = architecture_checks(DepthFfnUpArchitecture, member="c", export=False)
TestTask = task_checks(
    DepthTask, output=OUTPUT, examples=[(DEPTHS[0], DEPTHS[1]), (DEPTHS[2][:, ::2, ::2], DEPTHS[3])]
)
TestRooms = dataset_checks(Rooms, options={"rooms": 20}, architecture=Small())


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Ten images with depths in millimetres, half of them in NumPy files in metres times 1000."""
    for folder in ("images", "depth"):
        (tmp_path / folder).mkdir()
    for number, depth in enumerate(FILES):
        picture = np.stack([depth // 256, depth % 256, depth // 64], axis=-1).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / "images" / f"{number}.png")
        if number % 2:
            np.save(tmp_path / "depth" / f"{number}.npy", depth.astype(np.float32))
        else:
            Image.fromarray(depth).save(tmp_path / "depth" / f"{number}.png")
    return tmp_path


def test_the_files_of_a_folder_keep_the_promises_of_a_dataset(files: Path) -> None:
    checks = dataset_checks(DepthMaps, options={"root": str(files)}, architecture=Small())()
    for name in (name for name in dir(checks) if name.startswith("test_")):
        getattr(checks, name)()


def test_it_has_the_published_maps_and_outputs_a_quarter_of_the_size() -> None:
    net = DepthNetwork().eval()
    with torch.no_grad():
        maps = net.encoder(torch.rand(1, 3, 224, 224))
        assert [tuple(each.shape[2:]) for each in maps] == [(28, 28), (14, 14), (7, 7)]
        assert net.head(net.decoder(maps)).shape == (1, 1, 56, 56)
    assert len(net.decoder.blocks) == 3


@pytest.mark.parametrize("block", FFN_UP)
def test_each_ffn_up_block_joins_four_maps_at_the_size_of_the_finest(block: str) -> None:
    widths = (24, 40, 112, 320)
    head = FfnUp(widths, block).eval()
    maps = [torch.rand(1, width, 16 // 2**level, 16 // 2**level) for level, width in enumerate(widths)]
    assert head(maps).shape == (1, sum(FFN_UP[block][1]), 16, 16)
    changed = [*maps[:3], maps[3] + 1]
    assert not torch.equal(head(changed)[:, :1], head(maps)[:, :1]), (
        "the coarsest map reaches the finest output"
    )


def test_the_encoder_takes_the_weights_of_the_classifier_that_it_begins() -> None:
    trained, net = timm.create_model("efficientnet_b0"), DepthNetwork()
    net.load_encoder(trained.state_dict())
    assert torch.equal(net.encoder.blocks[0][0].conv_dw.weight, trained.blocks[0][0].conv_dw.weight)
    with pytest.raises(ZooError, match="not those of efficientnet_b0"):
        net.load_encoder(timm.create_model("mobilenetv3_small_100").state_dict())
    with pytest.raises(UnknownIdError):
        plugins.architecture("depth-bifpn:nonsense")
    with pytest.raises(UnknownIdError, match="no member 'd'") as refused:
        plugins.architecture("depth-ffn-up:d")
    assert "depth-ffn-up:c" in str(refused.value.hint)


def test_what_is_not_known_counts_neither_in_scores_nor_in_the_loss() -> None:
    target = DEPTHS[0].copy()
    target[:, :6] = 0
    found = np.where(target > 0, target, 0.9).astype(np.float32)
    assert compare_depths(found, target) == {"rmse": 0, "abs_rel": 0, "delta1": 1}
    loss = DepthTask().loss(OUTPUT)
    assert loss(torch.from_numpy(found), torch.from_numpy(target)).item() == 0
    assert compare_depths(2 * found, target)["abs_rel"] == pytest.approx(1)
    assert compare_depths(2 * found, target)["delta1"] == 0
    assert compare_depths(found, np.zeros_like(target)) == {}
    assert averaged(np.array([[0.0, 0.2], [0.4, 0.0]]), (1, 1)) == pytest.approx(0.3), "of two, not of four"
    with pytest.raises(InputError, match="cannot be compared with an output of 5x5"):
        averaged(target, (5, 5))


def test_a_crop_shows_the_depths_of_its_own_pixels(files: Path) -> None:
    data = DepthMaps(DepthConfig(root=str(files), least_part=1.0, largest=10_000))
    for frame in data.frames(Small(), "test"):
        assert frame.target.shape == (1, 64, 64)
    # At the size of the files nothing is resized, so the pictures tell the depths exactly.
    for sample, _ in zip(data.crops(Small(), (40, 52), seed=0), range(6), strict=False):
        bytes_ = np.rint(sample.inputs * 255)
        assert np.allclose(sample.target[0], (bytes_[0] * 256 + bytes_[1]) / 10_000, atol=1e-6)


def test_depths_that_are_none_are_refused_by_the_name_of_the_file(files: Path) -> None:
    np.save(files / "depth" / "1.npy", np.zeros((3, 4, 5)))
    with pytest.raises(InputError, match=r"1\.npy holds float64 3x4x5, not a depth for each pixel"):
        _ = DepthMaps(DepthConfig(root=str(files), test_share=0.0, val_share=0.0)).largest
    np.save(files / "depth" / "1.npy", np.ones((30, 52)))
    data = DepthMaps(DepthConfig(root=str(files), test_share=1.0))
    with pytest.raises(InputError, match=r"its depths .*1\.npy 52x30"):
        list(DepthMaps(replace(data.config, largest=1.0)).frames(Small(), "test"))
    (files / "depth" / "1.npy").unlink()
    with pytest.raises(InputError, match="without a counterpart"):
        DepthMaps(DepthConfig(root=str(files)))


def test_a_room_is_as_deep_as_its_rays_are_long() -> None:
    """Look straight at the walls of an empty room: the depth at the middle is the distance to what is hit there."""
    data = Rooms(RoomsConfig(rooms=10, furniture=0, noise=0.0))
    for view in data.frames(Small(), "train"):
        depth = view.target[0] * LARGEST
        assert 0.2 < depth.min() <= depth.max() < 9.5
        # On a plane the inverse of the depth is linear in the pixels; along a row its second difference vanishes
        # but where two walls meet.
        bends = np.abs(np.diff(1 / depth.astype(np.float64), 2, axis=1)) > 1e-4
        assert bends.mean() < 0.1
    filled = next(Rooms(RoomsConfig(rooms=10, furniture=30)).frames(Small(), "train"))
    empty = next(Rooms(RoomsConfig(rooms=10, furniture=0)).frames(Small(), "train"))
    assert (filled.target <= empty.target + 1e-6).all() or not np.array_equal(filled.inputs, empty.inputs)


def test_inverted_residuals_in_integers_compute_what_the_network_does() -> None:
    recipe = [plugins.technique("inverted-residual", {"images": "4"}), plugins.technique("ptq")]
    trial = attempt(recipe, Small(), Rooms(RoomsConfig(rooms=10)))
    assert trial.comparison.agrees, trial.comparison.first
    assert any(
        name.startswith("decoder") and name.endswith("depthwise")
        for name, _ in trial.finished.named_modules()
    )
