"""From a torch network to one ONNX file that every engine runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from zoo.export.exporter import export_onnx
    from zoo.export.int8_coverage import Int8Report, int8_report
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "zoo.export.exporter": ("export_onnx",),
            "zoo.export.int8_coverage": (
                "Int8Report",
                "int8_report",
            ),
        },
    )

__all__ = ["Int8Report", "export_onnx", "int8_report"]
