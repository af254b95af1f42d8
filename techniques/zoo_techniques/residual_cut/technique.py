"""Cutting residual links where the neighbouring layers can do without them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, ClassVar, Literal

from zoo.contracts import Context, Phase, Technique
from zoo.errors import UnknownIdError, UsageError, ZooError
from zoo.options import option
from zoo.suggest import did_you_mean

if TYPE_CHECKING:
    from torch import Tensor, fx, nn

    from zoo_techniques.residual_cut.links import Link

#: pictures that links are ranked on: each link is a run of what comes after it
_RANKING_IMAGES = 4


@dataclass(frozen=True)
class ResidualCutConfig:
    """Options of `residual-cut`.

    Attributes:
        which: Names of the blocks whose links are cut, or patterns with * and ?; none for the `count`
            cheapest.
        count: How many links to cut, those first whose cut changes the output least.
        links: "residual", sums around a block; "skip", concatenations from encoder to decoder; or both.
        refine: Fit the layers next to a link to calibration activations.
        images: Calibration images to fit on; none for :attr:`zoo.contracts.Context.fitting_images`.
    """

    which: tuple[str, ...] = option((), help="names of blocks, or patterns; instead of count")
    count: int = option(1, help="how many links to cut, the cheapest first", minimum=1)
    links: Literal["residual", "skip", "all"] = option("residual", help="links that may be cut")
    refine: bool = option(True, help="fit the layers next to a link to calibration activations")
    images: int | None = option(
        None, help="calibration images for fitting; none: as many as its smallest layers need", minimum=1
    )


class ResidualCut(Technique):
    """Cut residual links, and refit the convolutions next to them so that they compensate."""

    id: ClassVar[str] = "residual-cut"
    summary: ClassVar[str] = "cut residual links, and let the neighbouring convolutions take over"
    paper: ClassVar[str] = "Ding et al., RepVGG, CVPR 2021; Zagoruyko and Komodakis, DiracNets, 2017"
    phase: ClassVar[Phase] = Phase.STRUCTURE
    must_shrink: ClassVar[bool] = False
    Config: ClassVar[type] = ResidualCutConfig
    config: ResidualCutConfig

    def without_fitting(self) -> ResidualCut | None:
        """Return the same without fitting; None if the links are chosen by what their cut changes."""
        return ResidualCut(replace(self.config, refine=False, images=1)) if self.config.which else None

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """Return the network without the links.

        Raises:
            ZooError: The network has no links of this kind.
            UnknownIdError: There is no block of a given name.
        """
        from zoo.surgery import clean_up_graph, propagate_shapes, trace
        from zoo.surgery.reconstruction import fitting_batches, record_outputs, refit_layers
        from zoo_techniques.residual_cut.links import LinkCut, held_at_once, residual_links, skip_links

        module = trace(model, context.example_input)
        links = residual_links(module) if self.config.links != "skip" else []
        links += skip_links(module) if self.config.links != "residual" else []
        if not links:
            kind = {"residual": "residual links", "skip": "skip links"}.get(self.config.links, "links")
            raise ZooError(f"{self.id} finds no {kind} in {type(model).__name__} that could be cut.")
        pictures = fitting_batches(context, True, _RANKING_IMAGES) or [context.example_input]
        chosen = self._select(links, self._errors(module, links, pictures, context), context)
        batches = fitting_batches(context, self.config.refine, self.config.images)
        held = held_at_once(module)
        for link in chosen:
            cut = LinkCut(module, link)
            targets = record_outputs(
                module, [wanted.source for wanted in cut.layers.values()], batches, context, cut.view
            )
            cut.apply()
            clean_up_graph(module)
            propagate_shapes(module, context.example_input)
            error = refit_layers(module, cut.layers, targets, batches, context, self.id)
            how = "taken over exactly" if link.exact else "nothing next to it could be fitted"
            if error is not None and cut.layers:
                how = f"refitted, {error:.1%} missed there"
            context.report.note(f"{self.id}: {link.name} cut, {how}")
        now = held_at_once(module)
        context.report.note(
            f"{self.id}: activations held at once, example input: {held / 1e6:.2f} MB before, {now / 1e6:.2f} MB now"
        )
        return module

    def _errors(
        self, module: fx.GraphModule, links: list[Link], pictures: list[Tensor], context: Context
    ) -> dict[str, float]:
        """Relative change of the output when a link is cut alone and nothing is fitted."""
        from zoo_techniques.residual_cut.links import errors_without

        tries = len(pictures) * sum(not link.exact for link in links)
        context.report.start(f"{self.id}: try each link", tries, "tries")
        errors = errors_without(module, links, pictures, lambda link: context.report.advance(link=link.name))
        context.report.finish()
        ranked = ", ".join(f"{name} {errors[name]:.1%}" for name in sorted(errors, key=errors.__getitem__))
        context.report.note(
            f"{self.id}: change of the output when only that link is cut and nothing is fitted: {ranked}"
        )
        return errors

    def _select(self, links: list[Link], errors: dict[str, float], context: Context) -> list[Link]:
        known = [link.name for link in links]
        if self.config.which:
            for pattern in self.config.which:
                if not any(fnmatchcase(name, pattern) for name in known):
                    raise UnknownIdError(
                        f"No block with a link that could be cut is called '{pattern}'{did_you_mean(pattern, known)}",
                        hint=f"Blocks with links: {', '.join(known)}",
                    )
            names = {n for n in known if any(fnmatchcase(n, pattern) for pattern in self.config.which)}
        else:
            if self.config.count > len(links):
                raise UsageError(
                    f"{self.id}: the network has {len(links)} links that could be cut, not {self.config.count}.",
                    hint=f"Blocks with links: {', '.join(known)}",
                )
            names = set(sorted(known, key=errors.__getitem__)[: self.config.count])
        for link in links:
            if link.name not in names:
                change = f"cut alone its link changes the output by {errors[link.name]:.1%}"
                context.skip_layer(self.id, link.name, change)
        return [link for link in links if link.name in names]
