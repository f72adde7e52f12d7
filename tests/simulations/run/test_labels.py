"""Runs on data whose labels are not the model's indices: what is asked for by its label is what is forgotten."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import encoded
from sklearn.datasets import load_digits
from torch import nn

from fed_unlearn.checkpoints import CheckpointStore
from fed_unlearn.data.sources import ImageSource, load_source
from fed_unlearn.ledger import Ledger
from fed_unlearn.models import build_model
from fed_unlearn.simulations.cli import BAD_INPUT, run_command
from fed_unlearn.simulations.run.results import RunResults

SCENARIO = """
name = "labelled"
[run]
threads = 1
[data]
dataset = "folder:images"
[clients]
count = 2
[model]
name = "small-cnn"
[training]
local-epochs = 4
[unlearning]
retention = 1
[unlearning.parameters.boundary-shrink]
epochs = 5
learning-rate = 0.005
[[timeline]]
train = { rounds = 6 }
[[timeline]]
forget = { id = "gone", class = CLASS }
"""
DIGITS = (0, 1, 2, 3)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_digits(folder: Path, names: tuple[str, ...]) -> None:
    """Sixty images of each of four digits, in folders that are called otherwise."""
    bunch = load_digits()
    for digit, name in zip(DIGITS, names, strict=True):
        (folder / "images" / name).mkdir(parents=True)
        for position in np.flatnonzero(bunch.target == digit)[:60]:
            pixels = (bunch.images[position] * 15.9).astype(np.uint8)
            (folder / "images" / name / f"{position}.png").write_bytes(encoded(pixels))


def accuracies(out: Path, source: ImageSource) -> dict[str, float]:
    """The final model's accuracy on the test images of each folder, computed here."""
    with_ledger = Ledger(out / "ledger.db", create=False)
    digest = with_ledger.served_model()
    with_ledger.close()
    assert digest is not None
    model = build_model("small-cnn", class_count=source.class_count, image_shape=source.image_shape)
    assert isinstance(model, nn.Module)
    arrays = CheckpointStore(out / "checkpoints").load(digest)
    model.load_state_dict({name: torch.as_tensor(value) for name, value in arrays.items()})
    model.eval()
    images, labels = source.test.batch()
    with torch.no_grad():
        right = model(images).argmax(1) == labels
    return {name: float(right[labels == index].float().mean()) for index, name in enumerate(source.class_names)}


@pytest.mark.parametrize(
    ("names", "asked", "gone"),
    [
        (("1", "2", "3", "4"), "1", "1"),
        pytest.param(("10", "20", "30", "40"), "20", "20", marks=pytest.mark.slow),
        (("cat", "deer", "fox", "owl"), '"deer"', "deer"),
        pytest.param(("cat", "deer", "fox", "owl"), "2", "fox", marks=pytest.mark.slow),
    ],
)
def test_what_is_forgotten_is_what_the_label_names(
    folder: Path, names: tuple[str, ...], asked: str, gone: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_digits(folder, names)
    (folder / "labelled.toml").write_text(SCENARIO.replace("CLASS", asked))
    assert run_command(["run", "labelled.toml", "--out", "out"]) == 0
    said = capsys.readouterr()
    found = accuracies(folder / "out", load_source("folder:images"))
    assert found.pop(gone) == 0 and min(found.values()) > 0.8
    shown = f"class '{gone}' (index {names.index(gone)})"
    assert shown in (folder / "out" / "log.txt").read_text()
    assert shown.split(" (")[0] in said.out + said.err
    [request] = RunResults.load(folder / "out").requests
    assert (request.target, request.labels) == ({"classes": [names.index(gone)]}, (gone,))
    renumbered = "labels are not the indices of the model's outputs"
    assert (renumbered in said.out + said.err) == names[0].isdecimal()
    written = json.loads((folder / "out" / "clients" / "0" / "classes.json").read_text())
    assert tuple(written) == names


@pytest.mark.parametrize(
    ("names", "asked", "message"),
    [
        (("1", "2", "3", "4"), "0", "class: 0 is not a class of 'folder:images' (1..4)"),
        (("1", "2", "3", "4"), '"five"', "class: 'five' is not a class of 'folder:images' (1..4)"),
        (("cat", "deer", "fox", "owl"), '"dear"', "('cat', 'deer', 'fox', 'owl'); did you mean 'deer'?"),
        (
            ("cat", "deer", "fox", "owl"),
            "4",
            "class: 4 is not a class of 'folder:images' ('cat', 'deer', 'fox', 'owl')",
        ),
        (("cat", "deer", "fox", "owl"), "1.5", "class: "),
    ],
)
def test_a_label_that_the_data_do_not_have_is_one_line(
    folder: Path, names: tuple[str, ...], asked: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_digits(folder, names)
    (folder / "labelled.toml").write_text(SCENARIO.replace("CLASS", asked))
    assert run_command(["run", "labelled.toml", "--out", "out"]) == BAD_INPUT
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and message in captured.err
    assert not (folder / "out").exists()


@pytest.mark.slow
def test_several_classes_and_experiences_are_named_by_label(folder: Path) -> None:
    write_digits(folder, ("1", "2", "3", "4"))
    stream = '[stream]\nbenchmark = "class-incremental"\nexperiences = 2\nclass-order = [4, 3, 2, 1]\n'
    timeline = (
        "[[timeline]]\ntrain = { experience = 1, rounds = 1 }\n[[timeline]]\n"
        "forget = { client = 0, samples = 2, of-class = 4 }\n[[timeline]]\ntrain = { experience = 2, rounds = 1 }\n"
        "[[timeline]]\nforget = { classes = [1, 4] }\n"
    )
    (folder / "labelled.toml").write_text(SCENARIO.partition("[[timeline]]")[0] + stream + timeline)
    run_command(["run", "labelled.toml", "--out", "out"])
    first, second = RunResults.load(folder / "out").requests
    assert (first.target["of_class"], first.labels) == (3, ("4",))
    assert (second.target, second.labels) == ({"classes": [0, 3]}, ("1", "4"))


def test_a_class_that_has_not_arrived_is_told_by_its_label(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_digits(folder, ("1", "2", "3", "4"))
    stream = '[stream]\nbenchmark = "class-incremental"\nexperiences = 2\nclass-order = [4, 3, 2, 1]\n'
    timeline = "[[timeline]]\ntrain = { experience = 1, rounds = 1 }\n[[timeline]]\nforget = { class = 1 }\n"
    (folder / "labelled.toml").write_text(SCENARIO.partition("[[timeline]]")[0] + stream + timeline)
    assert run_command(["run", "labelled.toml", "--out", "out"]) == BAD_INPUT
    told = "'1' (index 0) has not arrived by then; classes so far are '3' (index 2), '4' (index 3)"
    assert told in capsys.readouterr().err
