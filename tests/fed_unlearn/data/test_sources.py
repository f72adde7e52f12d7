import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from fed_unlearn.data.sources import load_source
from fed_unlearn.data.sources.base import stable_split
from fed_unlearn.errors import InvalidDataError


def grey(index: int, height: int = 6, width: int = 5) -> NDArray[np.uint8]:
    return np.random.default_rng(index).integers(0, 256, (height, width), dtype=np.uint8)


def colour(index: int, height: int = 6, width: int = 5) -> NDArray[np.uint8]:
    return np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def write_folder(path: Path, count: int = 5) -> Path:
    for number, name in enumerate(("cat", "dog")):
        (path / name).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(grey(10 * number + index)).save(path / name / f"{index}.png")
    return path


def write_parquet(path: Path, **splits: dict[str, list[Any]]) -> Path:
    import datasets

    (path / "data").mkdir(parents=True, exist_ok=True)
    for name, columns in splits.items():
        table = datasets.Dataset.from_dict(columns)
        if "img" in columns:
            table = table.cast_column("img", datasets.Image(decode=False)).cast_column("img", datasets.Image())
        table.to_parquet(str(path / "data" / f"{name}-00000-of-00001.parquet"))
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    source = load_source("digits")
    expected = load_digits()
    assert source.image_shape == (1, 8, 8)
    assert source.class_count == 10
    assert sorted(map(int, source.train.ids + source.test.ids)) == list(range(1797))
    for part in (source.train, source.test):
        positions = [int(sample_id) for sample_id in part.ids]
        assert torch.equal(part.images[:, 0], torch.tensor(expected.images[positions] / 16, dtype=torch.float32))
        assert part.labels.tolist() == expected.target[positions].tolist()
        assert part.labels.bincount().max() <= 1.1 * part.labels.bincount().min()
    assert source.fingerprint == load_source("digits").fingerprint
    assert source.fingerprint != load_source("digits", test_fraction=0.3).fingerprint
    assert load_source("digits", image_size=(16, 12)).image_shape == (1, 16, 12)


def test_stable_split_is_stratified_and_keeps_samples_where_they_are() -> None:
    labels = torch.tensor([0] * 40 + [1] * 10 + [2] * 2 + [3])
    ids = [f"sample {index}" for index in range(len(labels))]
    train, test = stable_split(ids, labels, 0.2)
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(len(labels)))
    assert labels[test].bincount(minlength=4).tolist() == [8, 2, 1, 0]
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    _, shuffled = stable_split([ids[index] for index in order], labels[order], 0.2)
    assert {ids[index] for index in order[shuffled]} == {ids[index] for index in test}


def test_folder_without_parts_is_split_and_named_by_path(tmp_path: Path) -> None:
    source = load_source(f"folder:{write_folder(tmp_path / 'pets')}")
    assert source.class_names == ("cat", "dog")
    assert set(source.train.ids + source.test.ids) == {f"{name}/{i}.png" for name in ("cat", "dog") for i in range(5)}
    assert source.test.labels.tolist() == [0, 1]
    for part in (source.train, source.test):
        for sample_id, image, label in zip(part.ids, part.images, part.labels, strict=True):
            name, index = sample_id.removesuffix(".png").split("/")
            assert np.array_equal(image[0].numpy(), grey(10 * ("cat", "dog").index(name) + int(index)))
            assert source.class_names[label] == name


def test_folder_with_parts_keeps_them(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", 4)
    write_folder(tmp_path / "test", 2)
    source = load_source("folder:.", root=tmp_path)
    assert (len(source.train), len(source.test)) == (8, 4)
    assert source.test.ids[0] == "test/cat/0.png"


def test_folder_that_changes_has_another_fingerprint(tmp_path: Path) -> None:
    name = f"folder:{write_folder(tmp_path / 'pets')}"
    before = load_source(name).fingerprint
    assert load_source(name).fingerprint == before
    Image.fromarray(grey(77)).save(tmp_path / "pets" / "cat" / "0.png")
    changed = load_source(name).fingerprint
    assert changed != before
    (tmp_path / "pets" / "cat" / "1.png").rename(tmp_path / "pets" / "dog" / "9.png")
    assert load_source(name).fingerprint not in (before, changed)


def test_folder_of_numbered_classes_is_in_order_of_numbers(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        (tmp_path / str(number)).mkdir()
        for index in range(2):
            Image.fromarray(grey(index)).save(tmp_path / str(number) / f"{index}.png")
    assert load_source(f"folder:{tmp_path}").class_names == ("1", "2", "10")


def test_images_of_several_sizes_and_modes(tmp_path: Path) -> None:
    write_folder(tmp_path)
    Image.fromarray(colour(3, 9, 7)).save(tmp_path / "cat" / "large.png")
    with pytest.raises(InvalidDataError, match=r"cat/large.png is 9x7 pixels|6x5 pixels.*image size"):
        load_source(f"folder:{tmp_path}")
    source = load_source(f"folder:{tmp_path}", image_size=(4, 3))
    assert source.image_shape == (3, 4, 3)
    plain = source.train.images[list(source.train.ids).index("dog/1.png")]
    assert torch.equal(plain[0], plain[1])


def test_hugging_face_folder(tmp_path: Path) -> None:
    train: dict[str, list[Any]] = {
        "img": [{"bytes": png(colour(i)), "path": None} for i in range(6)],
        "label": ["b", "a", "c", "a", "b", "c"],
    }
    test: dict[str, list[Any]] = {"img": [{"bytes": png(colour(9)), "path": None}], "label": ["c"]}
    name = f"hf:{write_parquet(tmp_path / 'set', train=train, test=test)}"
    source = load_source(name)
    assert source.class_names == ("a", "b", "c")
    assert source.train.labels.tolist() == [1, 0, 2, 0, 1, 2]
    assert source.train.images.dtype == torch.uint8
    assert np.array_equal(source.train.images[4].numpy(), colour(4).transpose(2, 0, 1))
    assert source.train.ids == ("0", "1", "2", "3", "4", "5")
    assert source.test.ids == ("test/0",)
    test["label"] = ["b"]
    write_parquet(tmp_path / "set", test=test)
    assert load_source(name).fingerprint != source.fingerprint


def test_hugging_face_ids_of_the_owner_survive_the_split(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "img": [{"bytes": png(grey(i)), "path": None} for i in range(8)],
        "label": [5, 5, 5, 5, 7, 7, 7, 7],
        "id": [f"person-{i}" for i in range(8)],
    }
    source = load_source(f"hf:{write_parquet(tmp_path / 'set', train=columns)}", test_fraction=0.25)
    assert source.class_names == ("5", "7")
    assert sorted(source.train.ids + source.test.ids) == [f"person-{i}" for i in range(8)]
    assert source.test.labels.tolist() == [0, 1]
    for sample_id, image in zip(source.train.ids, source.train.images, strict=True):
        assert np.array_equal(image[0].numpy(), grey(int(sample_id[-1])))


def test_progress_bars_of_datasets_are_as_before(tmp_path: Path) -> None:
    import datasets

    columns: dict[str, list[Any]] = {
        "img": [{"bytes": png(grey(i)), "path": None} for i in range(4)],
        "label": [0, 0, 1, 1],
    }
    before = datasets.are_progress_bars_disabled()
    load_source(f"hf:{write_parquet(tmp_path / 'set', train=columns)}")
    assert datasets.are_progress_bars_disabled() == before


def write_mnist(root: Path) -> None:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, count in (("train", 12), ("t10k", 4)):
        images = np.stack([grey(index, 28, 28) for index in range(count)])
        labels = np.arange(count, dtype=np.uint8) % 10
        header = struct.pack(">IIII", 2051, *images.shape)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + labels.tobytes())


def test_torchvision_with_train_flag(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    source = load_source("torchvision:MNIST", root=tmp_path)
    assert (len(source.train), len(source.test)) == (12, 4)
    assert source.class_names[3] == "3 - three"
    assert np.array_equal(source.train.images[11, 0].numpy(), grey(11, 28, 28))
    assert source.train.labels.tolist() == [*range(10), 0, 1]
    assert load_source("torchvision:MNIST", root=tmp_path, image_size=(14, 14)).fingerprint == source.fingerprint


def test_torchvision_with_splits(tmp_path: Path) -> None:
    base = tmp_path / "food-101"
    (base / "meta").mkdir(parents=True)
    files = {"train": {"pie": ["pie/0", "pie/1"], "soup": ["soup/2"]}, "test": {"pie": ["pie/3"], "soup": ["soup/4"]}}
    for split, classes in files.items():
        (base / "meta" / f"{split}.json").write_text(json.dumps(classes))
        for name in [name for names in classes.values() for name in names]:
            (base / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(colour(int(name[-1]))).save(base / "images" / f"{name}.jpg", quality=95)
    source = load_source("torchvision:Food101", root=tmp_path)
    assert source.class_names == ("pie", "soup")
    assert source.train.labels.tolist() == [0, 0, 1]
    assert source.test.ids == ("test/0", "test/1")
    assert np.array_equal(
        source.train.images[1].permute(1, 2, 0).numpy(), np.asarray(Image.open(base / "images" / "pie" / "1.jpg"))
    )


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (
            "mnist",
            "'mnist' is unknown; expected 'digits', 'folder:PATH', 'hf:NAME-OR-PATH', 'synthetic:COUNT', 'torchvision:NAME' or 'package\\.module:callable'",
        ),
        ("folder:", "is unknown"),
        ("zip:x", "is unknown"),
        ("folder:nowhere", "nowhere: no such folder; expected one sub-folder a class"),
        ("folder:empty", "empty: no images; expected one sub-folder a class"),
        ("folder:broken", r"cat/[01].png cannot be read as an image"),
        ("hf:./nowhere", "no such folder"),
        ("hf:empty", "cannot be loaded"),
        ("hf:tabular", "no image column among label, size"),
        ("torchvision:CIFAR", "no such data set; for instance CIFAR10"),
        ("torchvision:CIFAR10", "CIFAR10: cannot be opened under .*; allow the download, or give the root folder"),
    ],
)
def test_what_cannot_be_loaded_is_named_in_one_line(dataset: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    (tmp_path / "broken" / "cat").mkdir(parents=True)
    for index in range(2):
        (tmp_path / "broken" / "cat" / f"{index}.png").write_text("no image")
    if dataset == "hf:tabular":
        write_parquet(tmp_path / "tabular", train={"label": [0, 1], "size": [2, 3]})
    with pytest.raises(InvalidDataError, match=message) as caught:
        load_source(dataset, root=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_callable_of_the_user_gives_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_images.py").write_text(
        "from fed_unlearn.data.sources import load_source\n"
        "def load(root, download, image_size, test_fraction):\n"
        "    assert root == 'here' and download\n"
        "    return load_source('digits', image_size=image_size, test_fraction=test_fraction)\n"
        "def nothing(**options): return None\n"
        "def few(root): return None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    source = load_source("my_images:load", root="here", download=True, image_size=(4, 4), test_fraction=0.5)  # type: ignore[arg-type]
    assert source.fingerprint == load_source("digits", test_fraction=0.5).fingerprint
    assert source.image_shape == (1, 4, 4)
    with pytest.raises(InvalidDataError, match=r"'my_images:nothing': a NoneType was given; expected an ImageSource"):
        load_source("my_images:nothing")
    few = r"'my_images:few': got an unexpected keyword argument 'download'; expected a callable that takes root, "
    with pytest.raises(InvalidDataError, match=few):
        load_source("my_images:few")
    absent = r"'my_images:absent' is unknown \(my_images has no callable 'absent'\); expected 'digits', "
    with pytest.raises(InvalidDataError, match=absent):
        load_source("my_images:absent")


def test_synthetic_images_are_blobs_of_ten_classes_and_the_same_each_time() -> None:
    first, second = (load_source("synthetic:400", image_size=(5, 6), test_fraction=0.25) for _ in range(2))
    assert first.fingerprint == second.fingerprint
    assert torch.equal(first.train.images, second.train.images)
    assert (len(first.train), len(first.test), first.image_shape) == (300, 100, (1, 5, 6))
    assert torch.bincount(first.train.labels).tolist() == [30] * 10
    assert first.train.images.min() >= 0 and first.train.images.max() <= 1
    means = torch.stack([first.train.images[first.train.labels == label].mean(0) for label in range(10)]).flatten(1)
    nearest = torch.cdist(first.test.images.flatten(1), means).argmin(1)
    assert (nearest == first.test.labels).float().mean() > 0.95
    assert load_source("synthetic:401").image_shape == (1, 8, 8)


@pytest.mark.parametrize("place", ["19", "many", "-5", "1e4"])
def test_a_number_of_synthetic_images_that_makes_no_sense_is_refused(place: str) -> None:
    with pytest.raises(InvalidDataError, match=rf"synthetic:{place}: '{place}' was given; expected a whole number"):
        load_source(f"synthetic:{place}")
