"""Post-training quantization: int8 from a trained network and a few pictures, with no training at all."""

from zoo_techniques.ptq.technique import Ptq, PtqConfig

__all__ = ["Ptq", "PtqConfig"]
