"""Each technique, and each legal pair, on every network of nets.txt: applied, exported, run, compared.

    python docs/benchmarks/breadth/run.py                         singles, all networks
    python docs/benchmarks/breadth/run.py --pairs 2               two legal pairs of each network too; "all" for all
    python docs/benchmarks/breadth/run.py --shard 0/2             every second network, from the first on
    python docs/benchmarks/breadth/run.py --only timm:resnet18    some networks, --techniques some techniques
    python docs/benchmarks/breadth/report.py                      the tables of README.md from what has been done

Results are lines of results/<network>.jsonl; what is there is not done again, so a run that was stopped goes on
where it was. Each network has a process of its own, which may take --memory gigabytes and --seconds a case; one that
is killed costs the case it was at, counted as failed, and the next process goes on behind it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
#: Parameters of networks whose layers are fitted to activations too, an option of most techniques. In larger ones the
#: fit takes a minute a case, and changes numbers only.
FITTED = 4_000_000
#: the options that say so
UNFITTED = {"refine": "false", "absorb": "none"}


def legal_pairs(techniques: list[str]) -> list[str]:
    """Every legal ordered pair."""
    from zoo import plugins
    from zoo.recipes.legality import Relation, relation

    classes = {name: plugins.load("techniques", name) for name in techniques}
    return [
        f"{a}+{b}"
        for a, first in classes.items()
        for b, second in classes.items()
        if relation(first, second) is not Relation.FORBIDDEN
    ]


def sample(net: str, pairs: list[str], most: int) -> list[str]:
    """At most so many pairs of techniques that both pass alone on a network, always the same ones."""
    alone = done(net)
    able = [pair for pair in pairs if all(_passes(alone.get(part)) for part in pair.split("+"))]
    return sorted(able, key=lambda pair: hashlib.sha256(f"{net} {pair}".encode()).digest())[:most]


def _passes(record: dict[str, Any] | None) -> bool:
    return record is not None and record["outcome"] == "pass"


def builtin() -> list[str]:
    """The ids of the built-in techniques."""
    from zoo import plugins

    return sorted(plugin.id for plugin in plugins.find_plugins("techniques") if plugin.builtin)


def file_of(net: str) -> Path:
    """Where the results of a network are."""
    return RESULTS / f"{net.replace(':', '-')}.jsonl"


def done(net: str) -> dict[str, dict[str, Any]]:
    """The results of a network so far, by recipe."""
    path = file_of(net)
    lines = path.read_text().splitlines() if path.exists() else []
    return {record["recipe"]: record for record in map(json.loads, lines)}


# ----------------------------------------------------------------------------------- in the network's process


def work(net: str, todo: list[str], seconds: int) -> None:
    """Do the recipes one after the other, a line for each."""
    sys.path.insert(0, str(HERE))
    import torch
    from nets import Net

    torch.set_num_threads(1)
    architecture = Net(net)
    kept: dict[str, dict[str, Any]] = done(net)
    with file_of(net).open("a") as out:
        for recipe in todo:
            _write(out, {"recipe": recipe, "outcome": "begun"})
            started = time.monotonic()
            record = _tried(architecture, recipe, kept, seconds)
            record = {"recipe": recipe, **record, "seconds": round(time.monotonic() - started, 1)}
            _write(out, record)
            kept[recipe] = record
            if kept.get("", record)["outcome"] != "pass":
                return  # the network does not run as it is


def _write(out: Any, record: dict[str, Any]) -> None:
    out.write(json.dumps(record) + "\n")
    out.flush()


def _made(name: str, parameters: int) -> Any:
    """A technique with the options of this benchmark."""
    from zoo import plugins
    from zoo.options import options_of

    known = {option.name for option in options_of(plugins.load("techniques", name).Config)}
    unfitted = {option: value for option, value in UNFITTED.items() if option in known}
    return plugins.technique(name, unfitted if parameters > FITTED else None)


class _LateError(BaseException):
    """A case took too long. Nothing that catches what a network or an exporter may raise catches this."""


@contextlib.contextmanager
def _limit(seconds: int) -> Iterator[None]:
    """Seconds of processor time, so that a busy machine makes no failures."""

    def late(*_: object) -> None:
        raise _LateError(f"not finished after {seconds} s of processor time")

    signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _tried(architecture: Any, recipe: str, kept: dict[str, dict[str, Any]], seconds: int) -> dict[str, Any]:
    """What came of it, and why: pass; nothing (the technique finds nothing to do and says so); refused (another error
    of zoo's own, which says what to do); unsteady (the file agrees with the network no worse than the network with
    itself when what its layers give hardly changes, and that is not enough); failed (anything else).
    """
    from zoo.cost import onnx_cost
    from zoo.errors import IntegrityError, NoEffectError, PluginError, ZooError
    from zoo.testing.trial import attempt, rewrite

    names = recipe.split("+") if recipe else []
    before = kept.get("", {})
    techniques = [_made(name, before["parameters"]) for name in names]
    untouched = names and all(technique.phase.value == "training" for technique in techniques)
    try:
        with _limit(seconds):
            if untouched:  # a loss is added; the network, and so its file, is the one from before
                for technique in techniques:
                    rewrite(technique, architecture)
                return {key: value for key, value in before.items() if key not in ("recipe", "seconds")}
            trial = attempt(techniques, architecture, steps=0)
            spec = architecture.input
            cost = onnx_cost(trial.exported, (1, spec.channels, *spec.example))
    # Of the technique's own making, or a file that no engine loads.
    except (PluginError, IntegrityError) as error:
        return {"outcome": "failed", "why": error.message}
    except NoEffectError as error:
        # What broke the network or wrote zeros is caught by the same check, and is a failure.
        return {
            "outcome": "nothing" if "changed nothing" in error.message else "failed",
            "why": error.message,
        }
    except ZooError as error:
        return {"outcome": "refused", "why": error.message}
    except (Exception, _LateError) as error:
        return {"outcome": "failed", "why": f"{type(error).__name__}: {error}"[:500]}
    record = {
        "outcome": "pass",
        "agreement_db": round(min(trial.agreement, 1000.0), 1),
        "parameters": cost.parameters,
        "macs": cost.macs,
        "bytes": len(trial.exported),
        "left_alone": len(trial.skipped_layers),
    }
    idle = all((record[key] == before.get(key)) for key in ("parameters", "macs", "bytes"))
    found = trial.comparison
    if found.steadiness is not None:
        record |= {
            "outcome": "unsteady" if found.agrees else "failed",
            "why": f"signal to error of the file {found.signal_to_error:.1f} dB, and of the network against itself "
            f"{found.steadiness:.1f} dB when its layers give a little more or less",
        }
    elif any(t.must_shrink and t.phase.value != "training" for t in techniques):
        if idle:
            record |= {"outcome": "failed", "why": "silent no-op"}
        elif record["bytes"] >= before["bytes"] and record["macs"] >= before["macs"]:
            record |= {"outcome": "failed", "why": "neither fewer bytes nor fewer MACs"}
    return record


# ------------------------------------------------------------------------------------------------- the shard


def run_net(net: str, wanted: list[str], seconds: int, memory: int) -> None:
    """Run a network's missing recipes in child processes until none is missing."""
    # What an earlier run of this script had begun when it was stopped is not the network's fault.
    _compact(net, {recipe: record for recipe, record in done(net).items() if record["outcome"] != "begun"})
    while True:
        results = done(net)
        for recipe, record in results.items():
            if record["outcome"] == "begun":
                lost = {
                    "recipe": recipe,
                    "outcome": "failed",
                    "why": "the process was killed (memory or time)",
                }
                with file_of(net).open("a") as out:
                    _write(out, lost)
        results = done(net)
        todo = [recipe for recipe in wanted if recipe not in results]
        if not todo or results.get("", {}).get("outcome", "pass") != "pass":
            _compact(net, results)
            return
        command = [sys.executable, __file__, "--child", net, "--seconds", str(seconds)]
        before = len(results)
        with file_of(net).with_suffix(".log").open("w") as log:
            code = subprocess.run(
                command, input="\n".join(todo), text=True, stdout=log, stderr=log, check=False,
                timeout=10 * seconds * (len(todo) + 2), preexec_fn=lambda: _confine(memory),
            ).returncode  # fmt: skip
        if code and len(done(net)) == before:
            with file_of(net).open("a") as out:
                _write(
                    out,
                    {"recipe": "", "outcome": "failed", "why": f"the network cannot be built (exit {code})"},
                )
            return
        file_of(net).with_suffix(".log").unlink()


def _compact(net: str, results: dict[str, dict[str, Any]]) -> None:
    """One line a recipe, without those that only say that one was begun."""
    file_of(net).write_text("".join(json.dumps(record) + "\n" for record in results.values()))


def _confine(gigabytes: int) -> None:
    # Of what it writes to: libraries for GPUs that are mapped and never touched do not count.
    resource.setrlimit(resource.RLIMIT_DATA, (gigabytes << 30, gigabytes << 30))
    os.nice(5)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", default="0", help="how many legal pairs of each network, too, or all")
    parser.add_argument("--shard", default="0/1", help="I/N: every N-th network from number I on")
    parser.add_argument("--only", nargs="*", help="networks instead of those of nets.txt")
    parser.add_argument("--techniques", nargs="*", help="techniques instead of all built-in ones")
    parser.add_argument("--seconds", type=int, default=300, help="of processor time, limit for one case")
    parser.add_argument("--memory", type=int, default=10, help="gigabytes that one process may hold")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    if given.child:
        work(given.child, sys.stdin.read().split("\n"), given.seconds)
        return
    sys.path.insert(0, str(HERE))
    from nets import names

    techniques = builtin() if given.techniques is None else given.techniques
    most = sys.maxsize if given.pairs == "all" else int(given.pairs)
    pairs = legal_pairs(techniques) if most else []
    index, count = map(int, given.shard.split("/"))
    # In an order that has nothing to do with what they are, an unfinished run is a fair sample.
    nets = sorted(given.only or names(), key=lambda name: hashlib.sha256(name.encode()).digest())[
        index::count
    ]
    for number, net in enumerate(nets, 1):
        started = time.monotonic()
        run_net(net, ["", *techniques], given.seconds, given.memory)
        if pairs:
            run_net(net, sample(net, pairs, most), given.seconds, given.memory)
        outcomes = [record["outcome"] for record in done(net).values()]
        tally = ", ".join(
            f"{outcomes.count(kind)} {kind}" for kind in ("pass", "nothing", "refused", "unsteady", "failed")
        )
        print(f"{number}/{len(nets)} {net}: {tally} ({time.monotonic() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
