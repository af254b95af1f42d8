"""The networks and the data keep the promises of their contracts; clips are cut, filled up and compressed rightly."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from zoo import plugins
from zoo.errors import InputError, MissingDependencyError, UnknownIdError, UsageError
from zoo.modules.several_inputs import with_one_input
from zoo.testing import architecture_checks, attempt, dataset_checks
from zoo_emotion import EMOTIONS
from zoo_emotion.architectures import EmotionCnnArchitecture, VideoNetArchitecture
from zoo_emotion.clips import Clips, ClipsConfig
from zoo_emotion.drawn_faces import DrawnFaces, DrawnFacesConfig
from zoo_emotion.networks import AttentionHead, LstmHead

LSTM, ATTENTION = VideoNetArchitecture("lstm(frames=3)"), VideoNetArchitecture("attention(frames=3)")
FACES = DrawnFaces(DrawnFacesConfig(clips=40, frames=4))

TestEmotionCnn = architecture_checks(EmotionCnnArchitecture, export=False)
TestLstm = architecture_checks(VideoNetArchitecture, member="lstm(frames=3)", export=False)
TestAttention = architecture_checks(VideoNetArchitecture, member="attention(frames=3)", export=False)
TestDrawnFaces = dataset_checks(DrawnFaces, options={"clips": 40, "frames": 4}, architecture=ATTENTION)


def picture_of(number: int) -> Image.Image:
    """A gray picture whose tone says which frame it is."""
    return Image.fromarray(np.full((60, 60, 3), 10 * number, np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six clips of 2 to 7 frames in each of two classes."""
    for label in ("happiness", "anger"):
        for clip in range(6):
            place = tmp_path / label / f"clip{clip}"
            place.mkdir(parents=True)
            for frame in range(2 + clip):
                picture_of(frame).save(place / f"{frame:03}.png")
    return tmp_path


def test_clips_of_a_folder_keep_the_promises_of_a_dataset(folder: Path) -> None:
    for network in (ATTENTION, EmotionCnnArchitecture()):
        checks = dataset_checks(Clips, options={"root": str(folder)}, architecture=network)()
        for name in (name for name in dir(checks) if name.startswith("test_")):
            getattr(checks, name)()


def test_a_clip_is_its_frames_in_order_and_their_number(folder: Path) -> None:
    data = Clips(ClipsConfig(root=str(folder), test_share=1.0))
    for sample in data.frames(VideoNetArchitecture("lstm(frames=4)"), "test"):
        frames, length = VideoNetArchitecture("lstm(frames=4)").input.packing.unpack(sample.inputs[None])
        total = 2 + int(sample.name[-1])
        assert int(length.item()) == min(4, total)
        tones = np.rint(frames[0, :, 0, 0, 0] * 25.5)
        wanted = [round(each) for each in np.linspace(0, total - 1, min(4, total))]
        assert tones.tolist() == wanted + [0] * (4 - len(wanted))
        assert sample.target == EMOTIONS.index(sample.name.partition("/")[0])
    crop = next(data.crops(EmotionCnnArchitecture(), 48, 0)) if data.scenes("train") else None
    assert crop is None, "all clips are held out"


@pytest.mark.parametrize("head", [LstmHead, AttentionHead])
@torch.no_grad()
def test_frames_beyond_the_length_do_not_count_and_their_order_does(head: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net, features = head(5, 8).eval(), torch.randn(2, 5, 64)
    changed = features.clone()
    changed[:, 3:] = 7.0
    length = torch.tensor([3, 2])
    assert torch.allclose(net(features, length), net(changed, length), atol=1e-5)
    assert not torch.allclose(net(features, length), net(changed, length + 2), atol=1e-3)
    assert not torch.allclose(net(features, length), net(features[:, [1, 0, 2, 3, 4]], length), atol=1e-3)


@torch.no_grad()
def test_the_lstm_is_that_of_torch() -> None:
    torch.manual_seed(0)
    net, features = LstmHead(5, 8), torch.randn(2, 5, 64)
    lstm = nn.LSTM(64, 64, batch_first=True)
    lstm.weight_ih_l0.copy_(net.input.weight)
    lstm.weight_hh_l0.copy_(net.state.weight)
    lstm.bias_ih_l0.copy_(net.input.bias)
    lstm.bias_hh_l0.zero_()
    wanted = net.classifier(lstm(features)[0][:, -1])
    assert torch.allclose(net(features, torch.tensor([5, 5])), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("technique", "network"), [("qat", LSTM), ("ptq", ATTENTION)], ids=["qat-lstm", "ptq-attention"]
)
def test_in_integers_the_file_computes_what_the_network_does(
    technique: str, network: VideoNetArchitecture
) -> None:
    trial = attempt([plugins.technique(technique)], network, FACES)
    assert trial.comparison.agrees, trial.comparison.first
    import onnx

    graph = onnx.load_from_string(trial.exported).graph
    assert [each.name for each in graph.input] == ["frames", "length"]
    eight = {each.name for each in graph.initializer if each.data_type == onnx.TensorProto.INT8}
    wanted = ("input", "state") if network is LSTM else ("qkv", "project", "mlp")
    assert all(any(part in name for name in eight) for part in wanted), eight


def test_a_few_steps_of_training_tell_drawn_faces_apart() -> None:
    torch.manual_seed(0)
    net = with_one_input(ATTENTION.build().train(), ATTENTION.input.parts)
    samples = [sample for sample, _ in zip(FACES.crops(ATTENTION, 48, 0), range(32), strict=False)]
    inputs = torch.from_numpy(np.stack([each.inputs for each in samples]))
    targets = torch.tensor([int(each.target) for each in samples])
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(net(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_the_order_of_time_tells_emotions_apart_that_a_late_frame_shows() -> None:
    """The last frame shows the expression, the first one only a neutral face."""
    data = DrawnFaces(DrawnFacesConfig(clips=40, frames=9, noise=0.0))
    for sample in data.frames(VideoNetArchitecture("lstm(frames=9)"), "train"):
        frames, length = VideoNetArchitecture("lstm(frames=9)").input.packing.unpack(sample.inputs[None])
        moved = np.abs(frames[0, int(length.item()) - 1] - frames[0, 0]).mean()
        assert moved > 0.003


def test_what_does_not_fit_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(UnknownIdError, match="no member 'gru'"):
        plugins.architecture("videonet:gru")
    assert plugins.architecture("videonet:lstm(frames=16)").id == "videonet:lstm(frames=16)"
    data = Clips(ClipsConfig(root=str(folder)))
    with pytest.raises(UsageError, match="unet takes something else"):
        data.check(plugins.architecture("unet"))
    Image.new("RGB", (9, 9)).save(folder / "anger" / "stray.png")
    with pytest.raises(InputError, match=r"in no folder of a clip: .*stray\.png"):
        Clips(ClipsConfig(root=str(folder)))
    assert "stray.png" in Clips(ClipsConfig(root=str(folder), skip_bad=True)).notes()[0]
    with pytest.raises(InputError, match="has no clips"):
        Clips(ClipsConfig(root=str(folder / "anger" / "clip0")))


@pytest.mark.skipif(importlib.util.find_spec("cv2") is not None, reason="OpenCV is installed")
def test_without_opencv_cropping_is_refused_with_what_to_install(folder: Path) -> None:
    with pytest.raises(MissingDependencyError, match="needs the package 'opencv-python-headless'") as refused:
        Clips(ClipsConfig(root=str(folder), faces=True))
    assert "zoo-emotion[faces]" in str(refused.value.hint)


@pytest.mark.skipif(importlib.util.find_spec("cv2") is None, reason="needs OpenCV")
def test_clips_are_cropped_to_the_face(tmp_path: Path) -> None:
    from skimage import data

    from zoo_emotion.face_detection import find_face

    portrait = data.astronaut()
    top, bottom, left, right = find_face(portrait)
    # The face of the astronaut is around (120, 225), some hundred pixels high.
    assert 50 < top < 120 < bottom < 220
    assert 150 < left < 225 < right < 300
    for number in range(8):
        place = tmp_path / "happiness" / f"clip{number}"
        place.mkdir(parents=True)
        Image.fromarray(portrait).save(place / "0.png")
        Image.fromarray(portrait[::2, ::2]).resize((512, 512)).save(place / "1.png")
    faces = Clips(ClipsConfig(root=str(tmp_path), faces=True, test_share=1.0))
    whole = Clips(ClipsConfig(root=str(tmp_path), test_share=1.0))
    network = EmotionCnnArchitecture()
    cropped, uncropped = (next(each.frames(network, "test")).inputs for each in (faces, whole))
    assert not np.array_equal(cropped, uncropped)
    for number in range(2):
        picture_of(5).save(tmp_path / "happiness" / "clip0" / f"{number}.png")
    with pytest.raises(InputError, match="1 file in which no face was found: the clip happiness/clip0"):
        Clips(ClipsConfig(root=str(tmp_path), faces=True))
