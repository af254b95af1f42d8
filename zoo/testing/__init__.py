"""The conformance kit: what every technique must do, as tests that its author runs.

In a test module of the package that brings the technique::

    from zoo.testing import technique_checks
    from zoo_mine import Mine

    TestMine = technique_checks(Mine)

pytest then runs one test for each promise of the technique contract. Every built-in technique passes the same.
"""

from zoo.testing.checks import TechniqueChecks, technique_checks
from zoo.testing.trial import Trial, attempt
from zoo.testing.workbench import Inert, Patterns, Workbench

__all__ = ["Inert", "Patterns", "TechniqueChecks", "Trial", "Workbench", "attempt", "technique_checks"]
