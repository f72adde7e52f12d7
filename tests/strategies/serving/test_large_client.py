"""A client that holds more than fits in memory; ``python -m tests.trials.large_client`` tries one with 20 GB."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--loaders"]])
def test_a_client_trains_unlearns_and_is_audited_in_less_memory_than_its_images_take(options: list[str]) -> None:
    command = [sys.executable, "-m", "tests.trials.large_client", "--gigabytes", "2", "--most-gigabytes", "1.4"]
    ended = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "request committed" in ended.stdout
