"""Knowledge distillation: training towards what a better network gives, at its output and inside."""

from zoo_techniques.distill.technique import Distill, DistillConfig

__all__ = ["Distill", "DistillConfig"]
