"""Three minutes of a real federation's mixed life; the trial of the same name has the whole of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trials import mixed_life


@pytest.mark.slow
def test_three_minutes(tmp_path: Path) -> None:
    assert mixed_life.run(tmp_path / "life", 1.0, short=True) == 0
