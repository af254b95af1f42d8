"""What a network costs: parameters, multiply-accumulates and bytes, of torch modules and of exported files.

>>> from zoo.cost import model_cost, onnx_cost
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.cost.totals import Cost, LayerCost

if TYPE_CHECKING:
    from zoo.cost.file_cost import onnx_cost
    from zoo.cost.module_cost import model_cost

__all__ = ["Cost", "LayerCost", "model_cost", "onnx_cost"]


def __getattr__(name: str) -> Any:
    """torch and onnx are imported by the first use of what needs them."""
    if name == "model_cost":
        from zoo.cost.module_cost import model_cost

        return model_cost
    if name == "onnx_cost":
        from zoo.cost.file_cost import onnx_cost

        return onnx_cost
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
