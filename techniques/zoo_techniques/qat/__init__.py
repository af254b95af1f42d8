"""Quantization-aware training to one QDQ file that runs whole in int8."""

from zoo.quantization.layer_numbers import LayerBits
from zoo_techniques.qat.technique import Qat, QatConfig

__all__ = ["LayerBits", "Qat", "QatConfig"]
