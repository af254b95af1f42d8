"""What a Python program passes to :func:`zoo.apply` in place of names: a module, data, a loss, metrics."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, ValuesView
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zoo import plugins
from zoo.contracts import Architecture, Dataset, Metric, Task
from zoo.errors import UsageError, ZooError
from zoo.extras import require

if TYPE_CHECKING:
    from torch import Tensor

#: From (outputs, targets) of a batch to a scalar tensor.
Loss = Callable[[Any, Any], "Tensor"]
#: From (outputs, targets) of a batch to a number; several by name.
Metrics = Callable[[Any, Any], Any] | Mapping[str | Metric, Callable[[Any, Any], Any]]

_OPTION = re.compile(r"--([a-z][a-z-]*)(?:[ =]('[^']*'|\"[^\"]*\"|[^\s,;:()]*[^\s,;:().]))?")


def own_data(data: Any, test: Any, model: Any = None, example: Any = None) -> Dataset | str | None:
    """Return a program's data as a dataset; a name or a dataset as it is.

    Args:
        data: For training and calibration.
        test: What files are measured on.
        model: The network, whose inputs batches may hold by name.
        example: Of its inputs.

    Raises:
        ZooError: It is of no known kind, or empty.
    """
    if data is None or isinstance(data, (str, Dataset)):
        if test is not None:
            raise UsageError(
                "test=... needs data=... of the same kind.",
                hint="A dataset that is named has a test split of its own.",
            )
        return data
    require("torch", "Compressing a network")
    from zoo.data.program_data import ProgramData

    if not hasattr(model, "forward"):
        return ProgramData(data, test)
    from zoo.architectures.model_in_memory import input_names

    return ProgramData(data, test, input_names(model, example))


def own_architecture(
    model: Any,
    data: Dataset | str | None,
    example: Any,
    *,
    loss: Loss | None,
    metric: Metrics | None,
    task: Task | str | None,
    **specs: Any,
) -> Architecture | str | None:
    """Return what a program passes as the network, with its loss and metrics, as an architecture.

    Args:
        model: An `nn.Module`, an architecture, a name, or None.
        data: What :func:`own_data` returned; its first sample is the example, if there is none.
        example: A tensor with a batch dimension, several in a tuple, or in a dictionary by name.
        loss: The program's loss.
        metric: The program's metrics.
        task: The task.
        specs: What the program states of input and output.

    Raises:
        ZooError: The network, the example or a metric cannot be used.
    """
    stated = {name: value for name, value in specs.items() if value}
    if model is None or isinstance(model, str):
        if loss is None and metric is None and task is None:
            if example is not None:
                raise UsageError("example=... is for networks that are passed as modules.")
            return model
        if model is None:
            raise UsageError("loss, metric and task need the network: name it, or pass it.")
        from zoo.architectures.own_networks import with_specs

        name = with_specs(model, specs.get("input", ""), specs.get("output", ""))
        architecture = plugins.architecture(name, own_files=True)
        architecture.named = architecture.named or model
    elif isinstance(model, Architecture):
        architecture = model
    else:
        architecture = _in_memory(model, data, example, task, stated)
    base = (
        plugins.task_of(architecture)
        if task is None
        else task
        if isinstance(task, Task)
        else plugins.task(task)
    )
    if loss is not None or metric is not None:
        from zoo.pipeline.own_task import OwnTask

        base = OwnTask(base, architecture, loss, _named(metric))
    architecture.task = base  # type: ignore[assignment]
    return architecture


def _in_memory(
    model: Any, data: Any, example: Any, task: Task | str | None, stated: Mapping[str, Any]
) -> Architecture:
    torch = require("torch", "Compressing a network")
    from zoo.architectures.model_in_memory import ModelInMemory
    from zoo.data.program_data import ProgramData

    if not isinstance(model, torch.nn.Module):
        raise UsageError(
            f"The network is {type(model).__name__}, not a torch.nn.Module.",
            hint="Pass the module itself, or the name of an architecture.",
        )
    if example is None and isinstance(data, ProgramData):
        example = data.example()
    every = example.values() if isinstance(example, Mapping) else example
    tensors = list(every) if isinstance(every, (tuple, list, ValuesView)) else [every]
    if not tensors or not all(isinstance(each, torch.Tensor) for each in tensors):
        raise UsageError(
            "The size of the input is not known.",
            hint="Pass an example: example=torch.rand(1, 3, 224, 224), or for several inputs example=(a, b)",
        )
    tensors = [each.detach().cpu() for each in tensors]
    tensors = [each.float() if each.is_floating_point() else each for each in tensors]
    if isinstance(example, Mapping):
        return ModelInMemory(model, dict(zip(example, tensors, strict=True)), task=task, **stated)
    return ModelInMemory(model, tensors if len(tensors) > 1 else tensors[0], task=task, **stated)


def _named(metric: Metrics | None) -> dict[str | Metric, Callable[[Any, Any], Any]]:
    if metric is None:
        return {}
    if isinstance(metric, Mapping):
        return dict(metric)
    name = getattr(metric, "__name__", type(metric).__name__)
    return {"metric" if name == "<lambda>" else name: metric}


@contextmanager
def words_of_python() -> Iterator[None]:
    """Say options of the command line in errors as arguments: ``--max-loss 2pt`` as ``max_loss='2pt'``."""
    try:
        yield
    except ZooError as error:
        error.message = _OPTION.sub(_argument, error.message)
        error.hint = None if error.hint is None else _OPTION.sub(_argument, error.hint)
        raise


def _argument(option: re.Match[str]) -> str:
    name, value = option[1].replace("-", "_"), option[2]
    if not value or not any(character.isalnum() for character in value):
        return f"the argument {name}"
    bare = value.strip("'\"")
    return f"{name}={bare}" if re.fullmatch(r"-?[\d.]+|None", bare) else f"{name}={bare!r}"
