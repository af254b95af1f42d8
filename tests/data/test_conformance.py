"""Every built-in dataset passes the kit that third parties run."""

from __future__ import annotations

import pytest

from support import array_file, boxed_images, class_folders, image_pairs, mask_folders, sid_tree
from zoo.data.coco import Coco
from zoo.data.darkroom import Darkroom
from zoo.data.folder import Folder
from zoo.data.masks import Masks
from zoo.data.pairs import Pairs
from zoo.data.photos import Photos
from zoo.data.sid import SeeInTheDark
from zoo.data.tensors import Tensors
from zoo.plugins import find_plugins, load_plugin
from zoo.testing import dataset_checks

TestDarkroom = dataset_checks(Darkroom)
TestPhotos = dataset_checks(Photos)
TestMasks = dataset_checks(Masks, options={"root": "", "val_share": "0.2"})
TestFolder = dataset_checks(Folder, options={"root": ""}, architecture=class_folders.Classifier())
TestPairs = dataset_checks(Pairs, options={"input": "", "target": ""})
TestTensors = dataset_checks(Tensors, options={"file": ""}, architecture=class_folders.Classifier(4))
TestCoco = dataset_checks(Coco, options={"root": ""}, architecture=boxed_images.Detector())
TestSeeInTheDark = dataset_checks(SeeInTheDark, options={"root": ""})


#: What writes the files of those that have none of their own.
WRITTEN = (
    (TestMasks, mask_folders.write_folder),
    (TestFolder, class_folders.write_classes),
    (TestPairs, image_pairs.write_pairs),
    (TestTensors, array_file.write_arrays),
    (TestCoco, boxed_images.write_coco),
    (TestSeeInTheDark, sid_tree.write_tree),
)
#: The options that name them.
PLACES = {"root": "", "input": "input", "target": "target", "file": "arrays.npz"}


@pytest.fixture(autouse=True, scope="module")
def _files(tmp_path_factory: pytest.TempPathFactory) -> None:
    for checks, write in WRITTEN:
        root = tmp_path_factory.mktemp("data")
        write(root)
        for option in checks.options.keys() & PLACES.keys():
            checks.options[option] = str(root / PLACES[option])


def test_none_is_left_out() -> None:
    tried = {TestDarkroom.dataset, TestPhotos.dataset, *(checks.dataset for checks, _ in WRITTEN)}
    assert tried == {load_plugin(plugin) for plugin in find_plugins("datasets") if plugin.builtin}
