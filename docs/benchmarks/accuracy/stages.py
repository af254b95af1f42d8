"""What each stage of `ptq` wins on ResNet-20, by the error of the output and by right classes.

    python docs/benchmarks/accuracy/stages.py --data DIR --weights DIR [--write]

The network is taken as it is, and with the uneven channels of `repair.py`. The error is that which `ptq` reports: the
mean Kullback-Leibler divergence of the probabilities, in nats, on the calibration pictures. --write puts the table into
the README beside this script.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nets import references
from reference import Reference
from repair import NETS, build
from torch import Tensor, nn

from zoo import plugins
from zoo.contracts import Context, SilentReporter

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from marked import put_table

RECIPES = ("ptq", "ptq(rounding=adaptive)", "ptq(weight_bits=4)", "ptq(rounding=adaptive,weight_bits=4)")


def normalised(pictures: list[Any], reference: Reference) -> Tensor:
    """Return pictures as the network takes them."""
    mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (reference.input.mean, reference.input.std))
    return (torch.from_numpy(np.stack(pictures)) - mean) / std


def score(net: nn.Module, test: list[tuple[Any, Any]], reference: Reference) -> float:
    """Return the share of right classes, in per cent."""
    inputs = normalised([picture for picture, _ in test], reference)
    with torch.no_grad():
        outputs = torch.cat([net(batch) for batch in inputs.split(250)]).numpy()
    return reference.score(list(outputs), [target for _, target in test])


def rows(reference: Reference) -> list[str]:
    """The table's rows in Markdown."""
    found = []
    batches = list(normalised(reference.calibration(), reference).split(8))
    test = reference.test()
    for name in NETS:
        net = build(name, reference)
        found.append(f"| {name} | float | {score(net, test, reference):.2f} % | | |")
        for recipe in RECIPES:
            context = Context(reference.architecture(), batches[0][:1], calibration=lambda: iter(batches))
            context.report = report = SilentReporter()
            options = dict(part.split("=") for part in recipe[4:-1].split(",") if part)
            technique = plugins.technique("ptq", options)
            begun = time.process_time()
            made = technique.finish(technique.rewrite(copy.deepcopy(net), context).eval(), context)
            seconds = time.process_time() - begun
            notes = "; ".join(note.removeprefix("ptq: ") for note in report.notes)
            found.append(
                f"| {name} | `{recipe}` | {score(made, test, reference):.2f} % | {seconds:.0f} | {notes} |"
            )
            print(found[-1], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    head = ["| network | recipe | right classes | CPU s | stages |", "|---|---|---:|---:|---|"]
    table = "\n".join([*head, *rows(references(arguments.data, arguments.weights)["resnet20"])])
    if arguments.write:
        put_table(Path(__file__).with_name("README.md"), "stages", table)


if __name__ == "__main__":
    main()
