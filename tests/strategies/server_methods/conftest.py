"""Trained federations that the tests of server-side methods share."""

from pathlib import Path

import pytest
from leaving import Departure


@pytest.fixture(scope="session")
def three_rounds(tmp_path_factory: pytest.TempPathFactory) -> Departure:
    return Departure(tmp_path_factory.mktemp("three-rounds"), rounds=3)


@pytest.fixture
def departure(three_rounds: Departure, tmp_path: Path) -> Departure:
    """A copy of one and the same training."""
    return three_rounds.copied_to(tmp_path)
