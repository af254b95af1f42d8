"""Every cell of `zoo techniques --matrix`, done: legal pairs run to the exported file, the others are refused.

All legal pairs are the long form (``pytest -m long tests/techniques/test_composition_matrix.py``); every ninth of them
is done in each run, and so are the longer recipes of the papers.
"""

from __future__ import annotations

import pytest

from zoo.contracts import Technique
from zoo.errors import LegalityError
from zoo.plugins import find_plugins, load_plugin
from zoo.recipes import canonical, legality
from zoo.recipes.legality import Relation, relation
from zoo.testing import attempt

BUILTIN: list[type[Technique]] = [load_plugin(each) for each in find_plugins("techniques") if each.builtin]
PAIRS = [(first, second) for first in BUILTIN for second in BUILTIN]
LEGAL = [pair for pair in PAIRS if relation(*pair) is not Relation.FORBIDDEN]
FORBIDDEN = [pair for pair in PAIRS if relation(*pair) is Relation.FORBIDDEN]
EVERY = 9


def name(pair: tuple[type[Technique], type[Technique]]) -> str:
    return "+".join(each.id for each in pair)


@pytest.mark.parametrize(
    "pair",
    [pytest.param(pair, marks=() if at % EVERY == 0 else pytest.mark.long) for at, pair in enumerate(LEGAL)],
    ids=[name(pair) for pair in LEGAL],
)
def test_a_legal_pair_applies_trains_exports_and_computes_what_the_net_computes(pair) -> None:
    trial = attempt([technique() for technique in pair])
    assert trial.comparison.agrees, trial.comparison


def test_the_pairs_of_each_run_have_every_technique_in_them() -> None:
    assert {technique for pair in LEGAL[::EVERY] for technique in pair} == set(BUILTIN)


@pytest.mark.parametrize(
    "recipe",
    [
        "stage-prune+depthwise+distill",
        "fire+distill+qat",
        "depthwise+distill+fixed-point(w=0.4,a=6.0)",
        "channel-prune+ptq",
    ],
)
def test_a_recipe_of_the_papers_works_as_written(recipe: str) -> None:
    trial = attempt(canonical.resolve(recipe).techniques)
    assert trial.comparison.agrees, trial.comparison


@pytest.mark.parametrize("pair", FORBIDDEN, ids=name)
def test_a_forbidden_pair_is_refused_by_name_with_the_order_that_works(pair) -> None:
    first, second = pair
    with pytest.raises(LegalityError) as refusal:
        legality.check(pair)
    assert first.id in refusal.value.message
    assert second.id in refusal.value.message
    if relation(second, first) is not Relation.FORBIDDEN:
        assert f"did you mean {second.id}+{first.id}?" in refusal.value.message
