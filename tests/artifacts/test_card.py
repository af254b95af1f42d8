"""The card of an artifact says what a reader and a model hub want to know, in forms the Hub's own client reads."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

from support import tiny
from zoo.artifacts import open_artifact
from zoo.artifacts.card import card_text, evaluated_on
from zoo.artifacts.figures import Figure, figures_of
from zoo.artifacts.metadata import Publication, eval_results
from zoo.contracts import InputSpec, OutputSpec

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
METRICS: dict[str, Any] = {
    "baseline": "tiny (tiny weights)",
    "figures": [
        Figure("file_mb", "model.onnx", "MB", 2.0, 1.0, "size of the file").to_json(),
        Figure("psnr_db", "PSNR", "dB", 27.5, 27.1, "mean over 6 images: zoo eval x --data darkroom").to_json(),
        Figure("ssim", "SSIM", "", 0.8, 0.79, "").to_json(),
    ],
    "training": {"data": "darkroom(photos=[photos])"},
    "sample": "sample.png",
    "sample_shows": ["the dark file", "this network"],
}  # fmt: skip
HOME = Publication("tester/tiny-net", "tiny-net", "apache-2.0", "tester/tiny", ("tester/photos",))


def card(publication: Publication | None = None, **changes: Any) -> ModelCard:
    return ModelCard(card_text("tiny-net", tiny.manifest(**changes), METRICS, publication))


def test_the_metadata_is_complete_and_read_by_the_hubs_client() -> None:
    data = card(
        HOME, precision="int8", recipe='stage-prune(drop=1)+zoo-extra:slim(a=["x(y)+z"])+qat(bits=8)'
    ).data
    assert data.library_name == "compression-zoo"
    assert data.license == "apache-2.0"
    assert data.pipeline_tag == "image-to-image"
    assert data.base_model == "tester/tiny"
    assert data.to_dict()["base_model_relation"] == "quantized"
    assert data.datasets == ["tester/photos"]
    assert data.metrics == ["psnr", "ssim"]
    assert data.tags == ["compression-zoo", "tiny", "int8", "onnx", "raw", "stage-prune", "slim", "qat"]
    assert data.model_name == "tiny-net"
    assert [(each.metric_type, each.metric_value) for each in data.eval_results or []] == [
        ("psnr", 27.1),
        ("ssim", 0.79),
    ]
    first = (data.eval_results or [])[0]
    assert (first.task_type, first.dataset_type, first.dataset_split) == (
        "image-to-image",
        "darkroom",
        "test",
    )
    assert first.dataset_name == "darkroom(photos=[photos])"
    assert first.metric_name == "PSNR (dB)"


def test_the_front_matter_is_written_as_the_hubs_client_writes_it() -> None:
    text = card_text("tiny-net", tiny.manifest(precision="int8", recipe="qat"), METRICS, HOME)
    assert (
        text.split("\n# ")[0]
        == """\
---
base_model: tester/tiny
datasets:
- tester/photos
library_name: compression-zoo
license: apache-2.0
metrics:
- psnr
- ssim
pipeline_tag: image-to-image
tags:
- compression-zoo
- tiny
- int8
- onnx
- raw
- qat
base_model_relation: quantized
model-index:
- name: tiny-net
  results:
  - task:
      type: image-to-image
    dataset:
      name: darkroom(photos=[photos])
      type: darkroom
      split: test
    metrics:
    - type: psnr
      value: 27.1
      name: PSNR (dB)
    - type: ssim
      value: 0.79
      name: SSIM
---
"""
    )


def test_results_whose_dataset_is_not_one_are_left_out() -> None:
    metrics = {**METRICS, "training": {"data": "a: b"}}
    assert evaluated_on(metrics) == ""
    assert "model-index" not in ModelCard(card_text("tiny-net", tiny.manifest(), metrics)).data.to_dict()


def test_a_card_on_this_machine_names_the_folder_as_zoo_run_takes_it() -> None:
    text = card_text("net", tiny.manifest(), METRICS, path=Path("out/my net"))
    assert "zoo run 'out/my net' IMG_0001.DNG -o pictures\n" in text


def test_what_is_not_known_is_left_out() -> None:
    found = card(recipe="").data.to_dict()
    assert not {"license", "base_model", "base_model_relation", "datasets"} & found.keys()
    nothing = ModelCard(card_text("tiny-net", tiny.manifest(), {})).data.to_dict()
    assert not {"metrics", "model-index"} & nothing.keys()


@pytest.mark.parametrize(
    ("output", "task", "gives"),
    [
        (OutputSpec("mask", 2, 1), "image-segmentation", "a mask of probabilities in 2 channels"),
        (OutputSpec("logits", 10), "image-classification", "10 logits"),
    ],
)
def test_the_task_follows_from_what_the_network_gives(output: OutputSpec, task: str, gives: str) -> None:
    found = card(input=InputSpec("gray", 1), output=output)
    assert found.data.pipeline_tag == task
    assert f"Its input is a grey image, its output {gives}" in found.text
    assert "raw" not in (found.data.tags or [])


@pytest.mark.parametrize(
    "text",
    ["yes", "no", "1e3", "0x1F", "null", "a: b", "- a", "#a", "", "'", '"', "a\\b", "~", "é", "2026-01-01"],
)
def test_texts_come_out_of_the_metadata_as_they_went_in(text: str) -> None:
    row = dataclasses.replace(figures_of(METRICS)[1], name=text or "x", how=text)
    metrics = {**METRICS, "figures": [row.to_json()]}
    data = ModelCard(card_text(text or "x", tiny.manifest(), metrics)).data
    assert data.model_name == (text or "x")
    notes = yaml.safe_load(eval_results([row], "darkroom")[".eval_results/darkroom.yaml"])[0].get("notes", "")
    assert notes == text


def test_results_are_written_in_the_newer_form_too() -> None:
    files = eval_results(figures_of(METRICS), evaluated_on(METRICS))
    assert list(files) == [".eval_results/darkroom.yaml"]
    rows = parse_eval_result_entries(yaml.safe_load(files[".eval_results/darkroom.yaml"]))
    assert [(row.dataset_id, row.task_id, row.value) for row in rows] == [
        ("compression-zoo/darkroom", "psnr_db", 27.1),
        ("compression-zoo/darkroom", "ssim", 0.79),
    ]
    assert rows[0].notes == "mean over 6 images: zoo eval x --data darkroom"
    assert eval_results(figures_of({}), "darkroom") == {}
    assert eval_results(figures_of(METRICS), "") == {}


def test_commands_that_measure_name_the_artifact_as_its_reader_calls_it() -> None:
    told = Figure("psnr_db", "PSNR", "dB", 1.0, 2.0, "mean: zoo eval 'out/my net' --data darkroom")
    metrics = {**METRICS, "figures": [told.to_json()]}
    assert "zoo eval tiny-net --data" in card_text("tiny-net", tiny.manifest(), metrics, HOME)
    here = card_text("net", tiny.manifest(), metrics, path=Path("elsewhere/net"))
    assert "zoo eval elsewhere/net --data" in here
    assert "out/my net" not in here


def test_many_scenes_are_a_number_and_a_digest_and_few_are_named() -> None:
    names = [f"IMG_{number:04}" for number in range(1234)]

    def shown(trained: list[str]) -> str:
        training = {
            "data": "darkroom(photos=[photos])",
            "trained_on": trained,
            "evaluated_on": ["rocket", "china"],
        }
        return card_text("net", tiny.manifest(), {**METRICS, "training": training})

    text = shown(names)
    assert "IMG_0007" not in text
    line = next(line for line in text.splitlines() if line.startswith("- trained on: 1,234 scenes (sha256"))
    assert line in shown(names[::-1])
    assert line not in shown([*names[1:], "other"])
    assert "- evaluated on: rocket, china" in text


def test_a_sample_picture_has_a_caption() -> None:
    assert "](sample.png)\n\n*From left to right: the dark file, this network.*" in card().text


def test_a_published_card_says_how_to_run_it_on_a_board() -> None:
    text = card(HOME).text
    for expected in (
        "zoo pull tester/tiny-net@COMMIT --out tiny-net",
        "zoo pull tiny-net\n",
        "zoo run tiny-net IMG_0001.DNG -o pictures",
        "![the dark file, this network](sample.png)",
        "| PSNR | 27.5 dB | 27.1 dB |",
        "- PSNR: mean over 6 images: zoo eval tiny-net --data darkroom",
        tiny.FINGERPRINT,
    ):
        assert expected in text


def test_shares_are_percentages_and_only_images_are_cut_into_tiles() -> None:
    figures = [Figure("top1", "top-1", "", 0.794, 0.776, "").to_json()]
    manifest = tiny.manifest(
        input=InputSpec("rgb", 3), output=OutputSpec("logits", 10), task="classification"
    )
    text = card_text("tiny-net", manifest, {**METRICS, "figures": figures}, HOME)
    assert "| top-1 | 79.40 % | 77.60 % |" in text
    assert "value: 0.776" in text
    assert "tiles" not in text
    assert "cuts an image into tiles" in card(HOME).text


@pytest.mark.parametrize("name", ["unet", "lighter-unet", "lighter-unet-int8"])
def test_the_cards_of_the_shipped_checkpoints_would_publish(name: str) -> None:
    artifact = open_artifact(CHECKPOINTS / name)
    metrics = artifact.metrics()
    data = ModelCard(card_text(name, artifact.manifest, metrics, HOME)).data
    assert {each.metric_type for each in data.eval_results or []} == {"psnr", "ssim"}
    assert len(eval_results(figures_of(metrics), evaluated_on(metrics))) == 1
