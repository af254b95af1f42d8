"""Every built-in dataset passes the kit that third parties run."""

from __future__ import annotations

import pytest

from support import mask_folders, sid_tree
from zoo.data.darkroom import Darkroom
from zoo.data.masks import Masks
from zoo.data.photos import Photos
from zoo.data.sid import SeeInTheDark
from zoo.plugins import find_plugins, load_plugin
from zoo.testing import dataset_checks

TestDarkroom = dataset_checks(Darkroom)
TestPhotos = dataset_checks(Photos)
TestMasks = dataset_checks(Masks, options={"root": "", "val_share": "0.2"})
TestSeeInTheDark = dataset_checks(SeeInTheDark, options={"root": ""})


@pytest.fixture(autouse=True, scope="module")
def _files(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Write the files of the two datasets that have none of their own."""
    for checks, write in ((TestMasks, mask_folders.write_folder), (TestSeeInTheDark, sid_tree.write_tree)):
        root = tmp_path_factory.mktemp("data")
        write(root)
        checks.options["root"] = str(root)


def test_none_is_left_out() -> None:
    tried = {checks.dataset for checks in (TestDarkroom, TestPhotos, TestMasks, TestSeeInTheDark)}
    assert tried == {load_plugin(plugin) for plugin in find_plugins("datasets") if plugin.builtin}
