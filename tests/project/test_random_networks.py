"""Random networks under random recipes: the exported file is the network, or it is refused by name.

Each run draws 500 networks, 25 as the branches of one, so that they share an export. Where one of them disagrees or is
refused, the branches are halved until it stands alone. The long form draws 20,000:  pytest -m long tests/project
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from torch import Tensor

from support.exported import run as run_file
from support.random_networks import RECIPES, SIDE, Case, Network, cases
from zoo.errors import NoEffectError, PluginError, ZooError
from zoo.recipes import canonical
from zoo.surgery import signal_to_error
from zoo.testing import Trial, attempt

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
LIMITS = {"deadline": None, "suppress_health_check": list(HealthCheck)}
TOGETHER = 25
#: Of the branches of a draw: what zoo refuses is the exception.
MOST_REFUSED = 0.2
#: dB that a branch keeps of the network before the recipe where only rounding lies between: a wrong graph keeps none.
LEAST_OF_THE_ORIGINAL = 10
ROUNDING = "ptq"


def doubtful(case: Case, trial: Trial) -> list[int]:
    """The branches whose file differs from the network, or whose rounding changes more than rounding does."""
    assert isinstance(trial.original, Network)
    x = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    sizes = trial.original.sizes(x)
    file, finished = run_file(trial.exported, x), torch.from_numpy(trial.computed(x.numpy()))
    with torch.no_grad():
        original = trial.original(x.clone())

    def parts(value: Tensor) -> Sequence[Tensor]:
        return value.split(sizes, 1)

    return [
        index
        for index, (a, b, c) in enumerate(zip(parts(file), parts(finished), parts(original), strict=True))
        if signal_to_error(b, a) < trial.comparison.bound
        or (case.recipe.startswith(ROUNDING) and signal_to_error(c, b) < LEAST_OF_THE_ORIGINAL)
    ]


def refused(case: Case) -> int:
    """Return how many branches are refused; fail if a file is not its network."""
    techniques = canonical.resolve(case.recipe).techniques if case.recipe else []
    try:
        trial = attempt(techniques, case.architecture())
    except NoEffectError:
        assert len(case.branches) < TOGETHER, f"{case.recipe} is tried on nothing"
        return 0
    except ZooError as refusal:
        if len(case.branches) > 1:
            return sum(map(refused, case.halves()))
        assert not isinstance(refusal, PluginError), (case, refusal)  # noqa: PT017 - others are refusals
        return 1
    if len(case.branches) == 1:
        assert trial.comparison.agrees, (case, trial.comparison)
        return 0
    return sum(refused(replace(case, branches=(case.branches[index],))) for index in doubtful(case, trial))


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_a_file_is_its_network_or_is_refused(recipe: str) -> None:
    @settings(max_examples=RECIPES[recipe], derandomize=True, phases=[Phase.generate], **LIMITS)
    @given(cases(TOGETHER, [recipe]))
    def check(case: Case) -> None:
        assert refused(case) <= MOST_REFUSED * len(case.branches)

    check()


@pytest.mark.long
@settings(max_examples=20_000 // TOGETHER, **LIMITS)
@given(cases(TOGETHER, sorted(RECIPES)))
def test_thousands_of_files_are_their_networks_or_are_refused(case: Case) -> None:
    assert refused(case) <= MOST_REFUSED * len(case.branches)
