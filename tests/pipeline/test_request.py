"""What a request is made of: explicit options, then the recipe file, then the defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.errors import UsageError
from zoo.pipeline.request import DEFAULT_MINUTES, ApplyRequest, make_request
from zoo.recipes.grammar import parse
from zoo.recipes.recipe_toml import RecipeFile
from zoo.training.schedule import Budget

FILE = RecipeFile(
    parse("depthwise+qat"),
    architecture="unet",
    seed=3,
    steps=(600, 300),
    data="darkroom(min_ratio=150)",
    weights="lighter-unet",
    batch=2,
    crop=64,
    learning_rate=1e-3,
    precision="float32",
    half_weights=True,
)


def test_what_is_not_given_comes_from_the_recipe_file() -> None:
    request = make_request(FILE)
    assert request.budgets == (Budget(steps=600), Budget(steps=300))
    stated = (
        "architecture",
        "seed",
        "data",
        "weights",
        "batch",
        "crop",
        "learning_rate",
        "precision",
        "half_weights",
    )
    assert [getattr(request, name) for name in stated] == [getattr(FILE, name) for name in stated]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 0),
        ("data", "sid"),
        ("weights", "auto"),
        ("batch", 4),
        ("learning_rate", 4e-4),
        ("precision", "auto"),
    ],
)
def test_what_is_given_goes_before_the_recipe_file_even_if_it_is_the_default(
    name: str, value: object
) -> None:
    assert getattr(make_request(FILE, **{name: value}), name) == value


def test_the_architecture_that_is_given_goes_before_the_one_of_the_file() -> None:
    assert make_request(FILE, "light-unet").architecture == "light-unet"
    with pytest.raises(UsageError, match="does not name an architecture"):
        make_request(RecipeFile(parse("qat")))


def test_minutes_that_are_given_replace_the_steps_of_the_file() -> None:
    assert make_request(FILE, minutes=2.0).budgets == (Budget(minutes=2.0),)
    assert make_request(FILE, steps=(5,)).budgets == (Budget(steps=5),)
    with pytest.raises(UsageError, match="--minutes and --steps cannot be combined"):
        make_request(FILE, minutes=2.0, steps=(5,))


def test_what_neither_states_is_the_default() -> None:
    request = make_request(RecipeFile(parse("qat")), "unet")
    plain = ApplyRequest(parse("qat"), "unet", Path("out/unet-qat"), (Budget(minutes=DEFAULT_MINUTES),))
    assert request == plain
    assert make_request(parse("qat"), "unet") == plain


def test_the_output_folder_is_named_after_the_architecture_and_the_recipe() -> None:
    assert make_request(parse("depthwise + qat(bits=8)"), "unet").out == Path("out/unet-depthwise+qat-bits-8")
    assert make_request(None, "timm:resnet18").out == Path("out/timm-resnet18-trained")
    assert make_request(None, "unet", out=Path("mine")).out == Path("mine")


def test_training_starts_from_random_weights_unless_some_are_named() -> None:
    assert make_request(None, "unet").weights == "none"
    assert make_request(None, "unet", weights="auto").weights == "none"
    assert make_request(None, "unet", weights="lighter-unet").weights == "lighter-unet"
    assert make_request(parse("qat"), "unet").weights == "auto"


def test_a_precision_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="'float8' is unknown"):
        make_request(RecipeFile(parse("qat"), architecture="unet", precision="float8"))
