"""zoo: compose compression techniques for neural networks, and run the result on small boards.

>>> import zoo
>>> zoo.run("lighter-unet-int8", "shot.ARW", out="pictures")
>>> with zoo.load("lighter-unet-int8") as runner:
...     picture = runner.develop("shot.ARW")  # (H, W, 3) uint8
>>> zoo.apply("unet", "depthwise+qat", out="out/small", minutes=30)

Only `apply`, `create_model` and `evaluate` need the extra `compress`. Importing this package is cheap:
neither torch nor numpy nor an engine is
loaded before a name that needs it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy_exports import lazy_exports
from zoo.version import __version__

if TYPE_CHECKING:
    from zoo.artifacts.artifact import open_artifact
    from zoo.download.puller import pull
    from zoo.errors import ZooError
    from zoo.evaluation.api import evaluate
    from zoo.pipeline.api import apply
    from zoo.pipeline.result import Result
    from zoo.plugins.lookup import (
        list_architectures,
        list_datasets,
        list_devices,
        list_engines,
        list_tasks,
        list_techniques,
    )
    from zoo.publishing.api import publish
    from zoo.recipes.grammar import Recipe
    from zoo.registry.registries import list_checkpoints
    from zoo.runner.api import load, run
    from zoo.training.models import create_model
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "zoo.artifacts.artifact": ("open_artifact",),
            "zoo.download.puller": ("pull",),
            "zoo.errors": ("ZooError",),
            "zoo.pipeline.api": ("apply",),
            "zoo.pipeline.result": ("Result",),
            "zoo.evaluation.api": ("evaluate",),
            "zoo.plugins.lookup": (
                "list_architectures",
                "list_datasets",
                "list_devices",
                "list_engines",
                "list_tasks",
                "list_techniques",
            ),
            "zoo.publishing.api": ("publish",),
            "zoo.recipes.grammar": ("Recipe",),
            "zoo.registry.registries": ("list_checkpoints",),
            "zoo.runner.api": ("load", "run"),
            "zoo.training.models": ("create_model",),
        },
    )

__all__ = [
    "Recipe",
    "Result",
    "ZooError",
    "__version__",
    "apply",
    "create_model",
    "evaluate",
    "list_architectures",
    "list_checkpoints",
    "list_datasets",
    "list_devices",
    "list_engines",
    "list_tasks",
    "list_techniques",
    "load",
    "open_artifact",
    "publish",
    "pull",
    "run",
]
