"""Every cell of `zoo techniques --matrix`, done: legal pairs run to the exported file, the others are refused."""

from __future__ import annotations

import pytest

from zoo.contracts import Technique
from zoo.errors import LegalityError
from zoo.plugins import find, load_plugin
from zoo.recipes import legality
from zoo.recipes.legality import Relation, relation
from zoo.testing import attempt
from zoo.testing.checks import GOLDEN_PSNR

BUILTIN: list[type[Technique]] = [load_plugin(each) for each in find("techniques") if each.builtin]
PAIRS = [(first, second) for first in BUILTIN for second in BUILTIN]
LEGAL = [pair for pair in PAIRS if relation(*pair) is not Relation.FORBIDDEN]
FORBIDDEN = [pair for pair in PAIRS if relation(*pair) is Relation.FORBIDDEN]


def name(pair: tuple[type[Technique], type[Technique]]) -> str:
    return "+".join(each.id for each in pair)


@pytest.mark.parametrize("pair", LEGAL, ids=name)
def test_a_legal_pair_applies_trains_exports_and_computes_what_the_net_computes(pair) -> None:
    trial = attempt([technique() for technique in pair])
    assert trial.agreement >= GOLDEN_PSNR, f"{trial.agreement:.1f} dB in ONNX Runtime"


@pytest.mark.parametrize("pair", FORBIDDEN, ids=name)
def test_a_forbidden_pair_is_refused_by_name_with_the_order_that_works(pair) -> None:
    first, second = pair
    with pytest.raises(LegalityError) as refusal:
        legality.check(pair)
    assert first.id in refusal.value.message
    assert second.id in refusal.value.message
    if relation(second, first) is not Relation.FORBIDDEN:
        assert f"did you mean {second.id}+{first.id}?" in refusal.value.message
