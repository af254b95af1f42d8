"""Legality is decided from declarations alone; the matrix says exactly what the check does."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo import plugins
from zoo.contracts import Phase, Technique
from zoo.errors import LegalityError
from zoo.recipes import legality, parse
from zoo.recipes.canonical import resolve
from zoo.recipes.legality import Relation, check, matrix, relation, suggest_order


def declare(id_: str, phase: Phase = Phase.TRAINING, **declarations: object) -> type[Technique]:
    sets = {key: frozenset(value) if isinstance(value, set) else value for key, value in declarations.items()}
    return type(id_, (Technique,), {"id": id_, "phase": phase, **sets})


PRUNE = declare("prune", Phase.STRUCTURE, before={"thin"})
THIN = declare("thin", Phase.STRUCTURE)
DISTILL = declare("distill", Phase.TRAINING)
QUANTIZE = declare("quantize", Phase.NUMERICS)
BINARIZE = declare("binarize", Phase.NUMERICS, conflicts={"quantize"})
NOISE = declare("noise", Phase.TRAINING, repeatable=True, after={"distill"})
ALL = (PRUNE, THIN, DISTILL, QUANTIZE, BINARIZE, NOISE)


def refused(*techniques: type[Technique]) -> str | None:
    try:
        check(techniques)
    except LegalityError as error:
        return str(error)
    return None


# ------------------------------------------------------------------------------------------------- messages


def test_structure_after_numerics_is_refused_with_the_right_order() -> None:
    for order in ("qat+depthwise", "qat(bits=8)+depthwise(which=all)"):
        with pytest.raises(LegalityError) as caught:
            resolve(order)
        suggested = "+".join(reversed(order.split("+")))
        assert str(caught.value) == (
            f"depthwise changes structure and must come before qat; did you mean {suggested}?"
        )
        assert caught.value.exit_code == 2
        resolve(suggested)


@pytest.mark.parametrize(
    ("techniques", "message"),
    [
        ((THIN, PRUNE), "prune must come before thin; did you mean prune+thin?"),
        ((NOISE, DISTILL), "distill must come before noise; did you mean distill+noise?"),
        (
            (QUANTIZE, DISTILL, THIN),
            "distill changes training and must come before quantize; did you mean thin+distill+quantize?",
        ),
        (
            (QUANTIZE, BINARIZE),
            "quantize and binarize cannot share a recipe\nLeave one of them out:  quantize  or  binarize",
        ),
        (
            (BINARIZE, QUANTIZE),
            "binarize and quantize cannot share a recipe\nLeave one of them out:  binarize  or  quantize",
        ),
        ((DISTILL, DISTILL), "distill may appear only once in a recipe\nLeave one of them out:  distill"),
        (
            (BINARIZE, THIN, QUANTIZE),
            "thin changes structure and must come before binarize; no order of these techniques is legal",
        ),
        (
            (THIN, BINARIZE, NOISE, QUANTIZE),
            "noise changes training and must come before binarize; no order of these techniques is legal",
        ),
        (
            (QUANTIZE, THIN, BINARIZE),
            "thin changes structure and must come before quantize; no order of these techniques is legal",
        ),
    ],
)
def test_a_refusal_says_why_and_what_was_meant(techniques: tuple[type[Technique], ...], message: str) -> None:
    assert refused(*techniques) == message


def test_what_is_left_without_the_one_or_the_other_is_legal_and_keeps_its_options() -> None:
    with pytest.raises(LegalityError) as caught:
        resolve("depthwise(which=all)+distill+ptq(mode=dynamic)+qat(bits=8)")
    assert caught.value.hint is not None
    for left in caught.value.hint.partition(":")[2].split("  or  "):
        resolve(left.strip())
    assert (
        "depthwise(which=all)+distill+ptq(mode=dynamic)  or  depthwise(which=all)+distill+qat(bits=8)"
        in str(caught.value)
    )


def test_declarations_that_contradict_each_other_are_legal_in_no_order() -> None:
    early, late = declare("early", before={"late"}), declare("late", before={"early"})
    for order in ((early, late), (late, early)):
        assert "each demand to come first" in str(refused(*order))
    backwards = declare("backwards", Phase.STRUCTURE, after={"quantize"})
    assert refused(backwards, QUANTIZE)
    assert refused(QUANTIZE, backwards)


def test_what_may_stand_together_does() -> None:
    assert refused(PRUNE, THIN, DISTILL, NOISE, NOISE, QUANTIZE) is None
    assert refused() is None


# --------------------------------------------------------------------------------------------------- matrix


def test_the_matrix_of_the_installed_techniques_says_what_the_check_does() -> None:
    classes = [plugins.load_plugin(plugin) for plugin in plugins.find_plugins("techniques")]
    table = matrix(classes)
    assert len(table) == len(classes) ** 2
    for first, second in itertools.product(classes, classes):
        legal = refused(first, second) is None
        assert (table[first.id, second.id] is not Relation.FORBIDDEN) == legal
    assert table["depthwise", "qat"] is Relation.ORDERED
    assert table["qat", "depthwise"] is Relation.FORBIDDEN


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (PRUNE, DISTILL, Relation.ORDERED),
        (DISTILL, PRUNE, Relation.FORBIDDEN),
        (declare("a"), declare("b"), Relation.COMMUTES),
        (NOISE, NOISE, Relation.COMMUTES),
        (THIN, THIN, Relation.FORBIDDEN),
        (QUANTIZE, BINARIZE, Relation.FORBIDDEN),
    ],
)
def test_a_relation_follows_from_the_declarations(
    first: type[Technique], second: type[Technique], expected: Relation
) -> None:
    assert relation(first, second) is expected


IDS = ("aa", "bb", "cc", "dd")


@st.composite
def declared(draw: st.DrawFn) -> list[type[Technique]]:
    some = st.sets(st.sampled_from(IDS), max_size=2)
    return [
        declare(
            id_,
            draw(st.sampled_from(Phase)),
            before=draw(some),
            after=draw(some),
            conflicts=draw(some) - {id_},
            repeatable=draw(st.booleans()),
        )
        for id_ in IDS
    ]


@given(declared(), st.data())
def test_the_check_is_the_matrix_of_every_pair_and_the_suggestion_is_legal(
    classes: list[type[Technique]], data: st.DataObject
) -> None:
    techniques = data.draw(st.lists(st.sampled_from(classes), max_size=5))
    pairs = itertools.combinations(techniques, 2)
    legal = all(relation(first, second) is not Relation.FORBIDDEN for first, second in pairs)
    assert (refused(*techniques) is None) == legal

    order = suggest_order(techniques)
    possible = any(refused(*each) is None for each in itertools.permutations(techniques))
    assert (order is not None) == possible
    if order is not None:
        assert sorted(order) == list(range(len(techniques)))
        assert refused(*(techniques[i] for i in order)) is None
    if legal:
        assert order == tuple(range(len(techniques)))


def test_the_longest_recipe_is_ordered_quickly() -> None:
    techniques = [declare(f"t{number}") for number in range(64)]
    chained = [declare(f"t{number}", before={f"t{number + 1}"}) for number in range(64)]
    assert suggest_order(techniques) == tuple(range(64))
    assert suggest_order(chained[::-1]) == tuple(range(63, -1, -1))


def test_the_suggestion_keeps_options_as_written() -> None:
    recipe = parse('quantize(a=0.10)+thin(b="x y")')
    with pytest.raises(LegalityError, match=r'did you mean thin\(b="x y"\)\+quantize\(a=0\.10\)\?'):
        legality.check([QUANTIZE, THIN], recipe)
