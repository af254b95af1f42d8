"""Torch networks from ONNX files, so that a file from any source can be compressed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from zoo.conversion.converter import ConvertedNetwork, convert_onnx
    from zoo.conversion.onnx_architecture import OnnxArchitecture
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "zoo.conversion.onnx_architecture": ("OnnxArchitecture",),
            "zoo.conversion.converter": ("ConvertedNetwork", "convert_onnx"),
        },
    )

__all__ = ["ConvertedNetwork", "OnnxArchitecture", "convert_onnx"]
