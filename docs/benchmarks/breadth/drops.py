"""What each technique costs networks that do something: given function by a minute of training, then compressed.

    python docs/benchmarks/breadth/drops.py --data DIR --only timm:resnet18 ...    train, compress, score some networks
    python docs/benchmarks/breadth/drops.py --data DIR --families 40               the smallest one of each family
    python docs/benchmarks/breadth/drops.py --write                                the table of README.md

Agreement with random weights says that a file is right, and nothing about what rounding costs. Here a network of
nets.txt gets ten outputs and is trained for --minutes of processor time on CIFAR-10 (--data: train/CLASS/*.jpg and
test/CLASS/*.jpg), enlarged to the smallest input it takes. Each technique is then applied without training of its own,
on 256 training pictures, and the exported file is scored by ONNX Runtime on --pictures of the test set.

A line of drops/<network>.jsonl for each: what is there is not done again, weights are kept in --out, and a run that was
stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nets import Net, names
from run import builtin
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import plugins
from zoo.contracts import Context, InputSpec, OutputSpec
from zoo.cost import onnx_cost
from zoo.errors import ZooError
from zoo.export.exporter import export_onnx

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from marked import put_table  # noqa: E402

RESULTS = HERE / "drops"
CLASSES, SIDE, FITTED, BATCH = 10, 32, 256, 32
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
#: Of which a minute of training hardly makes more than chance.
MOST_PARAMETERS = 12_000_000


class Trained(Net):
    """A network of nets.txt with ten outputs."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.input = InputSpec("rgb", 3, example=self.input.example, fixed_size=True, mean=MEAN, std=STD)
        self.output = OutputSpec("logits", CLASSES)

    def _create(self) -> nn.Module:
        if self._library == "torchvision":
            import torchvision

            return torchvision.models.get_model(self._name, weights=None, num_classes=CLASSES)
        import timm

        size = {} if self._img_size is None else {"img_size": self._img_size}
        return timm.create_model(self._name, pretrained=False, num_classes=CLASSES, **size)


def pictures(folder: Path, most: int) -> tuple[Tensor, Tensor]:
    """Up to `most` pictures, of all classes alike, (N, 3, 32, 32) in [0, 1], and their classes."""
    from PIL import Image

    found, labels = [], []
    classes = sorted(each for each in folder.iterdir() if each.is_dir())
    for number, each in enumerate(classes):
        for path in sorted(each.glob("*.jpg"))[: most // len(classes)]:
            with Image.open(path) as image:
                found.append(np.asarray(image.convert("RGB"), np.float32).transpose(2, 0, 1) / 255)
            labels.append(number)
    return torch.from_numpy(np.stack(found)), torch.tensor(labels)


def enlarged(x: Tensor, side: int) -> Tensor:
    """Return pictures of another side."""
    return x if side == SIDE else F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)


def normalised(x: Tensor) -> Tensor:
    """Return pictures as networks take them."""
    mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (MEAN, STD))
    return (x - mean) / std


def train(net: nn.Module, images: Tensor, labels: Tensor, side: int, minutes: float) -> None:
    """Train for some minutes of processor time."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=0.02)
    begun, total = time.process_time(), 60 * minutes
    net.train()
    while (spent := time.process_time() - begun) < total:
        chosen = torch.from_numpy(random.integers(len(images), size=BATCH))
        batch = images[chosen]
        if random.random() < 0.5:
            batch = batch.flip(3)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * max(0.02, 1 - spent / total)
        loss = F.cross_entropy(net(normalised(enlarged(batch, side))), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    net.eval()


def accuracy(file: bytes, images: Tensor, labels: Tensor, side: int) -> float:
    """Return the share of right classes of a file in ONNX Runtime, in per cent."""
    session = plugins.engine("onnxruntime").open(file, threads=1)
    right = 0
    for begin in range(0, len(images), BATCH):
        outputs = session.run(enlarged(images[begin : begin + BATCH], side).numpy())
        right += int((torch.from_numpy(outputs).argmax(1) == labels[begin : begin + BATCH]).sum())
    return 100 * right / len(images)


def compress(name: str, net: nn.Module, architecture: Trained, images: Tensor) -> bytes:
    """Return the file that a technique makes of a network, with 256 pictures to fit to and no training."""
    side = architecture.input.example[0]
    inputs = normalised(enlarged(images[:FITTED], side))
    batches = list(torch.split(inputs, BATCH))
    context = Context(architecture, inputs[:1], calibration=lambda: iter(batches))
    technique = plugins.technique(name, None)
    made = technique.finish(technique.rewrite(net, context).eval(), context)
    return export_onnx(made, architecture)


def measure(name: str, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The results of a network that are not there yet, the float file's first."""
    import copy

    done = results_of(name)
    wanted = [recipe for recipe in ["", *(given.techniques or builtin())] if recipe not in done]
    if not wanted or done.get("", {"score": 0}).get("score") is None:
        return
    architecture = Trained(name)
    net, side = architecture.build(), architecture.input.example[0]
    images, labels = pictures(given.data / "train", 5000)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    kept = given.out / f"{name.replace(':', '-')}.pt"
    if kept.exists():
        net.load_state_dict(torch.load(kept, weights_only=True))
    else:
        train(net, images, labels, side, given.minutes)
        torch.save(net.state_dict(), kept)
    test = pictures(given.data / "test", given.pictures)
    for recipe in wanted:
        begun = time.process_time()
        row: dict[str, Any] = {"recipe": recipe, "score": None}
        try:
            made = copy.deepcopy(net)
            file = compress(recipe, made, architecture, images) if recipe else export_onnx(net, architecture)
            cost = onnx_cost(file, (1, 3, side, side))
            row |= {"score": accuracy(file, *test, side), "bytes": len(file), "macs": cost.macs}
        except ZooError as error:
            row["why"] = error.message
        except Exception as error:  # a case that fails is a result
            row["why"] = f"{type(error).__name__}: {error}"[:300]
        yield row | {"cpu_s": round(time.process_time() - begun, 1)}


def results_of(name: str) -> dict[str, dict[str, Any]]:
    """Return what there is of a network, by recipe."""
    path = RESULTS / f"{name.replace(':', '-')}.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return {row["recipe"]: row for row in map(json.loads, lines)}


def families(count: int) -> list[str]:
    """Return the smallest classifier of each of `count` families."""
    found: dict[str, tuple[int, str]] = {}
    for name in names():
        if any(part in name for part in ("deeplab", "fcn_", "lraspp")):
            continue
        with torch.device("meta"):
            try:
                size = sum(p.numel() for p in Trained._create(_Named(name)).parameters())  # type: ignore[arg-type]
            except Exception:  # some cannot be built without storage
                continue
        family = name.partition(":")[2].split("_")[0].rstrip("0123456789")
        if size <= MOST_PARAMETERS:
            found[family] = min(found.get(family, (size, name)), (size, name))
    return [name for _, name in sorted(found.values())[:count]]


class _Named:
    """What `Net._create` asks a network for, without looking for its smallest input."""

    _img_size = None

    def __init__(self, name: str) -> None:
        self._library, _, self._name = name.partition(":")


def table() -> str:
    """The drops in points by network and technique, in Markdown."""
    nets = [name for name in names() if results_of(name).get("", {}).get("score") is not None]
    recipes = [each for each in builtin() if any(each in results_of(name) for name in nets)]
    lines = ["| network | float | " + " | ".join(f"`{each}`" for each in recipes) + " |"]
    lines.append("|---|---:|" + "---:|" * len(recipes))
    for name in nets:
        found = results_of(name)
        base = found[""]["score"]
        cells = [
            "" if found.get(each, {}).get("score") is None else f"{base - found[each]['score']:.1f}"
            for each in recipes
        ]
        lines.append(f"| `{name}` | {base:.1f} % | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("out/drops"))
    parser.add_argument("--only", nargs="*", help="networks of nets.txt")
    parser.add_argument("--families", type=int, default=40)
    parser.add_argument("--techniques", nargs="*", help="techniques instead of all built-in ones")
    parser.add_argument("--minutes", type=float, default=1.0, help="of processor time, to train a network")
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    if given.data is not None:
        torch.set_num_threads(1)
        RESULTS.mkdir(exist_ok=True)
        given.out.mkdir(parents=True, exist_ok=True)
        for name in given.only or families(given.families):
            for row in measure(name, given):
                with (RESULTS / f"{name.replace(':', '-')}.jsonl").open("a") as stream:
                    stream.write(json.dumps(row) + "\n")
                print(name, row, flush=True)
    print(table())
    if given.write:
        put_table(HERE / "README.md", "drops", table())


if __name__ == "__main__":
    main()
