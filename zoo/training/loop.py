"""The one training loop, for every technique, on any device, in one process or many."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from zoo import plugins
from zoo.errors import UsageError, ZooError
from zoo.modules.output_tree import split_outputs, tensors_of
from zoo.tasks.losses import exact_sigmoids, following_loss
from zoo.training.feed import Batch, Feed
from zoo.training.inputs import normalise
from zoo.training.schedule import Budget, Precision, Schedule
from zoo.training.state import Progress, load_state, save_state
from zoo.training.training_mode import TrainingForward

if TYPE_CHECKING:
    from zoo.contracts import Architecture, CropSize, Dataset, LossTerm, Reporter

_SAVE_SECONDS = 60.0
_SHOW_EVERY = 10


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    Attributes:
        batch: Crops per step, over all processes.
        crop: Size of a crop in pixels of the input tensor.
        learning_rate: The highest rate of Adam.
        precision: "auto" uses bfloat16 if the processor computes in it.
    """

    budget: Budget
    batch: int = 4
    crop: CropSize = 128
    learning_rate: float = 4e-4
    precision: Precision = "auto"
    seed: int = 0


@dataclass
class TrainingResult:
    """What a training did.

    Attributes:
        losses: (step, mean loss since the one before).
        held_out: Loss at the start and at the end on crops drawn again from the training data; empty where they were
            not compared. The network is that with the lower one.
    """

    steps: int
    seconds: float
    precision: str
    losses: list[list[float]] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether `device` multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, probe, bool)() for probe in probes)


def trainable(model: nn.Module, name: str) -> list[nn.Parameter]:
    """Return the parameters of a network that training changes.

    Args:
        model: The network.
        name: What messages call it.

    Raises:
        UsageError: There are none.
    """
    weights = list(model.parameters())
    changed = [each for each in weights if each.requires_grad]
    if changed:
        return changed
    if weights:
        raise UsageError(
            f"All {sum(each.numel() for each in weights):,} parameters of {name} are frozen; none can be trained.",
            hint="Set requires_grad of those that should change, as in  model.requires_grad_(True)",
        )
    raise UsageError(
        f"{name} has no parameters, so nothing can be trained.",
        hint="Assign its layers to attributes, or keep them in nn.ModuleList: a plain list hides their weights.",
    )


def train(
    model: nn.Module,
    *,
    architecture: Architecture,
    dataset: Dataset,
    settings: TrainingSettings,
    reporter: Reporter,
    teacher: nn.Module | None = None,
    terms: Sequence[LossTerm] = (),
    state: Path | None = None,
    key: str = "",
    title: str = "train",
    freeze_norm: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[nn.Module, TrainingResult]:
    """Train `model` and return it on the CPU.

    The loss is that of the task between output and target, or without targets that of following the teacher's output
    (:mod:`zoo.tasks.losses`), plus `terms`.

    Args:
        state: Where progress is kept: an interrupted run with the same `key` goes on where it was, and Ctrl-C
            saves before it stops.
        key: Identifies the run.
        freeze_norm: Whether the statistics of batch norms are kept: right for fine-tuning, since a few crops
            tell less than the data they were made from.
        clock: Measures a budget in minutes; returns seconds.

    Raises:
        UsageError: No parameter can change.
        ZooError: The loss is no longer finite.
    """
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision="no")
    if settings.batch % accelerator.num_processes:
        raise UsageError(
            f"A batch of {settings.batch} is not divisible by {accelerator.num_processes} processes.",
            hint=f"Give a multiple: --batch {settings.batch + -settings.batch % accelerator.num_processes}",
        )
    device = accelerator.device
    precision = settings.precision
    if precision == "auto":
        precision = "bfloat16" if has_fast_bfloat16(device) else "float32"
    model.train()
    if freeze_norm:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
    model = _placed(model, device)
    parts = modules_of(terms).to(device)
    whole = nn.ModuleList([model, parts]) if len(parts) else model
    weights = trainable(whole, architecture.id)
    optimizer = torch.optim.Adam(weights, lr=settings.learning_rate)
    torch.manual_seed(settings.seed)
    progress = (load_state(state, key, whole, optimizer) if state else None) or Progress(key)
    schedule = Schedule(settings.budget, progress.seconds, progress.total, clock)
    result = TrainingResult(progress.step, progress.seconds, precision, progress.losses)
    wrapped = accelerator.prepare(model) if accelerator.num_processes > 1 else model
    forward = TrainingForward(
        wrapped, model, architecture.id, lambda sentence: reporter.note(f"{title}: {sentence}")
    )
    if teacher is not None:
        teacher = _placed(teacher.eval(), device)
    feed = Feed(
        dataset, architecture, size=settings.crop, batch=settings.batch, seed=settings.seed,
        start=progress.step, rank=accelerator.process_index, world=accelerator.num_processes,
    )  # fmt: skip

    def keep() -> None:
        progress.step, progress.seconds, progress.total = result.steps, schedule.elapsed, schedule.total
        if state is not None and accelerator.is_main_process:
            save_state(state, progress, whole, optimizer)

    reporter.start(title, schedule.length, "s" if schedule.timed else "steps")
    if progress.step:
        reporter.advance(progress.seconds if schedule.timed else progress.step)
    attached = ExitStack()
    saved = shown = schedule.elapsed
    running = torch.zeros((), device=device)
    since = 0
    try:
        attached.enter_context(exact_sigmoids(model, architecture.output))
        for term in terms:
            if term.begin is not None:
                attached.callback(term.begin(model))
        for batch in feed:
            if accelerator.num_processes > 1:
                _agree_on_total(schedule, result.steps, accelerator)
            else:
                schedule.plan(result.steps)
            if schedule.done(result.steps):
                break
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * schedule.factor(result.steps)
            half = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
            with half, _blamed_on(architecture):
                loss, outputs = _loss(forward, model, batch, device, teacher, terms, architecture)
            if outputs > 1 and result.steps == progress.step:
                reporter.note(
                    f"{title}: in training the network returns {outputs} outputs; only the first is used."
                )
            optimizer.zero_grad(set_to_none=True)
            with _blamed_on(architecture):
                accelerator.backward(loss)
            if accelerator.num_processes > 1:
                _average_gradients(parts, accelerator)
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            result.steps += 1
            running += loss.detach()
            since += 1
            if since == _SHOW_EVERY or schedule.done(result.steps):
                mean = float(accelerator.reduce(running, "mean")) / since
                if mean != mean or mean in (float("inf"), float("-inf")):
                    raise ZooError(
                        f"The loss is {mean} at step {result.steps}: training diverged.",
                        hint=f"Try a lower rate: --learning-rate {settings.learning_rate / 4:g}",
                    )
                result.losses.append([result.steps, round(mean, 6)])
                shown = _show(reporter, schedule, shown, since, mean)
                running.zero_()
                since = 0
            if schedule.elapsed - saved > _SAVE_SECONDS:
                keep()
                saved = schedule.elapsed
    finally:
        attached.close()
        feed.close()
        keep()
        reporter.finish()
    result.seconds = schedule.elapsed
    parts.cpu()
    return as_trained(model), result


def as_trained(model: nn.Module) -> nn.Module:
    """Return the module on the CPU in eval mode and the plain memory layout, which exporting writes into shapes."""
    plain: nn.Module = model.to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return plain.eval()


def modules_of(terms: Sequence[LossTerm]) -> nn.ModuleList:
    """Return what is trained in addition to the network for the sake of `terms`, each module once."""
    return nn.ModuleList({id(term.module): term.module for term in terms if term.module is not None}.values())


def _show(reporter: Reporter, schedule: Schedule, shown: float, steps: int, loss: float) -> float:
    """Advance the bar by steps, or by seconds where the budget is time; returns the seconds shown so far."""
    now = schedule.elapsed
    rate = f"{steps / max(now - shown, 1e-9):.1f} steps/s"
    reporter.advance(now - shown if schedule.timed else steps, loss=loss, rate=rate)
    return now


def _agree_on_total(schedule: Schedule, step: int, accelerator: Any) -> None:
    """Every process stops at the step the first one plans, or they would wait for each other for ever."""
    if not schedule.timed:
        return
    if accelerator.is_main_process:
        schedule.plan(step)
    total = torch.tensor(schedule.total if schedule.total is not None else -1, device=accelerator.device)
    torch.distributed.broadcast(total, 0)
    schedule.total = None if int(total) < 0 else int(total)


def _placed(module: nn.Module, device: torch.device) -> nn.Module:
    """On the device, weights of convolutions with their channels innermost, which is what they compute fastest with."""
    module = module.to(device)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dim() == 4:  # `Module.to` would have tensors of five in that order as well, and fails
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return module


def _average_gradients(parts: nn.Module, accelerator: Any) -> None:
    """Share the gradients of what is trained in addition to the network, which is not wrapped."""
    for parameter in parts.parameters():
        if parameter.grad is not None:
            parameter.grad = accelerator.reduce(parameter.grad, "mean")


@contextmanager
def _blamed_on(architecture: Architecture) -> Iterator[None]:
    """Report that torch has no gradients of what a network changes in place as what is wrong with the network."""
    try:
        yield
    except RuntimeError as error:
        if "inplace" not in str(error):
            raise
        raise ZooError(
            f"{architecture.id} cannot be trained, since it changes tensors in place that gradients need: {error}",
            hint="Write that part without changing tensors in place (y = x * 2 instead of x.mul_(2)), or use a recipe "
            "that trains nothing:  ptq",
        ) from error


def _loss(
    forward: TrainingForward,
    model: nn.Module,
    batch: Batch,
    device: torch.device,
    teacher: nn.Module | None,
    terms: Sequence[LossTerm],
    architecture: Architecture,
) -> tuple[torch.Tensor, int]:
    """The loss of a batch, and how many outputs the network returned."""
    inputs = normalise(batch.inputs.to(device), architecture.input).contiguous(
        memory_format=torch.channels_last
    )
    returned = forward(inputs)
    main, extras = split_outputs(returned, architecture)
    outputs = main.float()
    targets = batch.targets
    task = plugins.task_of(architecture)
    compare = task.loss(architecture.output) if targets is not None else None
    compared = returned if task.whole_output else outputs
    others = torch.zeros((), device=device)
    if targets is None or compare is None:
        if teacher is None:
            raise ZooError("This data has no targets to train on, and there is no teacher to follow.")
        with torch.no_grad():
            answer, answers = split_outputs(teacher(inputs), architecture)
        targets, compare, compared = answer.float(), following_loss(architecture.output), outputs
        for name in extras.keys() & answers.keys():
            follow = following_loss(architecture.extra_outputs[name])
            others = others + follow(extras[name].float(), answers[name].float())
    targets = targets.to(device)
    loss = compare(compared, targets)
    if not loss.requires_grad:
        raise UsageError(
            f"What {architecture.id} outputs carries no gradient to its weights, so labels cannot train it.",
            hint="State a loss on what it computes in training mode: LOSS = a function of (outputs, targets) in the "
            "network's file, or loss=... from Python; or use a recipe that trains nothing:  ptq",
        )
    loss = loss + others
    own = 1 + sum(term.weight for term in terms if term.scales_task)
    if own != 1:
        loss = own * loss
    for term in terms:
        if not term.scales_task:
            loss = loss + term.weight * term.compute(inputs, outputs, targets, model)
    return loss, 1 if extras else len(tensors_of(returned))
