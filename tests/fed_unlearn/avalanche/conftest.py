"""Avalanche draws from global generators: tests that train by it begin alike, and leave them as they were."""

from collections.abc import Iterator

import pytest

from fed_unlearn.seeding import isolated_globals


@pytest.fixture
def seeded() -> Iterator[None]:
    with isolated_globals(0):
        yield
