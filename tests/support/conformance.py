"""Running a conformance kit without pytest, to see which of its tests fail."""

from __future__ import annotations

import unittest


def tests_of(checks: type) -> list[str]:
    return [
        name for name in dir(checks) if name.startswith("test_") and "capfd" not in _parameters(checks, name)
    ]


def fails(checks: type, test: str) -> bool:
    """Whether a test of the kit fails; one that is skipped does not."""
    try:
        getattr(checks(), test)()
    except unittest.SkipTest:
        return False
    except Exception:
        return True
    return False


def failures(checks: type) -> list[str]:
    return [test for test in tests_of(checks) if fails(checks, test)]


def _parameters(checks: type, name: str) -> tuple[str, ...]:
    return getattr(checks, name).__code__.co_varnames
