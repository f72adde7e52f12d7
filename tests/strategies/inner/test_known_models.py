"""Which models are known: in the process that has seen them, and in a later one, by what is stored of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kept_models import FORMS, keeper
from made_replies import drawn_model, moved
from safetensors.numpy import load, save

from fed_unlearn.arrays import Arrays, pack, same_bits, unpack
from fed_unlearn.strategies.inner.kept_models import replace_kept_models
from fed_unlearn.strategies.inner.known_models import known_models
from fed_unlearn.strategies.inner.state import restore_server_state, server_state

INITIAL = drawn_model(0)
ROUND, SERVED, OTHER = moved(INITIAL, 1), moved(INITIAL, 2), moved(INITIAL, 3)


def through_files(state: tuple[dict[str, Arrays], dict[str, Any]], folder: Path) -> tuple[Any, dict[str, Any]]:
    """The state as a later process reads it."""
    arrays, scalars = state
    for name, group in arrays.items():
        (folder / name).write_bytes(save(group))
    return {name: load((folder / name).read_bytes()) for name in arrays}, json.loads(json.dumps(scalars))


def test_a_kept_model_is_known_as_one_in_a_later_process(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = keeper(INITIAL, ROUND, best=pack(ROUND), listed=list(ROUND.values()), average=pack(OTHER))
    first.accuracies = [np.float64(0.5)]
    stored = through_files(server_state(first), tmp_path)
    later = keeper(SERVED)
    restore_server_state(later, *stored)
    assert later.accuracies == [0.5] and type(later.accuracies[0]) is np.float64
    newest = moved(SERVED, 4)
    replace_kept_models(later, newest)
    assert same_bits(unpack(later.best), newest)
    assert same_bits(FORMS["list of arrays"][1](later.listed), newest)
    assert later.accuracies == [0.5] and not hasattr(later, "average")
    warned = [record.getMessage() for record in caplog.records if record.module == "kept_models"]
    assert warned == ["Keeper.average was reset at a commit: it may carry what was forgotten"]


def test_records_that_an_earlier_version_stored_are_taken_for_models(tmp_path: Path) -> None:
    """It replaced all records of the model's names and shapes."""
    first = keeper(INITIAL, ROUND, best=pack(ROUND), listed=list(OTHER.values()))
    arrays, scalars = through_files(server_state(first), tmp_path)
    scalars = {
        name: json.dumps({key: json.loads(str(value))[key] for key in ("kind", "names")})
        if name.endswith(":layout")
        else value
        for name, value in scalars.items()
    }
    later = keeper(SERVED)
    restore_server_state(later, arrays, scalars)
    newest = moved(SERVED, 4)
    replace_kept_models(later, newest)
    assert same_bits(unpack(later.best), newest)
    assert not hasattr(later, "listed")


def test_digests_are_bounded_in_number() -> None:
    inner = keeper(INITIAL)
    known = known_models(inner)
    for number in range(10_001):
        known.note({"weight": np.array([number])})
    assert not known.is_model(pack(INITIAL)), "the oldest is forgotten"
    known.note(INITIAL)
    assert known.is_model(pack(INITIAL))
