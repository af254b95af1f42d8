"""What model hubs read of an artifact: the front matter of its card, and its evaluation results.

Results are written in both forms that the Hugging Face Hub knows: `model-index` in the front matter (the older
one), and a file in `.eval_results` (the newer one, https://huggingface.co/docs/hub/eval-results).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo import plugins
from zoo.artifacts.hub_config import LIBRARY
from zoo.contracts import task_for
from zoo.errors import ZooError
from zoo.extras import require
from zoo.recipes.grammar import Stage, parse, parse_stage
from zoo.tasks.built_in_metrics import METRICS

if TYPE_CHECKING:
    from zoo.artifacts.figures import Figure
    from zoo.artifacts.manifest import Manifest

EVAL_RESULTS = ".eval_results"
#: Figures that say what a network costs; the others say what it is worth.
COSTS = frozenset({"parameters", "gmacs", "file_mb", "latency_ms"})


@dataclass(frozen=True)
class Publication:
    """What is known of an artifact once it is published.

    Attributes:
        repository: NAMESPACE/NAME.
        identifier: Its id in registry.toml.
        license: An id that the Hub knows, "" for none.
        base_model: Repository of the network it was made from, "" if that is not published.
        datasets: Ids on the Hub.
    """

    repository: str
    identifier: str
    license: str = ""
    base_model: str = ""
    datasets: tuple[str, ...] = ()


def front_matter(
    name: str,
    manifest: Manifest,
    figures: Iterable[Figure],
    data: str,
    publication: Publication | None = None,
) -> str:
    """Return the metadata at the head of the card, between two lines of dashes.

    Args:
        name: What the artifact is called.
        manifest: Its manifest.
        figures: Its figures, of which those of quality become evaluation results.
        data: The dataset that they were measured on, as a recipe names it; "" if there is none.
        publication: Where it is published; None for an artifact on this machine.

    Raises:
        RecipeError: The recipe or the dataset does not parse.
        MissingDependencyError: huggingface-hub, of the extras `hub` and `compress`, is not installed.
    """
    require("huggingface_hub", "Writing a model card", extra="hub")
    from huggingface_hub import EvalResult, ModelCardData

    home = publication or Publication("", "")
    task = _pipeline(manifest)
    measured = _quality(figures) if data else []
    results = [
        EvalResult(
            task_type=task or "other",
            dataset_type=_dataset(data),
            dataset_name=data,
            dataset_split="test",
            metric_type=_metric(figure),
            metric_value=figure.after,
            metric_name=f"{figure.name} ({figure.unit})" if figure.unit else figure.name,
        )
        for figure in measured
    ]
    metadata = ModelCardData(
        library_name=LIBRARY,
        pipeline_tag=task,
        tags=list(_tags(manifest)),
        license=home.license or None,
        base_model=home.base_model or None,
        base_model_relation="quantized" if home.base_model and manifest.precision == "int8" else None,
        datasets=list(home.datasets) or None,
        metrics=[_metric(figure) for figure in measured] or None,
        model_name=name if results else None,
        eval_results=results or None,
    )
    return f"---\n{metadata.to_yaml()}\n---"


def eval_results(figures: Iterable[Figure], data: str) -> dict[str, str]:
    """Return the files of `.eval_results`: name and content of each; empty if nothing was measured.

    The datasets are those of compression-zoo. The Hub shows results of datasets that it lists as benchmarks,
    which these are not (yet); it keeps the others as they are.

    Args:
        figures: The figures of an artifact.
        data: The dataset that they were measured on, as a recipe names it; "" if there is none.

    Raises:
        RecipeError: The dataset does not parse.
        MissingDependencyError: PyYAML, of the extras `hub` and `compress`, is not installed.
    """
    measured = _quality(figures)
    if not measured or not data:
        return {}
    yaml = require("yaml", "Writing evaluation results", extra="hub")
    rows = [
        {
            "dataset": {"id": f"{LIBRARY}/{_dataset(data)}", "task_id": figure.key},
            "value": figure.after,
            **({"notes": figure.how} if figure.how else {}),
        }
        for figure in measured
    ]
    return {
        f"{EVAL_RESULTS}/{_dataset(data)}.yaml": yaml.safe_dump(rows, sort_keys=False, allow_unicode=True)
    }


# --------------------------------------------------------------------------------------------------- details


def _tags(manifest: Manifest) -> Iterator[str]:
    yield LIBRARY
    yield manifest.architecture.partition(":")[0]
    yield manifest.precision
    yield "onnx"
    if manifest.input.kind == "packed-raw":
        yield "raw"
    if manifest.recipe:
        yield from (_bare_id(stage) for stage in parse(manifest.recipe))


def _quality(figures: Iterable[Figure]) -> list[Figure]:
    return [figure for figure in figures if figure.key not in COSTS]


def _metric(figure: Figure) -> str:
    """Return what the Hub calls a measure."""
    known = METRICS.get(figure.key)
    return (known.hub if known else "") or figure.key


def _pipeline(manifest: Manifest) -> str | None:
    """Return what the Hub calls the task; of one whose plugin is not installed, nothing."""
    try:
        return plugins.task(manifest.task or task_for(manifest.input, manifest.output)).pipeline or None
    except ZooError:
        return None


def _dataset(data: str) -> str:
    return _bare_id(parse_stage(data, "dataset"))


def _bare_id(stage: Stage) -> str:
    """Return the id of a technique or dataset, without distribution and options."""
    return stage.technique.rpartition(":")[2]
