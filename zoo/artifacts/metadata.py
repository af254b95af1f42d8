"""What model hubs read of an artifact: the front matter of its card, and its evaluation results.

Results are written in both forms that the Hugging Face Hub knows: `model-index` in the front matter (the older
one), and a file in `.eval_results` (the newer one, https://huggingface.co/docs/hub/eval-results).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.artifacts.figures import Figure
    from zoo.artifacts.manifest import Manifest

LIBRARY = "compression-zoo"
EVAL_RESULTS = ".eval_results"
_PIPELINES = {"rgb": "image-to-image", "mask": "image-segmentation", "logits": "image-classification"}
#: Figures that say what the network is worth, with the Hub's name of the metric; the others say what it costs.
_METRICS = {
    "psnr_db": "psnr",
    "ssim": "ssim",
    "mse": "mse",
    "iou": "mean_iou",
    "accuracy": "accuracy",
    "top1_agreement": "top1_agreement",
    "logits_sqnr_db": "logits_sqnr_db",
}


@dataclass(frozen=True)
class Publication:
    """What is known of an artifact once it is published.

    repository: NAMESPACE/NAME. identifier: its id in registry.toml. license: an id that the Hub knows, "" for none.
    base_model: repository of the network it was made from, "" if that is not published. datasets: ids on the Hub.
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
    """The metadata at the head of the card, between two lines of dashes.

    data: the dataset that the figures were measured on, as a recipe names it; "" if there is none.
    """
    found: dict[str, Any] = {
        "library_name": LIBRARY,
        "pipeline_tag": _PIPELINES[manifest.output.kind],
        "tags": list(_tags(manifest)),
    }
    if publication and publication.license:
        found["license"] = publication.license
    if publication and publication.base_model:
        found["base_model"] = publication.base_model
        if manifest.precision == "int8":
            found["base_model_relation"] = "quantized"
    if publication and publication.datasets:
        found["datasets"] = list(publication.datasets)
    measured = _quality(figures)
    if measured and data:
        found["metrics"] = [_METRICS[figure.key] for figure in measured]
        found["model-index"] = [_model_index(name, found["pipeline_tag"], measured, data)]
    return "\n".join(["---", *_yaml(found), "---"])


def eval_results(figures: Iterable[Figure], data: str) -> dict[str, str]:
    """The files of `.eval_results`: name and content of each; empty if nothing was measured.

    The datasets are those of compression-zoo. The Hub shows results of datasets that it lists as benchmarks,
    which these are not (yet); it keeps the others as they are.
    """
    measured = _quality(figures)
    if not measured or not data:
        return {}
    rows = [
        {
            "dataset": {"id": f"{LIBRARY}/{_dataset(data)}", "task_id": figure.key},
            "value": figure.after,
            **({"notes": figure.how} if figure.how else {}),
        }
        for figure in measured
    ]
    return {f"{EVAL_RESULTS}/{_dataset(data)}.yaml": "\n".join(_yaml(rows)) + "\n"}


# --------------------------------------------------------------------------------------------------- details


def _tags(manifest: Manifest) -> Iterator[str]:
    yield LIBRARY
    yield manifest.architecture.partition(":")[0]
    yield manifest.precision
    yield "onnx"
    if manifest.input.kind == "packed-raw":
        yield "raw"
    yield from dict.fromkeys(_techniques(manifest.recipe))


def _techniques(recipe: str) -> list[str]:
    """The ids of the techniques of a canonical recipe, without the distributions before them."""
    bare = re.sub(r'"(?:\\.|[^"\\])*"', "", recipe)
    while bare != (bare := re.sub(r"\([^()]*\)", "", bare)):
        pass
    return [stage.rpartition(":")[2] for stage in bare.split("+") if stage]


def _quality(figures: Iterable[Figure]) -> list[Figure]:
    return [figure for figure in figures if figure.key in _METRICS]


def _dataset(data: str) -> str:
    """The dataset's id, without distribution and options."""
    found = re.match(r"(?:[A-Za-z0-9._-]+:)?([a-z][a-z0-9-]*)", data)
    return found[1] if found else "data"


def _model_index(name: str, task: str, measured: Iterable[Figure], data: str) -> dict[str, Any]:
    metrics = [
        {
            "type": _METRICS[figure.key],
            "value": figure.after,
            "name": f"{figure.name} ({figure.unit})" if figure.unit else figure.name,
        }
        for figure in measured
    ]
    dataset = {"type": _dataset(data), "name": data, "split": "test"}
    return {"name": name, "results": [{"task": {"type": task}, "dataset": dataset, "metrics": metrics}]}


def _yaml(value: Any, indent: str = "") -> Iterator[str]:
    """Lines of a YAML block of mappings, lists, texts and numbers; texts that could be anything else are quoted."""
    pairs = value.items() if isinstance(value, Mapping) else ((None, item) for item in value)
    for key, item in pairs:
        head = f"{indent}-" if key is None else f"{indent}{key}:"
        if not isinstance(item, (Mapping, list)):
            yield f"{head} {_scalar(item)}"
        elif key is None:
            first, *rest = _yaml(item, f"{indent}  ")
            yield f"{head} {first.lstrip()}"
            yield from rest
        else:
            yield head
            yield from _yaml(item, f"{indent}  " if isinstance(item, Mapping) else indent)


def _scalar(value: Any) -> str:
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9./_-]*", value)
    if plain and value.lower() not in ("true", "false", "yes", "no", "on", "off", "null", "y", "n"):
        return str(value)
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)
