"""Settings for all tests, and fixtures that several test modules share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from fake_distributions import install
from small_plugin import PLUGIN, TECHNIQUES

# How long an example takes says nothing on a machine that does other work too.
settings.register_profile("zoo", deadline=None)
settings.load_profile("zoo")


@pytest.fixture(scope="session")
def third_party(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Installs the distribution for this process and those it starts."""
    site = tmp_path_factory.mktemp("site")
    install(
        site,
        "zoo-small",
        {
            "zoo.architectures": {"small-unet": "zoo_small:Small"},
            "zoo.techniques": {name: f"zoo_small:{target}" for name, target in TECHNIQUES.items()},
        },
        PLUGIN,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        patch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
        yield
