"""Every built-in device profile passes the kit that third parties run."""

from __future__ import annotations

import functools

from zoo import plugins
from zoo.testing import device_checks

for _plugin in plugins.find_plugins("devices"):
    if _plugin.builtin:
        globals()[f"Test_{_plugin.id}"] = device_checks(
            functools.partial(plugins.device, _plugin.id),
            module=_plugin.target.partition(":")[0],
            other_engines=("openvino",),  # of plugins/zoo-openvino
        )
