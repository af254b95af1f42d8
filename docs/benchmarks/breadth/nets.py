"""The networks of the breadth benchmark, each as a zoo architecture with a small input and random weights.

    python docs/benchmarks/breadth/nets.py --choose     write nets.txt anew for the installed timm and torchvision
    python docs/benchmarks/breadth/nets.py              list what nets.txt names

All classification and segmentation models of torchvision, and of timm the smallest network of each family: a module
of timm, or a part of one whose names begin differently, as long as it has at most MOST parameters.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo.contracts import Architecture, InputSpec, OutputSpec

LIST = Path(__file__).with_name("nets.txt")
#: parameters a timm network may have; one family has members from 1 M to 1,000 M
MOST = 40_000_000
#: families of timm taken
FAMILIES = 140
#: sides of inputs that are tried, the smallest that works is taken
SIDES = (64, 96, 128, 160, 192, 224, 256, 288, 384)


class Picked(nn.Module):
    """torchvision's segmentation networks give a dictionary; this gives its entry "out"."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)["out"]


class Net(Architecture):
    """`timm:NAME` or `torchvision:NAME` with random weights and an input as small as it takes."""

    task = "classification"

    def __init__(self, name: str) -> None:
        super().__init__()
        self.id = name
        self.summary = name
        self._library, _, self._name = name.partition(":")
        self._img_size: int | None = None
        side = self._smallest_side()
        self.input = InputSpec("rgb", 3, example=(side, side), fixed_size=True)
        self.output = OutputSpec("logits", 0)

    def build(self) -> nn.Module:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            net = self._create().eval()
        settle(net)
        return net

    def _create(self) -> nn.Module:
        if self._library == "torchvision":
            import torchvision

            if self._name in torchvision.models.list_models(module=torchvision.models.segmentation):
                return Picked(torchvision.models.get_model(self._name, weights=None, weights_backbone=None))
            return torchvision.models.get_model(self._name, weights=None, **_QUIET.get(self._name, {}))
        import timm

        size = {} if self._img_size is None else {"img_size": self._img_size}
        return timm.create_model(self._name, pretrained=False, **size)

    def _smallest_side(self) -> int:
        """The first of SIDES that the network runs on; networks of a fixed size are told it if they listen."""
        for side in SIDES:
            for told in (None, side) if self._library == "timm" else (None,):
                self._img_size = told
                with contextlib.suppress(Exception), torch.no_grad():
                    torch.manual_seed(0)
                    outputs = self.build()(torch.rand(2, 3, side, side))
                    if isinstance(outputs, Tensor) and bool(torch.isfinite(outputs).all()):
                        return side
        raise SystemExit(f"{self.id} runs on none of the sides {SIDES}")


#: these warn and build auxiliary classifiers otherwise
_QUIET = {"googlenet": {"aux_logits": False, "init_weights": False}, "inception_v3": {"init_weights": False}}


def settle(net: nn.Module) -> None:
    """Spread the random numbers of batch norms, so that folding them is put to the test."""
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            assert module.running_var is not None
            module.running_mean += 0.1 * torch.randn(module.running_mean.shape, generator=generator)
            module.running_var *= 0.8 + 0.4 * torch.rand(module.running_var.shape, generator=generator)


def names() -> list[str]:
    """What nets.txt names."""
    return [line for line in LIST.read_text().splitlines() if line and not line.startswith("#")]


def choose() -> list[str]:
    """The networks as the docstring says, from what is installed."""
    import timm
    import torchvision
    from timm.models import _registry
    from torchvision import models

    found = [
        f"torchvision:{name}"
        for module in (models, models.segmentation)
        for name in models.list_models(module=module)
    ]
    sizes: dict[tuple[str, str], tuple[int, str]] = {}
    for name in timm.list_models():
        family = (_registry._model_to_module[name], name.split("_")[0].rstrip("0123456789"))
        try:
            with torch.device("meta"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                size = sum(p.numel() for p in timm.create_model(name, pretrained=False).parameters())
        except Exception as error:
            sys.stderr.write(f"{name}: {type(error).__name__}: {error}\n")
            continue
        if size <= MOST:
            sizes[family] = min(sizes.get(family, (size, name)), (size, name))
    seen: set[str] = set()
    first, further = [], []
    for (module, _), (_, name) in sorted(sizes.items(), key=lambda item: (item[1], item[0])):
        (further if module in seen else first).append(f"timm:{name}")
        seen.add(module)
    taken = (first + further)[:FAMILIES]
    header = f"# timm {timm.__version__}, torchvision {torchvision.__version__.partition('+')[0]}"
    return [header, *sorted(taken), *sorted(found)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--choose", action="store_true")
    if parser.parse_args().choose:
        LIST.write_text("\n".join(choose()) + "\n")
    print("\n".join(names()))
