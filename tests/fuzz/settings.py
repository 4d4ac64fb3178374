"""How many cases: a few dozen that are the same every time, and thousands of new ones in `make test-slow`."""

import pytest
from hypothesis import HealthCheck, settings

_COMMON = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


def cases(few, many=2000):
    """Parametrise a test with `profile`: a few fixed cases, or many random ones, whose failures print their blob."""
    fixed = settings(max_examples=few, derandomize=True, **_COMMON)
    random = settings(max_examples=many, print_blob=True, **_COMMON)
    return pytest.mark.parametrize(
        "profile",
        [fixed, pytest.param(random, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])],
        ids=["few", "many"],
    )
