"""Folders of images: which folders are parts, which are classes, and what is refused."""

import logging
from pathlib import Path

import pytest
from image_files import encoded, ramp, write_classes

from fed_unlearn.data.sources import load_source
from fed_unlearn.data.sources.splits import role_of, train_and_held_out
from fed_unlearn.errors import InvalidDataError

CLASSES = ("cat", "dog", "fox")


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("train", "val"),
        ("training", "testing"),
        ("Train", "Test"),
        ("TRAINING", "Validation"),
        ("training_set", "test_set"),
        ("train", "eval"),
    ],
)
def test_usual_names_of_splits_are_parts_and_are_kept_apart(tmp_path: Path, train: str, test: str) -> None:
    write_classes(tmp_path / train)
    write_classes(tmp_path / test, count=2, first=100)
    source = load_source(f"folder:{tmp_path}")
    assert source.class_names == CLASSES
    assert (len(source.train), len(source.test)) == (12, 6)
    assert {name.split("/")[0] for name in source.train.ids} == {train}
    assert {name.split("/")[0] for name in source.test.ids} == {test}


def test_the_part_for_tests_goes_before_that_for_validation(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, first in (("train", 0), ("val", 90), ("test", 180)):
        write_classes(tmp_path / name, first=first)
    with caplog.at_level(logging.WARNING, "fed_unlearn.data"):
        source = load_source(f"folder:{tmp_path}")
    assert {name.split("/")[0] for name in source.test.ids} == {"test"}
    assert "'val' is not used: 'test' is the test part" in caplog.text


def test_a_part_for_training_alone_is_divided(tmp_path: Path) -> None:
    write_classes(tmp_path / "Training")
    source = load_source(f"folder:{tmp_path}")
    assert source.class_names == CLASSES
    assert (len(source.train), len(source.test)) == (9, 3)


def test_classes_in_a_part_may_be_called_like_splits(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", ("train", "test", "bus"))
    write_classes(tmp_path / "test", ("train", "test", "bus"), first=100)
    assert load_source(f"folder:{tmp_path}").class_names == ("bus", "test", "train")


def layout(folder: Path, kind: str) -> None:
    """Make a folder that cannot be read."""
    match kind:
        case "a folder too many":
            write_classes(folder / "my_photos")
        case "a folder too many in each of two":
            write_classes(folder / "site_a")
            write_classes(folder / "site_b", first=90)
        case "a folder too many in a part":
            write_classes(folder / "train" / "images")
            write_classes(folder / "test" / "images", first=90)
        case "a class called train":
            write_classes(folder, ("bus", "car", "train"))
        case "classes called train and test":
            write_classes(folder, ("train", "test"))
        case "a part beside classes":
            write_classes(folder)
            write_classes(folder / "val", first=90)
        case "two parts for training":
            write_classes(folder / "train")
            write_classes(folder / "Training", first=90)
        case "no part for training":
            write_classes(folder / "val")
            write_classes(folder / "test", first=90)
        case "test classes that training lacks":
            write_classes(folder / "train", ("cat", "dog"))
            write_classes(folder / "test", ("cat", "dog", "fox"), first=90)
        case "classes in another case":
            write_classes(folder / "train", ("cat", "dog"))
            write_classes(folder / "test", ("Cat", "Dog"), first=90)
        case "one class":
            write_classes(folder, ("cat",))
        case "one class in the parts":
            write_classes(folder / "train", ("cat",))
            write_classes(folder / "test", ("cat",), first=90)
        case "a class without images":
            write_classes(folder, ("cat", "dog"))
            (folder / "fox").mkdir()
            (folder / "fox" / "0.heic").write_bytes(b"?")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "a folder too many",
            "read 'my_photos' as classes, and their images lie a folder deeper, as my_photos/cat/0.png; expected one"
            " sub-folder a class with images in it, directly or under 'train' and 'test'; give .*my_photos$",
        ),
        (
            "a folder too many in each of two",
            "read 'site_a', 'site_b' as classes, and their images lie a folder deeper",
        ),
        ("a folder too many in a part", "train: read 'images' as classes, and their images lie a folder deeper"),
        (
            "a class called train",
            "'train' is called like a split, beside 'bus', 'car'; expected folders of splits alone",
        ),
        ("classes called train and test", "are called like a split, and 'test', 'train' has images directly in it"),
        ("a part beside classes", "'val' is called like a split, beside 'cat', 'dog', 'fox'"),
        ("two parts for training", "the parts 'Training' and 'train' are both for train; expected one"),
        ("no part for training", "no part for training among 'test', 'val'; expected one called 'train'"),
        (
            "test classes that training lacks",
            "the test part has classes that the training part lacks: 'fox'; the training part has 'cat', 'dog'",
        ),
        ("classes in another case", "lacks: 'Cat', 'Dog'; the training part has 'cat', 'dog'"),
        ("one class", "all 3 training images are of one class, 'cat'; expected at least two classes"),
        ("one class in the parts", "all 4 training images are of one class, 'cat'"),
        ("a class without images", "no image of .*in 'fox'; every folder there is read as a class"),
    ],
)
def test_other_layouts_are_refused_in_one_line_that_says_what_was_read(tmp_path: Path, kind: str, message: str) -> None:
    layout(tmp_path, kind)
    with pytest.raises(InvalidDataError, match=message) as caught:
        load_source(f"folder:{tmp_path}")
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_images_beside_the_classes_are_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_classes(tmp_path)
    (tmp_path / "preview.png").write_bytes(encoded(ramp()))
    (tmp_path / ".hidden").mkdir()
    source = load_source(f"folder:{tmp_path}")
    assert source.class_names == CLASSES and len(source.train) + len(source.test) == 12
    assert "1 images beside the folders of classes are not read" in caplog.text


@pytest.mark.parametrize("names", [("train", "test", "unsupervised"), ("TRAIN", "dev"), ("validation", "train")])
def test_splits_of_a_table_are_found_by_the_same_names(names: tuple[str, ...]) -> None:
    train, held_out = train_and_held_out(names, "hf:x")
    assert role_of(train) == "train"
    assert len(held_out) == 1 and role_of(held_out[0]) in ("test", "validation")


def test_a_part_alone_is_the_whole_whatever_its_name() -> None:
    assert train_and_held_out(["test"], "hf:x") == ("test", [])
