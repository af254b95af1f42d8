"""A technique in one file: square convolutions become a vertical and a horizontal one.

    python examples/my_technique.py

applies it to a small network, from rewrite to exported file; `test_my_technique.py` holds it to its contract. To use
it in recipes, put it into a package: `zoo plugin new zoo-mine` writes one with its entry point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.contracts import Context, Phase, Technique
from zoo.errors import NoEffectError
from zoo.options import option

# torch is imported inside the functions: recipes are checked, and `zoo list` answers, without it.
if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class SeparableFiltersConfig:
    """Options of `separable-filters`."""

    share: float = option(0.4, help="part of the full rank to keep", minimum=0.01, maximum=1.0)


class SeparableFilters(Technique):
    """Approximate each k x k convolution by a k x 1 and a 1 x k convolution.

    Their product is the best approximation of the trained weights among those of its rank.
    """

    contract = 1
    id = "separable-filters"
    summary = "square convolutions become a vertical and a horizontal one"
    paper = "Jaderberg et al., Speeding up Convolutional Neural Networks with Low Rank Expansions, BMVC 2014"
    phase = Phase.STRUCTURE
    Config = SeparableFiltersConfig

    def rewrite(self, model: nn.Module, context: Context) -> nn.Module:
        """Separate every convolution that becomes smaller by it; report the others."""
        from torch import nn

        from zoo.surgery import names_of, replace_module

        changed = 0
        for conv, names in names_of(model).items():
            if type(conv) is not nn.Conv2d or 1 in conv.kernel_size or conv.groups > 1:
                continue
            rows, columns = conv.kernel_size
            full = min(conv.in_channels * rows, conv.out_channels * columns)
            rank = max(1, round(full * self.config.share))
            weights = rank * (conv.in_channels * rows + conv.out_channels * columns)
            if (
                weights >= conv.weight.numel()
                or conv.padding_mode != "zeros"
                or isinstance(conv.padding, str)
            ):
                context.skip_layer(self.id, names[0], f"two convolutions of rank {rank} would not be smaller")
                continue
            model = replace_module(model, conv, separated(conv, rank))
            changed += 1
        if not changed:
            raise NoEffectError(
                f"{self.id} found no convolution that a share of {self.config.share:g} makes smaller.",
                hint=f"Try a smaller share:  {self.id}(share={self.config.share / 2:g})",
            )
        return model


def separated(conv: nn.Conv2d, rank: int) -> nn.Sequential:
    """Return a k x 1 and a 1 x k convolution whose product is nearest to `conv`."""
    import torch
    from torch import nn

    (rows, columns), (down, across) = conv.kernel_size, conv.stride
    weight = conv.weight.detach()  # (out, in, rows, columns)
    matrix = weight.permute(1, 2, 0, 3).reshape(conv.in_channels * rows, conv.out_channels * columns)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    root = values[:rank].sqrt()
    vertical = nn.Conv2d(
        conv.in_channels, rank, (rows, 1), (down, 1), (conv.padding[0], 0), (conv.dilation[0], 1), bias=False
    )
    horizontal = nn.Conv2d(
        rank, conv.out_channels, (1, columns), (1, across), (0, conv.padding[1]), (1, conv.dilation[1]),
        bias=conv.bias is not None,
    )  # fmt: skip
    with torch.no_grad():
        vertical.weight.copy_((left[:, :rank] * root).T.reshape(rank, conv.in_channels, rows, 1))
        split = (root[:, None] * right[:rank]).reshape(rank, conv.out_channels, 1, columns)
        horizontal.weight.copy_(split.transpose(0, 1))
        if conv.bias is not None:
            horizontal.bias.copy_(conv.bias)
    return nn.Sequential(vertical, horizontal)


def main() -> None:
    from zoo.testing import attempt

    trial = attempt([SeparableFilters(SeparableFiltersConfig(share=0.3))])
    before = sum(each.numel() for each in trial.original.parameters())
    after = sum(each.numel() for each in trial.finished.parameters())
    print(f"{before:,} parameters before, {after:,} after; the file agrees to {trial.agreement:.0f} dB.")
    for skipped in trial.skipped_layers:
        print(f"  {skipped.layer}: {skipped.reason}")


if __name__ == "__main__":
    main()
