"""Channels that matter least are removed, with everything that depends on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from zoo.contracts import Context, Phase, Technique
from zoo.errors import UsageError, ZooError
from zoo.options import option

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.surgery.dependency import ChannelDependencies
    from zoo_techniques.channel_prune.selection import Pool


@dataclass(frozen=True)
class ChannelPruneConfig:
    """Options of `channel-prune`.

    Attributes:
        ratio: Share of the channels to remove; half of them if neither `ratio` nor `macs` is given.
        macs: Share of the multiply-accumulates that may stay; the ratio follows from it.
        importance: What the channels are ranked by: "output", the variance they bring into the layers that
            take them; "taylor", what they change in the network's output to first order; "l1" and "l2", the
            norm of their weights; "bn", the scale of the batch norm behind them.
        scope: "layer" takes the same share of every layer; "net" ranks all channels together, each by its
            importance over the mean of its layer.
        round_to: Layers keep a multiple of this number of channels, where they have that many; some more and some
            fewer than their share, so that all together keep it.
        refine: Fit the layers that are left to calibration activations.
        images: Calibration images to rank and to fit on; none for
            :attr:`zoo.contracts.Context.fitting_images`.
    """

    ratio: float | None = option(
        None, help="share of the channels to remove; 0.5 unless macs is given", minimum=0.01, maximum=0.99
    )
    macs: float | None = option(
        None,
        help="share of the multiply-accumulates to keep at most, instead of ratio",
        minimum=0.01,
        maximum=0.99,
    )
    importance: Literal["output", "taylor", "l1", "l2", "bn"] = option(
        "output", help="how channels are ranked"
    )
    scope: Literal["layer", "net"] = option(
        "layer", help="whether every layer loses the same share or all channels are ranked together"
    )
    round_to: int = option(
        4, help="layers keep a multiple of this number of channels", unit="channel", minimum=1
    )
    refine: bool = option(True, help="fit the remaining layers to calibration activations")
    images: int | None = option(
        None,
        help="calibration images for ranking and fitting; none: as many as its smallest layers need",
        minimum=1,
    )

    def __post_init__(self) -> None:
        if self.ratio is not None and self.macs is not None:
            raise ValueError("ratio and macs cannot be combined: use ratio or macs, not both")


class ChannelPrune(Technique):
    """Remove whole channels, with everything that depends on them, and refit the remaining layers by least squares."""

    id: ClassVar[str] = "channel-prune"
    summary: ClassVar[str] = "remove the least important channels, and refit the remaining layers"
    paper: ClassVar[str] = (
        "He, Zhang and Sun, Channel Pruning, ICCV 2017; Luo et al., ThiNet, ICCV 2017; Fang et al., DepGraph, CVPR 2023"
    )
    phase: ClassVar[Phase] = Phase.STRUCTURE
    Config: ClassVar[type] = ChannelPruneConfig
    config: ChannelPruneConfig
    #: Whether it only stands for one that ranks its channels by something else.
    _counts: bool = False

    def without_fitting(self) -> ChannelPrune | None:
        """Return the same, ranking by weights; None if all layers are ranked together, and ranks decide on shapes."""
        if self.config.scope == "net":
            return None
        found = ChannelPrune(replace(self.config, importance="l2", refine=False, images=1))
        found._counts = True
        return found

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """Return the network with fewer channels.

        Raises:
            ZooError: No channel can be removed.
        """
        from zoo.cost import model_cost
        from zoo.surgery import trace
        from zoo.surgery.dependency import ChannelDependencies, remove_groups
        from zoo.surgery.reconstruction import (
            RefitTarget,
            fitting_batches,
            record_outputs,
            refit_layers,
            targets_downstream,
        )
        from zoo_techniques.channel_prune.selection import count_macs, find_pools

        batches = fitting_batches(context, not self._counts, self.config.images)
        module = trace(model, context.example_input)
        dependencies = ChannelDependencies(module)
        pools = find_pools(dependencies)
        if not pools:
            raise ZooError(f"{self.id} finds no channels in {type(model).__name__} that can be removed.")
        if self._counts and any(len(set(pool.channels.values())) > 1 for pool in pools):
            raise ZooError(f"{self.id} removes channels by the group: how many depends on their ranks.")
        self._report(dependencies, context)
        importance = self._importance(dependencies, model, batches, context)
        total = model_cost(model, context.example_input).macs
        others = total - count_macs(dependencies)  # of layers whose channels all stay
        removed = self._choose(dependencies, pools, importance, total, others)
        left = (others + count_macs(dependencies, removed)) / max(total, 1)
        fitted = batches if self.config.refine else []
        changed = [
            r.owner
            for r in dependencies.slices.values()
            if any(dependencies.group_of(x) in removed for x in r.labels)
        ]
        layers = targets_downstream(module, changed)
        targets = record_outputs(model, layers, fitted, context)
        kept = remove_groups(model, dependencies, removed)
        refit_layers(
            model,
            {layer: RefitTarget(wanted.name, layer, kept.get(layer)) for layer, wanted in layers.items()},
            targets,
            fitted,
            context,
            self.id,
        )
        groups = sum(len(pool.groups) for pool in pools)
        context.report.note(
            f"{self.id}: {len(removed)} of {groups} channels removed ({len(removed) / groups:.1%}), {left:.0%} of the "
            "multiplications stay"
        )
        return model

    def _choose(
        self,
        dependencies: ChannelDependencies,
        pools: list[Pool],
        importance: dict[int, float],
        total: int,
        others: int,
    ) -> set[int]:
        """What goes; with `macs` the smallest ratio that reaches it."""
        from zoo_techniques.channel_prune.selection import choose, choose_within, count_macs

        config = self.config

        def at(ratio: float) -> set[int]:
            return choose(pools, importance, ratio, globally=config.scope == "net", round_to=config.round_to)

        if config.macs is None:
            removed = at(0.5 if config.ratio is None else config.ratio)
        else:
            least = (others + count_macs(dependencies, at(1.0))) / max(total, 1)
            if least > config.macs:
                raise UsageError(
                    f"{self.id} cannot bring the network down to {config.macs:g} of its multiplications; "
                    f"{least:.2f} are left when every prunable layer has a tenth of its channels.",
                    hint=f"Use macs={least + 0.01:.2f} or more.",
                )
            removed = choose_within(dependencies, config.macs * total - others, pools, at)
        if not removed:
            raise UsageError(
                f"{self.id} would remove nothing: the network's layers have too few channels for this ratio.",
                hint=f"Remove more with a larger ratio, or round to fewer than {config.round_to} channels: round_to=1",
            )
        return removed

    def _importance(
        self, dependencies: ChannelDependencies, model: nn.Module, batches: list[Tensor], context: Context
    ) -> dict[int, float]:
        from zoo_techniques.channel_prune import selection as rank

        kind = self.config.importance
        if kind in ("output", "taylor") and not batches:
            context.report.note(
                f"{self.id}: no calibration data; channels are ranked by the norm of their weights"
            )
            kind = "l2"
        if kind == "output":
            return rank.by_contribution(dependencies, model, batches)
        if kind == "taylor":
            return rank.by_gradient(dependencies, model, batches, context.seed)
        if kind == "bn":
            found = rank.by_scale(dependencies)
            if not found:
                raise UsageError(
                    f"{type(model).__name__} has no batch norm to rank channels by.",
                    hint=f"Rank by something else:  {self.id}(importance=output)",
                )
            return found
        return rank.by_norm(dependencies, 1 if kind == "l1" else 2)

    def _report(self, dependencies: ChannelDependencies, context: Context) -> None:
        """Name every layer all of whose outputs have to stay."""
        for part in dependencies.slices.values():
            if part.kind == "out" and all(dependencies.is_frozen(label) for label in part.labels):
                context.skip_layer(self.id, part.name, "one of its consumers needs all of its channels")
        for name, reason in dependencies.reasons.items():
            context.skip_layer(self.id, name, reason)
