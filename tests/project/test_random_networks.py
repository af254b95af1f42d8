"""Random networks under random recipes: the exported file is the network, or it is refused by name.

Each run draws 20 networks in two batches; the long form (``pytest -m long``) draws 2,000.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from support.random_networks import Case, cases
from zoo.errors import PluginError, ZooError
from zoo.recipes import canonical
from zoo.testing import attempt

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
LIMITS = {"deadline": None, "suppress_health_check": list(HealthCheck)}


def right_or_refused(case: Case) -> None:
    techniques = canonical.resolve(case.recipe).techniques if case.recipe else []
    refusal: ZooError | None = None
    try:
        trial = attempt(techniques, case.architecture())
    except ZooError as error:
        refusal = error
    if refusal is None:
        assert trial.comparison.agrees, trial.comparison
    else:
        assert not isinstance(refusal, PluginError), refusal


@pytest.mark.parametrize("batch", range(2))
def test_a_file_is_its_network_or_is_refused(batch: int) -> None:
    @settings(max_examples=10, derandomize=True, phases=[Phase.generate], **LIMITS)
    @given(cases(), st.just(batch))
    def check(case: Case, batch: int) -> None:
        right_or_refused(case)

    check()


@pytest.mark.long
@settings(max_examples=2_000, **LIMITS)
@given(cases())
def test_thousands_of_files_are_their_networks_or_are_refused(case: Case) -> None:
    right_or_refused(case)
