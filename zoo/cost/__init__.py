"""What a network costs: parameters, multiply-accumulates and bytes, of torch modules and of exported files.

>>> from zoo.cost import model_cost, onnx_cost
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from zoo.cost.file_cost import onnx_cost
    from zoo.cost.module_cost import model_cost
    from zoo.cost.totals import Cost, LayerCost
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "zoo.cost.file_cost": ("onnx_cost",),
            "zoo.cost.module_cost": ("model_cost",),
            "zoo.cost.totals": (
                "Cost",
                "LayerCost",
            ),
        },
    )

__all__ = ["Cost", "LayerCost", "model_cost", "onnx_cost"]
