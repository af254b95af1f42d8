"""Which sizes of input the exported files of the timm networks of nets.txt take, at the size they were published for.

    python docs/benchmarks/breadth/sizes.py --write      does what sizes.jsonl lacks, then writes the table of README.md
    python docs/benchmarks/breadth/sizes.py --shard 0/2  every second network, from the first on

Each network is resolved and exported as `zoo apply` does it, without a recipe, and the file is run in ONNX Runtime at
the size of its example and, where it takes others, at two more. Each has a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
RESULTS = HERE / "sizes.jsonl"
LIMIT = 900  # s a network


def measured(net: str) -> dict[str, Any]:
    """What the file of one network takes, and to how many dB of PSNR it agrees with torch, the worst of its sizes."""
    import numpy as np
    import torch
    from nets import settle

    from zoo import plugins
    from zoo.contracts import SilentReporter
    from zoo.engines.onnxruntime import OnnxRuntimeEngine
    from zoo.pipeline.input_sizes import trial_export
    from zoo.testing.workbench import Patterns
    from zoo.training.inputs import normalise

    torch.set_num_threads(1)
    torch.manual_seed(0)
    architecture = plugins.architecture(net, own_files=True)
    published = architecture.input.fixed_size
    model = architecture.build().eval()
    settle(model)
    reporter, started = SilentReporter(), time.process_time()
    architecture, exported = trial_export(model, architecture, (), Patterns(), reporter)
    record: dict[str, Any] = {"net": net, "seconds": round(time.process_time() - started, 1)}
    spec = architecture.input
    takes = "any" if spec.multiple_of == 1 else f"multiples of {spec.multiple_of}"
    takes = ("one, as published" if published else "one") if spec.fixed_size else takes
    (height, width), step = spec.example, spec.multiple_of
    sides = [(height, width)]
    if not spec.fixed_size:
        sides += [
            (height + 32, width + 64),
            (height - 7, width + 9) if step == 1 else (height + 64, width + 32),
        ]
    session, worst = OnnxRuntimeEngine().open(exported.data, threads=1), np.inf
    for rows, columns in sides:
        x = torch.rand(1, spec.channels, rows, columns)
        with torch.no_grad():
            expected = model(normalise(x, spec)).numpy()
        error = np.sqrt(np.mean((session.run(x.numpy()) - expected) ** 2))
        if error:  # heads that are zero until they are trained give zeros
            worst = min(worst, 20 * np.log10(np.abs(expected).max() / error))
    return record | {
        "takes": takes,
        "agreement_db": round(float(min(worst, 200.0)), 1),
        "why": " ".join(reporter.notes),
    }


def run(nets: list[str]) -> None:
    """Append a line for each network that has none."""
    for net in nets:
        if net in done():
            continue
        print(net, flush=True)
        command = [sys.executable, __file__, "--one", net]
        try:
            made = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
            lines = (made.stdout if made.returncode == 0 else made.stderr).strip().splitlines()
            record = (
                json.loads(lines[-1]) if made.returncode == 0 else {"net": net, "failed": lines[-1][:300]}
            )
        except subprocess.TimeoutExpired:
            record = {"net": net, "failed": f"not finished after {LIMIT} s"}
        with RESULTS.open("a") as out:
            out.write(json.dumps(record) + "\n")


def done() -> dict[str, dict[str, Any]]:
    """The results so far, by network."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    return {record["net"]: record for record in map(json.loads, lines)}


def listed() -> list[str]:
    """The networks of timm that nets.txt names."""
    from nets import names

    return [net for net in names() if net.startswith("timm:")]


def table() -> str:
    """How many networks take what, and which do not take all sizes."""
    records = sorted(done().values(), key=lambda record: record["net"])
    counts = Counter(record.get("takes", "failed") for record in records)
    unlike = [record for record in records if record.get("agreement_db", 99) < 30]
    lines = [f"{len(records)} of the {len(listed())} networks of timm were tried.", ""]
    lines += ["| sizes | networks | of these |", "|---|---:|---|"]
    for takes, count in counts.most_common():
        these = [
            record["net"].partition(":")[2] for record in records if record.get("takes", "failed") == takes
        ]
        shown = "" if takes in ("any", "one, as published") else ", ".join(f"`{name}`" for name in these)
        lines.append(f"| {takes} | {count} | {shown} |")
    lines.append("")
    lines += [f"`{each['net']}` agrees with torch to {each['agreement_db']} dB only." for each in unlike]
    lines += [f"`{each['net']}`: {each['failed']}" for each in records if "failed" in each]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shard", default="0/1")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one)))
        return
    index, _, count = options.shard.partition("/")
    run(listed()[int(index) :: int(count)])
    if options.write:
        from marked import put_table

        put_table(HERE / "README.md", "sizes", table())


if __name__ == "__main__":
    main()
