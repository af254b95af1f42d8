"""Recipes as hypothesis draws them: any id, any option, any text."""

from __future__ import annotations

from hypothesis import strategies as st

from zoo.recipes import Recipe, Stage

IDS = st.text("az09-", min_size=1, max_size=31).map("q".__add__)


DISTRIBUTIONS = st.text("aZ09._-", max_size=20).map(lambda middle: f"Z{middle}o")


NAMES = st.text("aZ09_-", max_size=63).map("b".__add__)


TEXTS = (
    st.text()
    | st.text(st.characters(categories=["Cs", "Cc", "Zs", "Ps", "Lu"]))
    | st.sampled_from('"\\[](),=+#')
)


VALUES = TEXTS | st.lists(TEXTS, max_size=4).map(tuple)


STAGES = st.builds(
    Stage,
    IDS | st.tuples(DISTRIBUTIONS, IDS).map(":".join),
    st.dictionaries(NAMES, VALUES, max_size=4).map(lambda options: tuple(options.items())),
)


RECIPES = st.lists(STAGES, min_size=1, max_size=4).map(lambda stages: Recipe(tuple(stages)))
