"""Knowledge distillation: training towards what a better network gives, at its output and inside."""

from zoo_techniques.distill.config import DistillConfig
from zoo_techniques.distill.technique import Distill

__all__ = ["Distill", "DistillConfig"]
