"""Fixtures that the tests of the methods share."""

from __future__ import annotations

import pytest
from trained_digits import Digits, train_digits


@pytest.fixture(scope="session")
def digits() -> Digits:
    """Trained once; every test takes its own copy of the model."""
    return train_digits()
