from pathlib import Path

import pytest
from scenario_texts import MINIMAL


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    """A scenario of a training step and a request."""
    path = tmp_path / "small.toml"
    path.write_text(MINIMAL)
    return path
