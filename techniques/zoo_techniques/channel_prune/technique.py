"""Channels that matter least are removed, with everything that depends on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from zoo.contracts import Context, Phase, Technique
from zoo.errors import UsageError, ZooError
from zoo.options import option

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.surgery.dependency.channel_graph import Channels
    from zoo_techniques.channel_prune.selection import Group


@dataclass(frozen=True)
class ChannelPruneConfig:
    """ratio:      share of the channels that goes; half of them if neither `ratio` nor `macs` is given.
    macs:       share of the multiply-accumulates that may stay; the ratio follows from it.
    importance: what the channels are ranked by: "output", the variance they bring into the layers that take
                them; "taylor", what they change in the network's output to first order; "l1" and "l2", the norm
                of their weights; "bn", the scale of the batch norm behind them.
    scope:      "layer" takes the same share of every layer; "net" ranks all channels together, each by its
                importance over the mean of its layer.
    round_to:   layers keep a multiple of so many channels, where they have as many.
    refine:     fit the layers that are left to calibration activations.
    images:     calibration pictures to rank and to fit on.
    """

    ratio: float | None = option(
        None, help="share of the channels that goes; 0.5 unless macs is given", minimum=0.01, maximum=0.99
    )
    macs: float | None = option(
        None,
        help="share of the multiply-accumulates that may stay, instead of ratio",
        minimum=0.01,
        maximum=0.99,
    )
    importance: Literal["output", "taylor", "l1", "l2", "bn"] = option(
        "output", help="what channels are ranked by"
    )
    scope: Literal["layer", "net"] = option(
        "layer", help="whether every layer loses the same share or all channels are ranked together"
    )
    round_to: int = option(4, help="layers keep a multiple of so many channels", unit="channel", minimum=1)
    refine: bool = option(True, help="fit the layers that are left to calibration activations")
    images: int = option(16, help="calibration pictures to rank and to fit on", minimum=1)

    def __post_init__(self) -> None:
        if self.ratio is not None and self.macs is not None:
            raise ValueError("give ratio or macs, not both")


class ChannelPrune(Technique):
    """Removes whole channels, with everything that depends on them, and fits what is left by least squares."""

    id: ClassVar[str] = "channel-prune"
    summary: ClassVar[str] = "the least important channels are removed, the layers left are fitted again"
    paper: ClassVar[str] = (
        "He, Zhang and Sun, Channel Pruning, ICCV 2017; Luo et al., ThiNet, ICCV 2017; Fang et al., DepGraph, CVPR 2023"
    )
    phase: ClassVar[Phase] = Phase.STRUCTURE
    Config: ClassVar[type] = ChannelPruneConfig
    config: ChannelPruneConfig

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """The same network with fewer channels. Raises ZooError if none can be removed."""
        from zoo.cost import model_cost
        from zoo.surgery.dependency.channel_graph import Channels
        from zoo.surgery.reconstruction.refit import Wanted, downstream, record, refit
        from zoo.surgery.reconstruction.replace import fitting_batches
        from zoo.surgery.tracing import trace
        from zoo_techniques.channel_prune.selection import groups_of, multiplications, remove

        batches = fitting_batches(context, True, self.config.images)
        module = trace(model, context.example_input)
        channels = Channels(module)
        groups = groups_of(channels)
        if not groups:
            raise ZooError(f"{self.id} finds no channels in {type(model).__name__} that can be removed.")
        self._report(channels, context)
        importance = self._importance(channels, model, batches, context)
        total = model_cost(model, context.example_input).macs
        others = total - multiplications(channels)  # of layers whose channels all stay
        removed = self._removed(channels, groups, importance, total, others)
        left = (others + multiplications(channels, removed)) / max(total, 1)
        fitted = batches if self.config.refine else []
        changed = [
            r.owner for r in channels.roles.values() if any(channels.root(x) in removed for x in r.labels)
        ]
        layers = downstream(module, changed)
        targets = record(model, layers, fitted, context)
        kept = remove(model, module, channels, removed)
        refit(
            model,
            {layer: Wanted(wanted.name, layer, kept.get(layer)) for layer, wanted in layers.items()},
            targets,
            fitted,
            context,
            self.id,
        )
        units = sum(len(group.units) for group in groups)
        context.report.note(
            f"{self.id}: {len(removed)} of {units} channels removed, {left:.0%} of the multiplications stay"
        )
        return model

    def _removed(
        self, channels: Channels, groups: list[Group], importance: dict[int, float], total: int, others: int
    ) -> set[int]:
        """What goes; with `macs` the smallest ratio that reaches it."""
        from zoo_techniques.channel_prune.selection import choose, choose_within, multiplications

        config = self.config

        def at(ratio: float) -> set[int]:
            return choose(groups, importance, ratio, globally=config.scope == "net", round_to=config.round_to)

        if config.macs is None:
            removed = at(0.5 if config.ratio is None else config.ratio)
        else:
            least = (others + multiplications(channels, at(1.0))) / max(total, 1)
            if least > config.macs:
                raise UsageError(
                    f"{self.id} cannot bring the network down to {config.macs:g} of its multiplications; "
                    f"{least:.2f} are left when every layer that can be cut has a tenth of its channels.",
                    hint=f"Write macs={least + 0.01:.2f} or more.",
                )
            removed = choose_within(channels, config.macs * total - others, groups, at)
        if not removed:
            raise UsageError(
                f"{self.id} would remove nothing: the network's layers have too few channels for this ratio.",
                hint=f"Remove more with a larger ratio, or round less than to {config.round_to} channels: round_to=1",
            )
        return removed

    def _importance(
        self, channels: Channels, model: nn.Module, batches: list[Tensor], context: Context
    ) -> dict[int, float]:
        from zoo_techniques.channel_prune import selection as rank

        kind = self.config.importance
        if kind in ("output", "taylor") and not batches:
            context.report.note(
                f"{self.id}: no calibration data, channels are ranked by the norm of their weights"
            )
            kind = "l2"
        if kind == "output":
            return rank.by_contribution(channels, model, batches)
        if kind == "taylor":
            return rank.by_gradient(channels, model, batches, context.seed)
        if kind == "bn":
            found = rank.by_scale(channels)
            if not found:
                raise UsageError(
                    f"{type(model).__name__} has no batch norm to rank channels by.",
                    hint=f"Rank by something else:  {self.id}(importance=output)",
                )
            return found
        return rank.by_norm(channels, 1 if kind == "l1" else 2)

    def _report(self, channels: Channels, context: Context) -> None:
        """Name every layer all of whose outputs have to stay."""
        for role in channels.roles.values():
            if role.kind == "out" and all(channels.pinned(label) for label in role.labels):
                context.leave(self.id, role.name, "something that takes its channels needs all of them")
        for name, reason in channels.reasons.items():
            context.leave(self.id, name, reason)
