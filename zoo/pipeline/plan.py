"""Everything about a run that is decided before the work begins."""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import plugins
from zoo.artifacts.manifest import check_class_names
from zoo.errors import UsageError
from zoo.extras import require
from zoo.pipeline.device_target import Target, specialize_for_device
from zoo.pipeline.input_spec import adapt_input, check_crops, choose_crop
from zoo.pipeline.loss_limit import check_unit, parse_limit
from zoo.pipeline.originals import find_out
from zoo.pipeline.stages import StagePlan, share_budgets, stages_of
from zoo.recipes import canonical
from zoo.storage.atomic import check_folder_target

if TYPE_CHECKING:
    from torch import nn

    from zoo.contracts import Architecture, CropSize, Dataset, Reporter, Technique
    from zoo.pipeline.checked_export import Exported
    from zoo.pipeline.identity import Identity
    from zoo.pipeline.originals import Once, Originals
    from zoo.pipeline.request import ApplyRequest
    from zoo.recipes.canonical import ResolvedRecipe
    from zoo.training.weights import StartWeights

#: What ids of networks in files of the user's own begin with.
_OWN_FILES = ("module:", "onnx:")
_TRAINING_RATE = 4e-4
_FINE_TUNING_RATE = 1e-4


@dataclass(frozen=True)
class ApplyPlan:
    """What a run will do; nothing after :func:`plan` changes it.

    Attributes:
        request: What was asked for. Where the plan has a field of the same name, that one counts.
        recipe: With its techniques; None to train the architecture as it is.
        stages: How the network is carried through its training stages.
        data: The dataset as text.
        half_weights: Whether the exported float weights are stored in 16 bits.
        start: The weights that `original` has.
        original: The network before the recipe, in eval mode.
        exported: The file of `original`.
        once: Remembers what is found out about `original`.
        identity: Everything that the artifact depends on.
        fingerprint: Of the artifact.
        target: The device that the network is made for; None for none.
    """

    request: ApplyRequest
    recipe: ResolvedRecipe | None
    stages: StagePlan
    data: str
    half_weights: bool
    start: StartWeights
    original: nn.Module
    exported: Exported
    once: Once
    identity: Identity
    fingerprint: str
    target: Target | None = None

    @property
    def architecture(self) -> Architecture:
        """Return the architecture with the input that the exported file accepts."""
        return self.stages.architecture

    @property
    def dataset(self) -> Dataset:
        """Return what is trained and evaluated on."""
        return self.stages.dataset

    @property
    def crop(self) -> CropSize:
        """Return the size of the training crops in input-tensor pixels."""
        return self.stages.crop

    @property
    def techniques(self) -> tuple[Technique, ...]:
        """Return the techniques of the recipe, in order."""
        return self.recipe.techniques if self.recipe else ()

    @property
    def name(self) -> str:
        """Return what artifacts call the architecture."""
        return _name_of(self.architecture, self.request)

    def with_technique(self, old: Technique, new: Technique) -> ApplyPlan:
        """Return the plan that leads to the same with one technique configured otherwise; neither may train."""
        assert self.recipe is not None, "it holds the technique"
        recipe = self.recipe.with_technique(old, new)
        budgets = self.request.budgets if self.stages.budgets else ()
        identity = self.identity.with_recipe(recipe)
        return replace(self, recipe=recipe, identity=identity, fingerprint=identity.fingerprint(budgets))

    @property
    def work(self) -> Path:
        """Return the folder that keeps the state of an interrupted training."""
        return self.request.out.with_name(self.request.out.name + ".work")


def plan(request: ApplyRequest, reporter: Reporter, originals: Originals | None = None) -> ApplyPlan:
    """Find what a request names, refuse what cannot work, and decide all that is left open.

    An illegal recipe is refused before torch is imported, and so is data that cannot be read. The network is
    built and exported once, since its
    file may accept fewer sizes of input than the architecture.

    Args:
        request: What to do.
        reporter: Shows progress.
        originals: What other runs found out about the network; None to find everything out.

    Raises:
        ZooError: An id is unknown, an option wrong, the order illegal, or the data does not suit the network.
    """
    loaded = canonical.load(request.recipe) if request.recipe is not None else None
    check_folder_target(request.out)
    for module in ("torch", "onnx", "onnxscript", "skimage", "accelerate"):
        require(module, "Compressing a network")
    from zoo.data.choose import choose_dataset, open_dataset

    opened = open_dataset(request.data, request.photos) if request.data else None
    import torch

    from zoo.evaluation.quality import empty_split
    from zoo.modules.copying import copied
    from zoo.modules.state_digest import state_digest
    from zoo.pipeline.identity import Identity, technique_identities
    from zoo.pipeline.input_sizes import trial_export
    from zoo.pipeline.own_task import with_own_loss
    from zoo.pipeline.plain_network import make_network_plain
    from zoo.training.loop import trainable
    from zoo.training.teachers import load_teacher
    from zoo.training.weights import build_start, load_start

    specialized = specialize_for_device(loaded, request.device, half_weights=request.half_weights)
    base = request.architecture
    if isinstance(base, str):
        base = plugins.architecture(base, own_files=True)
    base = with_own_loss(base)
    recipe = canonical.configure(specialized.recipe) if specialized.recipe else None
    techniques = recipe.techniques if recipe else ()
    stages = stages_of(techniques)
    suited = adapt_input(base, techniques)
    data, dataset = choose_dataset(request.data, request.photos, suited, opened)
    if not dataset.scenes("test"):
        raise empty_split(dataset, "test")
    check_class_names(dataset.class_names(), data)
    check_unit(
        parse_limit(request.max_loss), (plugins.task_of(suited), plugins.task("any")),
        lambda: _has_labels(dataset, suited),
    )  # fmt: skip
    for note in dataset.notes():
        reporter.note(note)
    check_crops(dataset, suited, choose_crop(suited, request.crop))
    given = request.budgets if any(stage.trains for stage in stages) else ()
    budgets = share_budgets(given, stages)
    if request.keep_stages is not None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("Only runs of a single process can keep stages.", hint="Omit --keep-stages.")
    torch.manual_seed(request.seed)
    original = build_start(suited, request.weights).eval()
    start = load_start(original, suited, request.weights, entry=request.weights_key, partial=request.partial)
    if start.remark and (start.trained or request.recipe is not None):
        reporter.note(start.remark)
    if start.trained and suited.id.startswith(_OWN_FILES) and _unnormalised(suited):
        reporter.note(
            f"Warning: {suited.id} states no normalisation, so it is given images in [0, 1]. If it was trained on "
            "normalised ones, state how: MEAN and STD in its file, or the options mean=[...],std=[...]."
        )
    for sentence in make_network_plain(original, suited.input):
        reporter.note(sentence)
    if not techniques:
        trainable(original, suited.id)
    teachers = functools.cache(load_teacher)
    identities = technique_identities(techniques, teachers)
    once: Once = find_out
    if originals is not None:
        once = originals.about(
            _name_of(suited, request), suited.identity(), repr(suited.output), state_digest(original.state_dict()),
            dataset.identity(), request.seed, request.threads,
        )  # fmt: skip
    architecture, exported = trial_export(
        copied(original), base, techniques, dataset, reporter, crop=request.crop, seed=request.seed,
        threads=request.threads, once=once,
    )  # fmt: skip
    crop = choose_crop(architecture, request.crop)
    # Trained weights only need to be adapted, random ones have far to go.
    learning_rate = request.learning_rate
    if learning_rate is None:
        learning_rate = _FINE_TUNING_RATE if start.trained else _TRAINING_RATE
    identity = Identity(
        request, recipe, architecture=architecture, name=_name_of(architecture, request), dataset=dataset,
        weights=start.sha256, crop=crop, learning_rate=learning_rate, identities=identities,
        graph="" if isinstance(request.architecture, str) else hashlib.sha256(exported.data).hexdigest(),
    )  # fmt: skip
    fingerprint = identity.fingerprint(given)
    return ApplyPlan(
        request,
        recipe,
        StagePlan(
            architecture, stages, dataset, budgets, request.batch, crop, learning_rate, request.precision,
            request.seed, teachers, fingerprint, tuple(identity.stage_keys(stages, budgets)),
        ),
        data,
        specialized.half_weights,
        start,
        original,
        exported,
        once,
        identity,
        fingerprint,
        specialized.target,
    )  # fmt: skip


def _has_labels(dataset: Dataset, architecture: Architecture) -> bool:
    first = next(iter(dataset.frames(architecture, "test")), None)
    return first is not None and first.target is not None


def _unnormalised(architecture: Architecture) -> bool:
    """Whether a classifier of images states no mean and deviation."""
    takes, gives = architecture.input, architecture.output
    return takes.kind in ("rgb", "gray") and gives.kind == "logits" and not takes.mean


def _name_of(architecture: Architecture, request: ApplyRequest) -> str:
    """Return what the user called it, except for a file or a module, which others do not have."""
    stated = request.architecture
    return architecture.id if architecture.named or not isinstance(stated, str) else stated
