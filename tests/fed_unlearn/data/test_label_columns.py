"""Tables of images: which column holds the labels, labels that are missing, and paths of images."""

from pathlib import Path
from typing import Any

import pytest
from image_files import encoded, ramp, write_table

from fed_unlearn.data.sources import load_source
from fed_unlearn.errors import InvalidDataError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def value(kind: str) -> Any:
    import datasets

    return datasets.Value(kind)


def classes(*names: str) -> Any:
    import datasets

    return datasets.ClassLabel(names=list(names))


def people(folder: Path) -> Path:
    return write_table(
        folder,
        {"age": classes("young", "old"), "gender": classes("f", "m"), "identity": value("int64")},
        age=[index % 2 for index in range(12)],
        gender=[index // 2 % 2 for index in range(12)],
        identity=[index % 6 + 1 for index in range(12)],
    )


def test_several_label_columns_are_refused_unless_one_is_named(tmp_path: Path) -> None:
    place = f"hf:{people(tmp_path / 'set')}"
    with pytest.raises(
        InvalidDataError,
        match=r"3 columns may hold the labels: 'age', 'gender', 'identity'; name one, as in data.label",
    ):
        load_source(place)
    assert load_source(place, label="identity").class_names == ("1", "2", "3", "4", "5", "6")
    assert load_source(place, label="gender").class_names == ("f", "m")
    with pytest.raises(
        InvalidDataError, match=r"no label column 'idenity'; expected one of 'age', 'gender', 'identity'"
    ):
        load_source(place, label="idenity")
    with pytest.raises(InvalidDataError, match=r"no label column 'image'"):
        load_source(place, label="image")


@pytest.mark.parametrize(
    "features",
    [
        {"fine_label": "c", "coarse_label": "c"},
        {"label": "int64", "target": "int64"},
        {"label": "c", "class": "string"},
    ],
)
def test_other_pairs_of_label_columns_are_refused(tmp_path: Path, features: dict[str, str]) -> None:
    types = {name: classes("x", "y") if kind == "c" else value(kind) for name, kind in features.items()}
    columns = {name: ["xy"[i % 2] if kind == "string" else i % 2 for i in range(8)] for name, kind in features.items()}
    place = f"hf:{write_table(tmp_path / 'set', types, **columns)}"
    with pytest.raises(InvalidDataError, match=r"2 columns may hold the labels"):
        load_source(place)
    assert load_source(place, label=next(iter(features))).class_count == 2


def test_a_column_of_any_name_may_be_named(tmp_path: Path) -> None:
    place = f"hf:{write_table(tmp_path / 'set', {'who': value('string')}, who=['b', 'a', 'b', 'a'])}"
    with pytest.raises(
        InvalidDataError, match=r"no label column among image, who; .*name of another one as data.label"
    ):
        load_source(place)
    assert load_source(place, label="who").class_names == ("a", "b")


def test_a_label_column_is_refused_where_samples_have_one_label(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match=r"'digits': label 'age' was given, and its samples have one label each"):
        load_source("digits", label="age")


def test_a_callable_gets_the_label_column_where_one_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_images.py").write_text(
        "from fed_unlearn.data.sources import load_source\n"
        "def labelled(root, download, image_size, test_fraction, label='none'):\n"
        "    assert label == 'age'\n"
        "    return load_source('digits')\n"
        "def plain(root, download, image_size, test_fraction):\n"
        "    return load_source('digits')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load_source("their_images:labelled", label="age").class_count == 10
    assert load_source("their_images:plain").class_count == 10
    with pytest.raises(InvalidDataError, match=r"unexpected keyword argument 'label'"):
        load_source("their_images:plain", label="age")


MISSING: dict[str, tuple[str, list[Any]]] = {
    "not a number": ("float64", [0.0, 1.0, 0.0, 1.0, float("nan"), 2.0, 2.0]),
    "nothing": ("int64", [0, 1, 0, 1, None, 2, 2]),
    "no name": ("string", ["a", "b", "a", "b", None, "c", "c"]),
    "an empty name": ("string", ["a", "b", "a", "b", " ", "c", "c"]),
    "unlabelled": ("class", [0, 1, 0, 1, -1, 1, 0]),
}


@pytest.mark.parametrize("kind", MISSING)
def test_a_missing_label_is_refused(tmp_path: Path, kind: str) -> None:
    type_name, labels = MISSING[kind]
    types = {"label": classes("a", "b") if type_name == "class" else value(type_name)}
    with pytest.raises(
        InvalidDataError,
        match=r"1 of 7 samples of split 'train' have no label in column 'label', the first in row 4 \(",
    ) as caught:
        load_source(f"hf:{write_table(tmp_path / 'set', types, label=labels)}")
    assert "\n" not in str(caught.value)


def test_whole_numbers_in_a_column_of_floats_are_whole_labels(tmp_path: Path) -> None:
    place = write_table(tmp_path / "set", {"label": value("float64")}, label=[10.0, 2.0, 10.0, 2.0])
    assert load_source(f"hf:{place}").class_names == ("2", "10")
    place = write_table(tmp_path / "other", {"label": value("float64")}, label=[0.5, 2.0, 0.5, 2.0])
    with pytest.raises(
        InvalidDataError, match=r"column 'label' holds 0.5 in row 0; expected the name or the whole number"
    ):
        load_source(f"hf:{place}")


def write_paths(folder: Path, paths: list[str], kind: str) -> Path:
    import datasets

    table = datasets.Dataset.from_dict({"image": paths, "label": [index % 2 for index in range(len(paths))]})
    folder.mkdir(parents=True)
    if kind == "csv":
        table.to_csv(str(folder / "train.csv"), index=False)
    else:
        table.to_parquet(str(folder / "train-00000-of-00001.parquet"))
    return folder


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_paths_of_images_are_relative_to_the_data_set(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = write_paths(tmp_path / "set", [f"photos/{index}.png" for index in range(4)], kind)
    (place / "photos").mkdir()
    for index in range(4):
        (place / "photos" / f"{index}.png").write_bytes(encoded(ramp(index, 4, 4)))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    source = load_source("hf:set", root=tmp_path)
    for name, image in zip(source.train.ids, source.train.images, strict=True):
        assert image[0].tolist() == ramp(int(name), 4, 4).tolist()
    (place / "photos" / "2.png").unlink()
    with pytest.raises(
        InvalidDataError, match=r"image 'photos/2.png' cannot be read \(No such file.*relative to .*set"
    ):
        load_source("hf:set", root=tmp_path)
