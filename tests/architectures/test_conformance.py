"""The built-in architectures pass the kit that third parties run."""

from __future__ import annotations

from zoo.contracts import Architecture
from zoo.plugins import find_plugins, load_plugin
from zoo.testing import architecture_checks

#: Those whose files are run here: exporting takes seconds.
EXPORTED = ("unet", "c-unet", "timm")
#: of each family, the member to try
MEMBERS = {"timm": "test_resnet"}

for _plugin in find_plugins("architectures"):
    # What a file of the user's says, and what has to be downloaded, cannot be built here.
    if _plugin.builtin and _plugin.id not in ("module", "onnx", "torchvision"):
        _cls = load_plugin(_plugin)
        # A class with other widths of the same modules is tried with its base.
        if Architecture in _cls.__bases__:
            _checks = architecture_checks(_cls, member=MEMBERS.get(_plugin.id), export=_plugin.id in EXPORTED)
            globals()[f"Test{_cls.__name__}"] = _checks
