"""Stored rounds: what comes back, what is kept within the bound, and what a crash or a commit leaves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fed_unlearn.arrays import Arrays
from fed_unlearn.errors import FedUnlearnError, InvalidModelError, InvalidParameterError
from fed_unlearn.strategies.training import history
from fed_unlearn.strategies.training.history import HistoryStore

Local = dict[str, tuple[Arrays, float]]


def model(seed: int, size: int = 50) -> Arrays:
    generator = np.random.default_rng(seed)
    return {
        "z.weight": generator.standard_normal((size, 2)).astype(np.float32),
        "a.bias": generator.standard_normal(3),
        "batches": np.asarray(seed, dtype=np.int64),
    }


def local_models(seed: int, clients: tuple[str, ...] = ("10", "b/c", "2")) -> Local:
    return {client: (model(100 * seed + index), 1.5 + index) for index, client in enumerate(clients)}


def recorded(store: HistoryStore, *numbers: int) -> None:
    for number in numbers:
        store.record(number, model(number), local_models(number))


def assert_same(first: Arrays, second: Arrays) -> None:
    assert list(first) == list(second)
    for name, value in first.items():
        assert (value.dtype, value.shape, value.tobytes()) == (
            second[name].dtype,
            second[name].shape,
            second[name].tobytes(),
        )


def assert_stored(store: HistoryStore, number: int, clients: tuple[str, ...] = ("10", "b/c", "2")) -> None:
    found = store.load(number)
    assert_same(found.base, model(number))
    expected = local_models(number)
    assert list(found.clients) == list(clients)
    for client in clients:
        assert found.clients[client][1] == expected[client][1]
        assert_same(found.clients[client][0], expected[client][0])


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("part_bytes", [1, 1000, 2**20])
def test_rounds_come_back_as_they_were_also_in_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part_bytes: int
) -> None:
    monkeypatch.setattr(history, "_PART_BYTES", part_bytes)
    recorded(HistoryStore(tmp_path), 1, 2, 3)
    store = HistoryStore(tmp_path)
    assert store.rounds() == (1, 2, 3)
    for number in store.rounds():
        assert_stored(store, number)
    models = list((tmp_path / "models").iterdir())
    assert store.size == sum(path.stat().st_size for path in models)
    assert len(models) == {1: 12, 1000: 6, 2**20: 3}[part_bytes]


def test_read_only_arrays_and_empty_rounds(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path)
    local = local_models(1)
    for arrays, _ in local.values():
        for value in arrays.values():
            value.setflags(write=False)
    store.record(1, model(1), local)
    assert_stored(store, 1)
    store.record(2, model(2), {})
    assert store.rounds() == (1,)


def test_only_every_so_manyth_round_is_stored_beginning_with_the_first(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path, every=3)
    recorded(store, *range(1, 12))
    assert store.rounds() == (1, 4, 7, 10)


def test_the_bound_thins_out_and_keeps_the_beginning(tmp_path: Path) -> None:
    probe = HistoryStore(tmp_path / "probe")
    recorded(probe, 1)
    bound = int(4.5 * probe.size)
    store = HistoryStore(tmp_path / "real", max_bytes=bound)
    kept: list[tuple[int, ...]] = []
    for number in range(1, 18):
        recorded(store, number)
        assert store.size <= bound
        assert store.size == sum(path.stat().st_size for path in (tmp_path / "real" / "models").iterdir())
        kept.append(store.rounds())
    # The fifth round is one too many: 1, 3 and 5 stay, and then 7; the ninth: 1, 5 and 9, and then 13.
    assert kept[3:5] == [(1, 2, 3, 4), (1, 3, 5)]
    assert kept[6:9] == [(1, 3, 5, 7), (1, 3, 5, 7), (1, 5, 9)]
    assert kept[16] == (1, 9, 17)
    assert store.every == 8
    again = HistoryStore(tmp_path / "real", max_bytes=bound)
    assert (again.every, again.rounds()) == (8, (1, 9, 17))
    recorded(again, 18, 25)
    assert again.rounds() == (1, 9, 17, 25)
    for number in again.rounds():
        assert_stored(again, number)


def test_a_round_that_exceeds_the_bound_alone_is_not_stored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    length = sum(value.nbytes for value in model(1).values())
    for bound in (4 * length - 1, 4 * length + 1):  # the files' headers add to it
        store = HistoryStore(tmp_path / str(bound), max_bytes=bound)
        recorded(store, 1)
        assert store.rounds() == ()
        assert store.size == 0
        assert not list((tmp_path / str(bound) / "models").iterdir())
    assert "not stored" in caplog.text


def test_a_round_recorded_again_changes_nothing(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path)
    recorded(store, 1, 2, 3)
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in files(tmp_path)}
    recorded(store, 2)
    recorded(HistoryStore(tmp_path), 3)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in files(tmp_path)} == before


def test_another_round_of_the_same_number_ends_what_came_after_it(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path)
    recorded(store, 1, 2, 3)
    store.record(2, model(2), local_models(7))
    assert store.rounds() == (1, 2)
    assert_same(store.load(2).clients["10"][0], local_models(7)["10"][0])
    assert_stored(HistoryStore(tmp_path), 1)


@pytest.mark.parametrize("at", ["models", "index"])
def test_a_crash_leaves_the_rounds_before_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    store = HistoryStore(tmp_path)
    recorded(store, 1, 2)
    before = files(tmp_path)

    def cut_short(path: Path, content: bytes) -> None:
        path.with_name(f".{path.name}.0123").write_bytes(content[: len(content) // 2])
        raise SystemExit("power cut")

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        module = "fed_unlearn.checkpoints" if at == "models" else "fed_unlearn.strategies.training.history"
        patch.setattr(f"{module}.write_atomically", cut_short)
        recorded(store, 3)
    assert files(tmp_path) > before
    again = HistoryStore(tmp_path)
    assert again.rounds() == (1, 2)
    assert files(tmp_path / "models") == {Path(name).name for name in before if name.startswith("models")}
    for number in again.rounds():
        assert_stored(again, number)
    recorded(again, 3)
    assert_stored(HistoryStore(tmp_path), 3)


def test_a_client_is_taken_out_of_every_round(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path)
    recorded(store, 1)
    store.record(2, model(2), local_models(2, ("b/c",)))
    recorded(store, 3)
    store.drop_client("b/c")
    for opened in (store, HistoryStore(tmp_path)):
        assert opened.rounds() == (1, 3)
        assert_stored(opened, 1, ("10", "2"))
        assert_stored(opened, 3, ("10", "2"))
    gone = local_models(1)["b/c"][0]["z.weight"].tobytes()
    assert all(gone not in path.read_bytes() for path in (tmp_path / "models").iterdir())
    store.drop_client("nobody")
    assert store.rounds() == (1, 3)


def test_a_purge_leaves_no_model_and_ends_the_thinning(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path, max_bytes=8000)
    recorded(store, *range(1, 10))
    assert store.every > 1
    (tmp_path / "models" / ".half.safetensors.0a1b").write_bytes(b"half of a model")
    store.purge()
    assert not list((tmp_path / "models").iterdir())
    for opened in (store, HistoryStore(tmp_path)):
        assert (opened.rounds(), opened.size, opened.every) == ((), 0, 1)
    recorded(store, 10, 11)
    assert HistoryStore(tmp_path).rounds() == (10, 11)


def test_damage_is_named(tmp_path: Path) -> None:
    store = HistoryStore(tmp_path)
    recorded(store, 1, 2)
    with pytest.raises(FedUnlearnError, match=r"round 3 is not stored; stored are 1, 2"):
        store.load(3)
    [first, second] = [store._models.path(digest) for number in (1, 2) for digest in store._index.rounds[number].parts]
    first.unlink()
    with pytest.raises(InvalidModelError, match=first.name):
        store.load(1)
    second.write_bytes(second.read_bytes()[:-1] + b"?")
    with pytest.raises(InvalidModelError, match=f"{second.name}: the bytes do not match"):
        store.load(2)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not the index of a history"),
        ("[]", "not the index of a history"),
        (json.dumps({"version": 1, "every": 1, "rounds": {"x": {}}}), "not the index of a history"),
        (json.dumps({"version": 2, "every": 1, "rounds": {}}), "a history of version 2; this library reads 1"),
    ],
)
def test_a_damaged_index_is_named(tmp_path: Path, content: str, said: str) -> None:
    recorded(HistoryStore(tmp_path), 1)
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(FedUnlearnError, match=f"index.json: {said}"):
        HistoryStore(tmp_path)
    assert len(list((tmp_path / "models").iterdir())) == 1


@pytest.mark.parametrize("parameters", [{"every": 0}, {"max_bytes": 0}, {"every": 1.5}, {"every": True}])
def test_settings_out_of_range_are_refused(tmp_path: Path, parameters: dict[str, int]) -> None:
    with pytest.raises(InvalidParameterError, match=r"history: \w+ = .* allowed is a whole number from 1"):
        HistoryStore(tmp_path, **parameters)
    with pytest.raises(InvalidParameterError, match="round 0 was recorded"):
        HistoryStore(tmp_path).record(0, model(0), local_models(0))
