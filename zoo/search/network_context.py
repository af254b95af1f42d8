"""The network before any recipe, with what techniques may use, as a run of a recipe would give it to them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.contracts import SilentReporter

if TYPE_CHECKING:
    from zoo.contracts import Architecture, Context
    from zoo.pipeline.request import ApplyRequest


def open_context(base: ApplyRequest, architecture: Architecture) -> Context:
    """Return what techniques may use; its teacher is the network, with its weights.

    Args:
        base: Everything but the recipe.
        architecture: That of the network, with the input that suits the recipe.

    Raises:
        ZooError: The network, its weights or its data cannot be opened.
    """
    import torch

    from zoo.data.choose import choose_dataset
    from zoo.pipeline.input_spec import choose_crop
    from zoo.pipeline.plain_network import make_network_plain
    from zoo.pipeline.stage_runner import StageRunner
    from zoo.pipeline.stages import StagePlan
    from zoo.training.teachers import load_teacher
    from zoo.training.weights import build_start, load_start

    _, dataset = choose_dataset(base.data, base.photos, architecture)
    torch.manual_seed(base.seed)
    network = build_start(architecture, base.weights).eval()
    load_start(network, architecture, base.weights, entry=base.weights_key, partial=base.partial)
    for _ in make_network_plain(network, architecture.input):
        pass
    plan = StagePlan(
        architecture, (), dataset, (), base.batch, choose_crop(architecture, base.crop), 0.0, base.precision,
        base.seed, functools.cache(load_teacher), "",
    )  # fmt: skip
    return StageRunner(plan, network, SilentReporter(), Path()).context
