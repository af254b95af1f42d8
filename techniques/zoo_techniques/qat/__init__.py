"""Quantization-aware training to one QDQ file that runs whole in int8."""

from zoo_techniques.qat.technique import LayerBits, Qat, QatConfig

__all__ = ["LayerBits", "Qat", "QatConfig"]
