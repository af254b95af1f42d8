"""What this machine has, what is missing, and whether a network would fit: for `zoo doctor`."""

from zoo.doctor.examine import examine
from zoo.doctor.finding import Finding, Severity

__all__ = ["Finding", "Severity", "examine"]
