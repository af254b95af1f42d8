"""Distillation: what is compared with what, the losses by hand, and what becomes of it in training and export."""

from __future__ import annotations

import copy
import dataclasses
import math
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from support.interrupts import StopsAt
from support.small_net import request, run
from support.tiny import manifest
from zoo import plugins
from zoo.architectures.unet import UNetArchitecture
from zoo.architectures.unet_module import UNet
from zoo.artifacts import write_artifact
from zoo.contracts import InputSpec, LossTerm, OutputSpec, Phase, SilentReporter, Technique
from zoo.errors import NoEffectError, UnknownIdError, UsageError
from zoo.export.exporter import export_onnx
from zoo.pipeline.plan import plan
from zoo.pipeline.stages import stages_of
from zoo.tasks.losses import softened_divergence
from zoo.testing import Patterns, attempt
from zoo.testing.trial import rewrite
from zoo.training.loop import TrainingSettings, train
from zoo.training.schedule import Budget
from zoo.training.teachers import load_teacher
from zoo_techniques.depthwise.fit import split_rank_one
from zoo_techniques.distill import Distill, DistillConfig
from zoo_techniques.distill.features import FeatureRecorder, features_of, pair_features
from zoo_techniques.distill.lesson import difference, feature_difference
from zoo_techniques.qat import Qat

pytestmark = pytest.mark.usefixtures("third_party")


class Small(UNetArchitecture):
    """A U-Net of nine blocks that trains in no time."""

    id = "small"
    input = InputSpec("packed-raw", 4, 16, (32, 32), mosaic="bayer", white_balance=True)
    widths = (8, 12, 16, 16, 24)

    def build(self) -> UNet:
        return UNet(widths=self.widths).eval()


class Slim(Small):
    id = "slim"
    widths = (4, 6, 8, 8, 12)


DOWN = ["down1", "down2", "down3", "down4", "bottom"]
UP = ["join4", "join3", "join2", "join1"]


def batch(size: int = 1, channels: int = 4) -> Tensor:
    return torch.rand(size, channels, 32, 32, generator=torch.Generator().manual_seed(0))


# --------------------------------------------------------------------------------------------------- losses


def test_output_losses_are_mean_absolute_and_mean_squared_difference() -> None:
    ours, theirs = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.0]])
    picture = OutputSpec("rgb", 3, 2)
    assert float(difference(DistillConfig(loss="l1"), picture)(ours, theirs)) == pytest.approx(0.75)
    assert float(difference(DistillConfig(loss="l2"), picture)(ours, theirs)) == pytest.approx(0.625)
    assert float(difference(DistillConfig(), picture)(ours, theirs)) == pytest.approx(0.75)
    with pytest.raises(UsageError, match="use l1 or l2 for other outputs"):
        difference(DistillConfig(loss="soft"), picture)


def test_soft_targets_are_the_divergence_at_the_temperature_times_its_square() -> None:
    ours, theirs, t = [1.0, 3.0], [2.0, 0.0], 2.0

    def softened(logits: list[float]) -> list[float]:
        powers = [math.exp(each / t) for each in logits]
        return [each / sum(powers) for each in powers]

    p, q = softened(theirs), softened(ours)
    by_hand = t * t * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert float(softened_divergence(torch.tensor([ours]), torch.tensor([theirs]), t)) == pytest.approx(
        by_hand
    )
    two = softened_divergence(torch.tensor([ours, theirs]), torch.tensor([theirs, theirs]), t)
    assert float(two) == pytest.approx(by_hand / 2), "the mean over the batch"


def test_masks_follow_the_teachers_probabilities_by_cross_entropy() -> None:
    compare = difference(DistillConfig(), OutputSpec("mask", 1, 1))
    by_hand = -(0.8 * math.log(0.6) + 0.2 * math.log(0.4))
    assert float(compare(torch.tensor([0.6]), torch.tensor([0.8]))) == pytest.approx(by_hand, abs=1e-6)


def test_features_of_another_size_are_scaled_before_they_are_compared() -> None:
    ours, theirs = torch.full((1, 2, 4, 4), 3.0), torch.full((1, 2, 8, 8), 1.0)
    assert float(feature_difference(ours, theirs)) == pytest.approx(2.0)


def test_deeper_features_weigh_more_as_published() -> None:
    """Weights go with 1 / (H * W), and sum up to the option `features`."""
    _, _, runner = rewrite(Distill(), Small())
    lesson = runner.terms[1].compute.__self__
    areas = [theirs.height * theirs.width for _, theirs in lesson.pairs]
    assert areas == [1024, 256, 64, 16, 4, 16, 64, 256, 1024]
    wanted = [1 / area for area in areas]
    assert lesson.weights == pytest.approx([each / sum(wanted) for each in wanted])
    assert runner.terms[1].weight == 10.0


# ----------------------------------------------------------------------------------------- finding features


def test_features_are_the_last_activations_of_the_blocks() -> None:
    found = features_of(Small().build(), batch(), [*UP, *DOWN])
    assert [each.layer for each in found] == [f"{block}.act2" for block in [*DOWN, *UP]], (
        "in order of execution"
    )
    assert [(each.channels, each.height) for each in found[:5]] == [
        (8, 32),
        (12, 16),
        (16, 8),
        (16, 4),
        (24, 2),
    ]


class Shared(nn.Module):
    """Two convolutions that share one activation."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, width, 3, padding=1)
        self.b = nn.Conv2d(width, width, 3, padding=1, stride=2)
        self.act = nn.ReLU()
        self.head = nn.ConvTranspose2d(width, 3, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.b(self.act(self.a(x)))))


def test_without_blocks_features_lie_before_each_change_of_resolution() -> None:
    net = Shared().eval()
    found = features_of(net, batch(channels=3))
    assert [(each.layer, each.call, each.height) for each in found] == [("act", 0, 32), ("act", 1, 16)]
    capture = FeatureRecorder(net, found)
    x = batch(2, 3)
    net(x)
    first = net.act(net.a(x))
    assert torch.equal(capture.get(found[0]), first)
    net(x)
    assert torch.equal(capture.get(found[1]), net.act(net.b(first)))
    capture.close()
    assert capture.get(found[0]) is None
    assert not net.act._forward_hooks
    assert not net._forward_pre_hooks


def test_encoder_features_are_not_paired_with_decoder_ones_of_the_same_resolution() -> None:
    ours, theirs = (features_of(each.build(), batch()) for each in (Slim(), Small()))
    layers = [(a.layer, b.layer) for a, b in pair_features(ours, theirs)]
    assert all(a == b for a, b in layers)
    assert len(layers) == 9


# ------------------------------------------------------------------------------------------------ in a recipe


def test_adapters_are_trained_but_no_part_of_the_net() -> None:
    technique = Distill(teacher=Small().build())
    original, model, runner = rewrite(technique, Slim())
    adapters = technique._lesson.adapters
    shapes = [tuple(conv.weight.shape[:2]) for conv in adapters.values()]
    assert shapes == [(ours * 2, ours) for ours in (4, 6, 8, 8, 12, 8, 8, 6, 4)]
    before = copy.deepcopy(adapters).state_dict()
    trained = trained_with(runner.terms, model, steps=2)
    assert not any(torch.equal(now, before[name]) for name, now in adapters.state_dict().items())
    assert trained.state_dict().keys() == original.state_dict().keys()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in trained.modules())


def apart(options: dict[str, float], net: nn.Module, teacher: nn.Module) -> float:
    """The distance that is to shrink: of the outputs, or of the features, weighted as in training."""
    technique = Distill(DistillConfig(task=0.0, **options), teacher=teacher)
    _, _, runner = rewrite(technique, Small())
    (term,) = (each for each in runner.terms if each.name != "task")
    detach = term.begin(net) if term.begin else None
    with torch.no_grad():
        value = float(term.compute(batch(2), net(batch(2)), None, net))
    if detach:
        detach()
    return value


@pytest.mark.parametrize("options", [{"features": 0.0}, {"output": 0.0}], ids=["output", "features"])
def test_the_student_comes_nearer_to_its_teacher(options: dict[str, float]) -> None:
    """By its output, and by its features alone, with the task's loss left out."""
    torch.manual_seed(1)
    teacher = Small().build()
    for weight in teacher.parameters():
        weight.data.add_(torch.randn_like(weight) * 0.05)
    original, model, runner = rewrite(Distill(DistillConfig(task=0.0, **options), teacher=teacher), Small())
    trained = trained_with(runner.terms, model)
    assert apart(options, trained, teacher) < 0.7 * apart(options, original, teacher)


def trained_with(
    terms: list[LossTerm], model: nn.Module, report: SilentReporter | None = None, steps: int = 40, **options
) -> nn.Module:
    return train(
        model,
        architecture=Small(),
        dataset=Patterns(),
        settings=TrainingSettings(
            Budget(steps=steps), batch=2, crop=32, learning_rate=4e-3, precision="float32"
        ),
        reporter=report or SilentReporter(),
        terms=terms,
        freeze_norm=True,
        **options,
    )[0]


def test_an_interrupted_distillation_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    """The adapters go on from where they were, too."""

    def lesson() -> tuple[nn.Module, list[LossTerm]]:
        torch.manual_seed(0)
        _, model, runner = rewrite(Distill(teacher=Small().build()), Slim())
        return model, runner.terms

    model, terms = lesson()
    straight = trained_with(terms, model)
    model, terms = lesson()
    with pytest.raises(KeyboardInterrupt):
        trained_with(terms, model, StopsAt("train"), state=tmp_path / "state")
    model, terms = lesson()
    resumed = trained_with(terms, model, state=tmp_path / "state")
    assert not torch.equal(lesson()[0].head.weight, resumed.head.weight)
    for name, tensor in straight.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_the_tasks_loss_is_weighted() -> None:
    _, _, runner = rewrite(Distill(DistillConfig(task=0.25)), Small())
    (task,) = (term for term in runner.terms if term.scales_task)
    assert 1 + task.weight == pytest.approx(0.25)


class WithSilu(Small):
    def build(self) -> UNet:
        net = super().build()
        net.bottom.act2 = nn.SiLU()
        return net


def test_features_are_followed_into_the_quantized_net() -> None:
    seen: list[list[bool]] = []

    class Watching(Distill):
        def objective(self, context):
            terms = list(super().objective(context))
            lesson, follow = self._lesson, terms[1]

            def watched(*batch):
                seen.append([lesson._ours.get(ours) is not None for ours, _ in lesson.pairs])
                return follow.compute(*batch)

            return [terms[0], dataclasses.replace(follow, compute=watched)]

    report = SilentReporter()
    techniques = (Watching(), Qat())
    original, _, runner = rewrite(techniques[0], WithSilu(), report=report)
    model = copy.deepcopy(original)
    runner.terms.clear()
    for stage in stages_of(techniques):
        model = trained_with(runner.terms, runner.rewrite(model, stage), steps=1)
    assert seen == [[True] * 9, [True] * 4 + [False] + [True] * 4], "quantization takes the SiLU apart"
    assert [note for note in report.notes if "bottom.act2 can no longer be compared" in note]


def test_without_any_weight_it_changes_nothing_and_says_so() -> None:
    with pytest.raises(NoEffectError, match="distill changed nothing"):
        attempt([Distill(DistillConfig(output=0, features=0))], Small())


def test_a_teacher_for_other_outputs_is_refused(tmp_path: Path) -> None:
    net = Small().build()
    masks = OutputSpec("mask", 3, scale=2)
    save(tmp_path / "masks", net, export_onnx(net, Small()), output=masks)
    with pytest.raises(UsageError, match="output is mask 3 2"):
        rewrite(Distill(DistillConfig(teacher=str(tmp_path / "masks"))), Small())


def test_unknown_and_untrained_teachers_are_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UnknownIdError, match="nowhere"):
        run("distill(teacher=nowhere)", tmp_path / "out")
    with pytest.raises(UsageError, match="no trained weights"):
        run("distill(teacher=small-unet)", tmp_path / "out")
    with pytest.raises(UsageError, match="by name or as a module"):
        Distill(DistillConfig(teacher="unet"), teacher=nn.Identity())


# ------------------------------------------------------------------------------------------ as zoo apply does


def save(folder: Path, weights: nn.Module | None, exported: bytes = b"not read", **changes) -> Path:
    """An artifact of the small U-Net, with its weights for training further or without."""
    contents = {"model.onnx": exported}
    if weights is not None:
        contents["model.safetensors"] = save_tensors(weights.state_dict())
    spec = plugins.architecture("small-unet").input
    described = manifest(
        **{"architecture": "small-unet", "input": spec, "golden": None, "recipe": "", **changes}
    )
    write_artifact(folder, described, contents)
    return folder


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory, third_party: None) -> Path:
    """Artifacts to learn from: a whole one, one for runners, and one of which the structure was changed."""
    folder = tmp_path_factory.mktemp("teachers")
    architecture = plugins.architecture("small-unet")
    torch.manual_seed(5)
    net = architecture.build()
    exported = export_onnx(net, architecture, half_weights=True)
    save(folder / "whole", net, exported)
    save(folder / "runner", None, exported)
    net.bottom.conv1 = split_rank_one(net.bottom.conv1)
    save(folder / "changed", net, export_onnx(net, architecture))
    return folder


@pytest.mark.parametrize("kind", ["whole", "runner", "changed"])
def test_an_artifact_teaches_whatever_it_holds(kind: str, teachers: Path) -> None:
    teacher = load_teacher(str(teachers / kind))
    with torch.no_grad():
        outputs = teacher.net(batch()).clamp(0, 1)
    wanted = plugins.engine("onnxruntime").open((teachers / kind / "model.onnx").read_bytes())
    nearness = (outputs - torch.from_numpy(wanted.run(batch().numpy()))).abs().max()
    assert float(nearness) < 2e-3, "float16 weights"
    assert teacher.readable == (kind != "changed"), "the weights of the last one fit no architecture"


def test_a_shipped_checkpoint_is_found_by_its_name_with_its_layers() -> None:
    assert load_teacher("unet").blocks == (
        "down1",
        "join1",
        "down2",
        "join2",
        "down3",
        "join3",
        "down4",
        "join4",
        "bottom",
    )
    assert load_teacher("lighter-unet").readable, "its weights are those of the architecture it has become"


def test_a_teacher_run_by_the_engine_teaches_by_its_output_alone(teachers: Path) -> None:
    report = SilentReporter()
    technique = Distill(DistillConfig(teacher=str(teachers / "changed")))
    _, _, runner = rewrite(technique, plugins.architecture("small-unet"), report=report)
    assert [term.name for term in runner.terms] == ["distill output"]
    assert any("only its output is learned from" in note for note in report.notes)
    alone = Distill(DistillConfig(teacher=str(teachers / "changed"), output=0.0))
    with pytest.raises(UsageError, match="features are hidden"):
        rewrite(alone, plugins.architecture("small-unet"))


def test_the_teachers_weights_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    prints = set()
    for seed in range(2):  # two nets at one place
        torch.manual_seed(seed)
        save(tmp_path / "teacher", plugins.architecture("small-unet").build())
        wanted = request(f"distill(teacher={tmp_path / 'teacher'})", tmp_path / "out")
        prints.add(plan(wanted, SilentReporter()).fingerprint)
        shutil.rmtree(tmp_path / "teacher")
    assert len(prints) == 2
    modules = [Distill(teacher=plugins.architecture("small-unet").build()).identity() for _ in range(2)]
    assert modules[0] != modules[1]


def test_any_technique_is_given_the_teacher_it_declares(teachers: Path, tmp_path: Path) -> None:
    """What distill does, a third party's technique does without importing the training."""

    @dataclasses.dataclass(frozen=True)
    class Named:
        teacher: str = ""

    class Learns(Technique):
        id = "learns"
        phase = Phase.TRAINING
        Config = Named

        def teachers(self):
            return (self.config.teacher,)

        def objective(self, context):
            teacher = context.load_teacher(self.config.teacher)
            assert len(teacher.sha256) == 64
            return [LossTerm("learns", 1.0, lambda i, o, t, m: (o - teacher.net(i)).abs().mean())]

    trial = attempt([Learns(Named(str(teachers / "whole")))], plugins.architecture("small-unet"))
    assert trial.agreement > 30
