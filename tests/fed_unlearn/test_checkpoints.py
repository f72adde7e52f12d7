import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from fed_unlearn.checkpoints import CheckpointStore
from fed_unlearn.errors import InvalidModelError


def arrays() -> dict[str, NDArray[np.generic]]:
    """What a network with BatchNorm has, its 0-d counter included."""
    values = np.random.default_rng(0)
    return {
        "conv.weight": values.normal(size=(4, 1, 3, 3)).astype(np.float32),
        "norm.num_batches_tracked": np.array(17, dtype=np.int64),
        "norm.empty": np.zeros((0, 3), dtype=np.float32),
        "mask": np.array([True, False]),
        "half": values.normal(size=5).astype(np.float16),
        "double": np.array([np.nan, np.inf, -0.0]),
    }


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "new" / "checkpoints")


def test_what_was_saved_is_loaded_bit_for_bit(store: CheckpointStore) -> None:
    saved = arrays()
    loaded = store.load(store.save(saved))
    assert set(loaded) == set(saved)
    for name, value in saved.items():
        assert (loaded[name].dtype, loaded[name].shape) == (value.dtype, value.shape)
        assert loaded[name].tobytes() == value.tobytes()
    assert loaded["norm.num_batches_tracked"].shape == () and int(loaded["norm.num_batches_tracked"]) == 17


def test_a_name_is_the_digest_of_the_bytes(store: CheckpointStore) -> None:
    digest = store.save(arrays())
    path = store.folder / f"{digest}.safetensors"
    assert store.path(digest) == path
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert [item.name for item in store.folder.iterdir()] == [path.name]


def test_other_tools_read_the_same_tensors(store: CheckpointStore) -> None:
    tensors = load_file(store.path(store.save(arrays())))
    expected = {name: torch.from_numpy(np.asarray(value)) for name, value in arrays().items()}
    assert set(tensors) == set(expected)
    assert all(torch.equal(tensors[name].nan_to_num(), tensor.nan_to_num()) for name, tensor in expected.items())


def test_the_same_arrays_have_the_same_digest(store: CheckpointStore, tmp_path: Path) -> None:
    first = store.save(arrays())
    written = store.path(first).stat().st_mtime_ns
    strided = arrays()
    strided["conv.weight"] = np.asfortranarray(strided["conv.weight"])
    assert store.save(strided) == first
    assert CheckpointStore(tmp_path / "other").save(arrays()) == first
    assert store.path(first).stat().st_mtime_ns == written
    assert len(list(store.folder.iterdir())) == 1


def test_arrays_come_back_in_their_order(store: CheckpointStore) -> None:
    backwards = dict(reversed(arrays().items()))
    assert list(store.load(store.save(backwards))) == list(backwards) != list(arrays())
    assert list(store.load(store.save(arrays()))) == list(arrays())


@pytest.mark.parametrize(
    "change",
    [
        {"norm.num_batches_tracked": np.array(18, dtype=np.int64)},
        {"norm.num_batches_tracked": np.array([17], dtype=np.int64)},
        {"norm.num_batches_tracked": np.array(17, dtype=np.int32)},
        {"more": np.zeros(1, dtype=np.float32)},
        {"double": np.array([np.nan, np.inf, 0.0])},
    ],
)
def test_any_difference_is_another_digest(store: CheckpointStore, change: dict[str, NDArray[np.generic]]) -> None:
    assert store.save({**arrays(), **change}) != store.save(arrays())


def test_a_changed_byte_is_noticed(store: CheckpointStore) -> None:
    digest = store.save(arrays())
    content = bytearray(store.path(digest).read_bytes())
    content[-1] ^= 1
    store.path(digest).write_bytes(content)
    with pytest.raises(InvalidModelError, match=r"the bytes do not match the digest in the name; restore the file"):
        store.load(digest)


def test_a_file_cut_short_is_noticed(store: CheckpointStore) -> None:
    digest = store.save(arrays())
    store.path(digest).write_bytes(store.path(digest).read_bytes()[:-4])
    with pytest.raises(InvalidModelError, match=digest):
        store.load(digest)


def test_bytes_that_are_no_model_are_noticed_though_their_name_fits(store: CheckpointStore) -> None:
    digest = hashlib.sha256(b"no model").hexdigest()
    store.path(digest).write_bytes(b"no model")
    with pytest.raises(InvalidModelError, match="not a safetensors file"):
        store.load(digest)


def test_a_missing_file_is_named(store: CheckpointStore) -> None:
    with pytest.raises(InvalidModelError, match=r"abc\.safetensors: the checkpoint cannot be read"):
        store.load("abc")


def test_purge_keeps_what_is_named_and_nothing_else(store: CheckpointStore) -> None:
    digests = [store.save({"weight": np.full(3, number, dtype=np.float32)}) for number in range(4)]
    assert store.purge({digests[1], digests[3], "never saved"}) == 2
    assert {path.stem for path in store.folder.iterdir()} == {digests[1], digests[3]}
    assert store.load(digests[3])["weight"].tolist() == [3, 3, 3]
    assert store.purge({digests[1], digests[3]}) == 0
    assert store.purge(()) == 2
    assert list(store.folder.iterdir()) == []
