"""The canonical form and the fingerprint: equal for equal work, different for anything that matters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.fake_distributions import install_technique, python
from zoo.errors import PluginError, UnknownIdError, UsageError
from zoo.recipes import parse
from zoo.recipes.canonical import canonical, resolve
from zoo.recipes.fingerprint import fingerprint

GIVEN: dict[str, Any] = {
    "architecture": "unet",
    "plugins": {"compression-zoo": "0.1.0"},
    "data": "darkroom:12345",
    "weights": "ab" * 32,
    "seed": 0,
    "training": {"steps": 600, "rate": 0.001, "ema": True},
}


# ------------------------------------------------------------------------------------------- canonical form


def test_every_option_is_explicit_and_sorted() -> None:
    stage = resolve("depthwise").recipe.stages[0]
    names = [name for name, _ in stage.options]
    assert names == sorted(names)
    assert "which" in names


@pytest.mark.parametrize(
    "written",
    [
        "depthwise+qat",
        "depthwise()+qat(bits=8)",
        " depthwise ( which = all ) + qat ( bits = 08 )",
        'compression-zoo:depthwise(which="all")+Compression_Zoo:qat(per-channel=yes)',
        "depthwise(refine=on,which=all)+qat",
    ],
)
def test_recipes_that_mean_the_same_have_one_canonical_form(written: str) -> None:
    text = canonical(written)
    assert text == canonical("depthwise+qat")
    assert canonical(text) == text


def test_another_option_value_is_another_canonical_form() -> None:
    assert canonical("depthwise(which=second)") != canonical("depthwise")


def test_resolving_gives_configured_techniques_and_their_versions() -> None:
    resolved = resolve("depthwise(which=second)+qat")
    assert [technique.id for technique in resolved.techniques] == ["depthwise", "qat"]
    assert resolved.techniques[0].config.which == "second"
    assert list(resolved.versions) == ["compression-zoo"]
    assert str(resolved) == str(resolved.recipe)


@pytest.mark.parametrize(
    ("recipe", "error"),
    [
        ("depthwise+qad", UnknownIdError),
        ("depthwise(wich=all)", UnknownIdError),
        ("depthwise(which=none)", UsageError),
        ("zoo-absent:qat", UnknownIdError),
    ],
)
def test_what_cannot_be_resolved_is_refused(recipe: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        resolve(recipe)


def test_a_third_partys_technique_is_named_with_its_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_technique(tmp_path, "zoo-canon", "canon")
    monkeypatch.syspath_prepend(tmp_path)
    assert canonical("canon") == canonical("Zoo_Canon:canon") == "zoo-canon:canon(strength=1)"
    assert resolve("canon+depthwise").versions.keys() == {"zoo-canon", "compression-zoo"}
    install_technique(tmp_path, "zoo-rival", "canon")
    with pytest.raises(PluginError, match=r"zoo-canon 1\.0 and zoo-rival 1\.0"):
        resolve("canon")
    assert canonical("zoo-canon:canon") == "zoo-canon:canon(strength=1)"


# ----------------------------------------------------------------------------------------------- fingerprint


def test_the_fingerprint_of_known_content_never_changes() -> None:
    found = fingerprint(parse("depthwise(which=all)+qat(bits=8)"), **GIVEN)
    assert found == "sha256:2fce0e329b7b5c1d99868aa179d4120458c10b00f1d4115fb348596bde4301d3"


def test_the_order_in_which_settings_are_given_does_not_matter() -> None:
    turned = GIVEN | {"training": dict(reversed(GIVEN["training"].items()))}
    assert fingerprint(parse("qat"), **GIVEN) == fingerprint(parse("qat"), **turned)


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "light-unet"},
        {"plugins": {"compression-zoo": "0.1.1"}},
        {"plugins": {"compression-zoo": "0.1.0", "zoo-fancy": "1"}},
        {"data": "darkroom:12346"},
        {"weights": None},
        {"weights": "cd" * 32},
        {"seed": 1},
        {"training": {"steps": 601, "rate": 0.001, "ema": True}},
        {"training": {"steps": 600, "rate": 0.001, "ema": False}},
        {"training": {}},
    ],
)
def test_whatever_the_result_depends_on_changes_the_fingerprint(change: dict[str, Any]) -> None:
    assert fingerprint(parse("qat"), **GIVEN) != fingerprint(parse("qat"), **GIVEN | change)


def test_another_recipe_has_another_fingerprint() -> None:
    texts = ["qat", "qat(a=1)", "qat(a=[1])", 'qat(a="1 ")', "qat(b=1)", "qat+qat"]
    assert len({fingerprint(parse(text), **GIVEN) for text in texts}) == len(texts)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_a_setting_without_one_exact_form_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match="No fingerprint"):
        fingerprint(parse("qat"), **GIVEN | {"training": {"rate": value}})


def test_the_fingerprint_is_the_same_in_another_process() -> None:
    program = (
        "from zoo.recipes import parse\nfrom zoo.recipes.fingerprint import fingerprint\n"
        f"print(fingerprint(parse('qat'), **{GIVEN!r}))"
    )
    found = {python("-c", program, PYTHONHASHSEED=seed).out.strip() for seed in ("1", "2")}
    assert found == {fingerprint(parse("qat"), **GIVEN)}
