"""One report for all tests that look at a page: making it takes seconds."""

import pytest

from separatrix.report import Evidence, build

from .sample import evidence


@pytest.fixture(scope="session")
def sample() -> Evidence:
    return evidence()


@pytest.fixture(scope="session")
def page(sample) -> str:
    return build(sample)
