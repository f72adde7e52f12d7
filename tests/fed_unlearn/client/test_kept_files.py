"""A file is read as it was written, and never used where it may be another one."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from fed_unlearn.client.kept_files import read_kept, write_kept, written_at

VALUES = torch.arange(6).reshape(2, 3)
BODY = {"names": ["a", "b"], "values": VALUES}


def values_of(body: Mapping[str, Any]) -> torch.Tensor:
    if len(body["names"]) != len(body["values"]):
        raise ValueError("its parts are of different lengths")
    return torch.as_tensor(body["values"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    assert write_kept(tmp_path / "kept.pt", 3, "data", BODY)
    return tmp_path / "kept.pt"


def test_what_was_written_is_read(path: Path) -> None:
    found = read_kept(path, 3, "data", values_of)
    assert found is not None and torch.equal(found, VALUES)


def test_another_version_and_other_data_are_not_read(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_kept(path, 4, "data", values_of) is None
    assert read_kept(path, 3, "others", values_of) is None
    assert read_kept(path.with_name("other.pt"), 3, "data", values_of) is None
    assert not caplog.records, "that is no damage"


@pytest.mark.parametrize("place", [0, 40, -1])
def test_one_byte_that_changed_is_told(path: Path, place: int, caplog: pytest.LogCaptureFixture) -> None:
    written = bytearray(path.read_bytes())
    written[place] ^= 1
    path.write_bytes(written)
    assert read_kept(path, 3, "data", values_of) is None
    assert "samples are read again: it was cut short" in caplog.text


def test_parts_that_do_not_fit_are_told(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_kept(path, 3, "data", {**BODY, "names": ["a"]})
    assert read_kept(path, 3, "data", values_of) is None
    assert "its parts are of different lengths" in caplog.text
    write_kept(path, 3, "data", {"names": ["a"]})
    assert read_kept(path, 3, "data", values_of) is None


def test_a_folder_in_its_place_stays_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "kept.pt" / "within").mkdir(parents=True)
    assert not write_kept(tmp_path / "kept.pt", 3, "data", BODY)
    assert read_kept(tmp_path / "kept.pt", 3, "data", values_of) is None
    assert caplog.text.count("samples are read again") == 2


def test_when_a_file_was_written(path: Path) -> None:
    os.utime(path, (1000.0, 2000.0))
    assert written_at(path) == 2000.0
    assert written_at(path.with_name("other.pt")) == math.inf
