"""Replacing layers: fitted to the original outputs on the rewritten network's inputs, or left with a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from support.rewriting import context, mean_error, reasons, smooth
from zoo.errors import ZooError
from zoo.surgery.reconstruction import Layer, LayerRefit, LayerReplacement, fitting_batches, replace_layers


class Noted:
    """Notes what it observes, and builds a copy of the layer or returns a reason to leave it."""

    def __init__(self, layer: Layer, reason: str | None = None) -> None:
        self.layer, self.reason = layer, reason
        self.observed: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def observe(self, image: Tensor, at: Tensor, targets: Tensor | None = None) -> None:
        self.observed.append((image, at, targets))

    def build(self) -> tuple[nn.Module, float] | str:
        new = nn.Sequential(self.layer)
        return (new, 0.0) if self.reason is None else self.reason


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, stride=2, padding=1)
    ).eval()


def replaced(
    model: nn.Module, make: Callable[[Layer], LayerReplacement], layers: list[nn.Module], images: int = 3
) -> tuple[nn.Module, dict[str, str]]:
    data = smooth(images)
    ctx = context(data, lambda: [data])
    named = {layer: str(number) for number, layer in enumerate(layers)}
    model = replace_layers(model, named, make, fitting_batches(ctx, True, 16), ctx, "mine")
    return model, reasons(ctx)


def test_it_is_shown_each_image_with_the_outputs_wanted_there() -> None:
    model = net()
    conv = cast(nn.Conv2d, model[2])
    seen: list[Noted] = []

    def make(layer: Layer) -> Noted:
        seen.append(Noted(layer))
        return seen[-1]

    changed, _ = replaced(model, make, [conv])
    assert isinstance(cast(nn.Sequential, changed)[2], nn.Sequential)
    assert len(seen[0].observed) == 3
    for image, at, targets in seen[0].observed:
        assert image.shape == (1, 6, 24, 24)
        with torch.no_grad():
            wanted = conv(image)[0].flatten(1)[:, at].T
        torch.testing.assert_close(targets, wanted)


def test_targets_are_those_of_the_original_and_inputs_those_of_the_rewritten_network() -> None:
    class Halves(LayerRefit):
        """Replaces the first convolution by one with half the outputs' size."""

        def build(self) -> tuple[nn.Module, float]:
            new, error = super().build()
            if isinstance(new, nn.Conv2d) and new.in_channels == 3:
                with torch.no_grad():
                    new.weight *= 0.5
                    cast(Tensor, new.bias).mul_(0.5)
            return new, error

    original, model = net(), net()
    changed, left = replaced(model, Halves, [model[0], model[2]])
    assert not left
    assert mean_error(changed, original, smooth(4)) < 0.05, "the second layer compensates for the first"


def test_a_layer_stays_with_the_reason_of_its_replacement() -> None:
    model = net()
    conv = model[0]
    changed, left = replaced(model, lambda layer: Noted(layer, "better not"), [conv])
    assert cast(nn.Sequential, changed)[0] is conv
    assert left == {"0": "better not"}


def test_a_layer_that_the_network_never_calls_stays() -> None:
    model = net()
    model[1].idle = nn.Conv2d(3, 3, 1)
    _, left = replaced(model, Noted, [cast(nn.Module, model[1].idle)])
    assert left == {"0": "the network does not call it on the example input"}


def test_a_layer_whose_weight_is_read_elsewhere_stays() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, self.conv(x)) * self.conv.weight.mean()

    model = Reads()
    _, left = replaced(model, Noted, [model.conv])
    assert left == {"0": "the network reads its weight past it"}


class Encoder(nn.Module):
    """torch's layer computes with the weights of its parts in one kernel, unless they have hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.layer(x[:, [0, 1, 2, 0]].flatten(2).transpose(1, 2)))


class Sized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 3, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.up(x, output_size=[2 * side for side in x.shape[2:]]))


def test_layers_that_are_used_as_no_other_module_could_be_stay() -> None:
    encoder, sized = Encoder(), Sized()
    _, left = replaced(encoder.eval(), Noted, [encoder.layer.linear1])
    assert left == {"0": "the network reads its weight past it"}
    _, left = replaced(sized, Noted, [sized.up])
    assert left == {"0": "the network calls it with more than its input"}


def test_a_network_that_no_longer_runs_is_an_error() -> None:
    class Asks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, self.conv(x)) + float(self.conv.groups)

    class AsksBefore(Asks):
        def __init__(self) -> None:
            super().__init__()
            self.second = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, self.second(super().forward(x)))

    model, earlier = Asks(), AsksBefore()
    with pytest.raises(
        ZooError, match=r"After mine the network no longer runs \(test_replace.py, line \d+\)"
    ):
        replaced(model, Noted, [model.conv])
    with pytest.raises(ZooError, match="After mine the network no longer runs"):
        replaced(earlier, Noted, [earlier.conv, earlier.second])


def test_fitting_batches_are_cut_to_the_number_of_images() -> None:
    batches = [smooth(4), smooth(4), smooth(4)]
    ctx = context(batches[0], lambda: batches)
    assert [len(batch) for batch in fitting_batches(ctx, True, 6)] == [4, 2]
    assert fitting_batches(ctx, False, 6) == []
    assert fitting_batches(context(batches[0]), True, 6) == []
