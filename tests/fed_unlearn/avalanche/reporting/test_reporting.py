"""A server's models through Avalanche's evaluation: text, event files and CSV, read back."""

from __future__ import annotations

import copy
import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from digit_stream import digits, network, push_down, stream
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from fed_unlearn.avalanche.reporting import LOGGERS, FederationReport
from fed_unlearn.errors import InvalidDataError, InvalidParameterError
from fed_unlearn.requests import ForgetRequest

TRAIN, TEST = digits()
REQUESTS = {
    1: [ForgetRequest.for_class(1, id="a")],
    2: [ForgetRequest.for_class(0, id="b"), ForgetRequest.for_samples("0", ("41", "43"), id="c")],
}
FORGET_A = "Forget_Acc_Exp/eval_phase/forget_stream/Exp000"
RETAIN = "Retain_Acc_Stream/eval_phase/test_stream"
TOP1 = "Top1_Acc_Stream/eval_phase/test_stream"


def fitted(*classes: int) -> nn.Module:
    """A model whose every figure differs from that of the next: least squares on some classes."""
    model = network().eval()
    chosen = torch.isin(TRAIN.labels, torch.tensor(classes))
    images, labels = TRAIN.images[chosen].flatten(1).double(), TRAIN.labels[chosen]
    targets = nn.functional.one_hot(labels, 6).double()
    solution = torch.linalg.solve(images.T @ images + 5 * torch.eye(64, dtype=torch.float64), images.T @ targets)
    with torch.no_grad():
        model[-1].weight.copy_(solution.T)
        model[-1].bias.zero_()
    return model


def models() -> list[nn.Module]:
    """After training, request a, training, requests b and c."""
    first, second = fitted(0, 1), fitted(0, 1, 2, 3)
    unlearned, last = copy.deepcopy(first), copy.deepcopy(second)
    push_down(unlearned, [1], 0.9)
    push_down(last, [0, 1, 2], 0.9)
    return [first, unlearned, second, last]


def accuracy(model: nn.Module, *classes: int, images: Any = TEST) -> float:
    chosen = torch.isin(images.labels, torch.tensor(classes))
    with torch.no_grad():
        return float((model(images.images[chosen]).argmax(1) == images.labels[chosen]).double().mean())


def report(folder: Path, loggers: tuple[str, ...] = LOGGERS) -> FederationReport:
    return FederationReport(stream(REQUESTS), network(), loggers, folder)


def state(model: nn.Module) -> dict[str, Tensor]:
    return model.state_dict()


def note(told: FederationReport, step: int) -> None:
    model = models()[step]
    match step:
        case 0:
            told.note_training(state(model), 10)
        case 1:
            told.note_requests(state(model), 12, {"a": True, "elsewhere": True})
        case 2:
            told.note_training(state(model), 20, arrived=2, ended={"a": True})
        case 3:
            told.note_requests(state(model), 25, {"a": True, "b": False, "c": True})


def rows(folder: Path) -> list[tuple[int, str, float]]:
    with (folder / "metrics.csv").open() as lines:
        return [(int(row["x"]), row["name"], float(row["value"])) for row in csv.DictReader(lines)]


def curve(folder: Path, name: str) -> list[tuple[int, float]]:
    return [(step, value) for step, found, value in rows(folder) if found == name]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run that nothing cut off."""
    folder = tmp_path_factory.mktemp("whole") / "reports"
    with report(folder) as told:
        for step in range(4):
            note(told, step)
    return folder


def test_figures_are_those_of_the_models_at_their_rounds(whole: Path) -> None:
    first, unlearned, second, last = models()
    assert curve(whole, TOP1) == [
        (step, pytest.approx(accuracy(model, *range(6))))
        for step, model in zip((10, 12, 20, 25), models(), strict=True)
    ]
    retained = [(12, accuracy(unlearned, 0)), (20, accuracy(second, 0, 2, 3)), (25, accuracy(last, 2, 3))]
    assert curve(whole, RETAIN) == retained  # b failed: class 0 is not trained on again
    forgotten = [
        (step, accuracy(model, 1, images=TRAIN)) for step, model in ((12, unlearned), (20, second), (25, last))
    ]
    assert curve(whole, FORGET_A) == forgotten
    assert len({value for _, value in retained + forgotten}) > 3
    assert [step for step, _ in curve(whole, "Forget_Acc_Exp/eval_phase/forget_stream/Exp001")] == [25]
    assert len(curve(whole, "Loss_Exp/eval_phase/test_stream/Exp002")) == 4
    assert len(rows(whole)) == len(set(rows(whole)))
    assert accuracy(first, 1, images=TRAIN) == 1.0


def test_samples_that_may_not_be_read_any_more_have_no_figures_and_are_let_go(tmp_path: Path) -> None:
    """But for those of test samples; requests that may be read have theirs."""
    forbidden: set[str] = set()
    told = FederationReport(
        stream(REQUESTS), network(), ("csv",), tmp_path, readable=lambda name: name not in forbidden
    )
    with told:
        for step in range(3):
            note(told, step)
        forbidden |= {"a", "c"}
        note(told, 3)
        assert [item.samples is None for item in told._watch.served.values()] == [True, False, True]
    last = models()[3]
    for name in ("Forget_Acc_Exp", "Membership_AUC_Exp", "Relapse_Exp"):
        path = f"{name}/eval_phase/forget_stream/Exp00"
        steps = [[step for step, _ in curve(tmp_path, f"{path}{number}")] for number in range(3)]
        assert steps == [[12, 20], [25], []]
    assert curve(tmp_path, "Test_" + FORGET_A)[-1] == (25, accuracy(last, 1))
    assert curve(tmp_path, "Test_Forget_Acc_Stream/eval_phase/forget_stream")[-1] == (25, accuracy(last, 1))
    assert [step for step, _ in curve(tmp_path, "Forget_Acc_Stream/eval_phase/forget_stream")] == [12, 20]
    with FederationReport(
        stream(REQUESTS), network(), ("csv",), tmp_path, readable=lambda name: name not in forbidden
    ) as again:
        assert [item.samples is None for item in again._watch.served.values()] == [True, False, True]


def test_the_event_file_says_the_same(whole: Path) -> None:
    read = EventAccumulator(str(whole / "tensorboard"), size_guidance={"scalars": 0, "images": 0}).Reload()
    names = {name for _, name, _ in rows(whole)}
    assert set(read.Tags()["scalars"]) == names
    for name in names:
        assert [(point.step, point.value) for point in read.Scalars(name)] == [
            (step, pytest.approx(value, rel=1e-6)) for step, value in curve(whole, name)
        ]
    assert [image.step for image in read.Images("Relapse_Matrix/eval_phase/forget_stream")] == [12, 20, 25]


def test_the_text_says_it_in_order(whole: Path) -> None:
    text = (whole / "text.log").read_text()
    entries = text.split("== Round ")[1:]
    assert [entry.split(" ==")[0] for entry in entries] == [
        "10: training 1",
        "12: request a committed",
        "20: training 2",
        "25: request b failed, c committed",
    ]
    assert "forget_stream" not in entries[0] and f"{TOP1} = {accuracy(models()[0], *range(6)):.4f}" in entries[0]
    for entry, step in zip(entries[1:], (12, 20, 25), strict=True):
        for name in (FORGET_A, RETAIN):
            assert f"{name} = {dict(curve(whole, name))[step]:.4f}\n" in entry
    table = entries[-1].split("Relapse_Matrix/eval_phase/forget_stream = ")[1].split("\n")
    assert table[1].split() == ["a", "b", "c"] and [line.split()[0] for line in table[2:5]] == ["a", "train:2", "b+c"]


@pytest.mark.parametrize("cut", [0, 1, 2, 3])
def test_a_report_that_was_cut_off_goes_on_and_says_nothing_twice(whole: Path, tmp_path: Path, cut: int) -> None:
    folder = tmp_path / "reports"
    told = report(folder)
    for step in range(cut):
        note(told, step)
    told._files.save = lambda state: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        note(told, cut)
    told.close()
    assert len(rows(folder)) > len([row for row in rows(whole) if row[0] < (10, 12, 20, 25)[cut]])
    with report(folder) as told:
        for step in range(cut, 4):
            note(told, step)
            note(told, step) if step % 2 else None  # the same requests again: nothing is new
    assert rows(folder) == rows(whole)
    assert (folder / "text.log").read_bytes() == (whole / "text.log").read_bytes()
    read = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    assert [(point.step, point.value) for point in read.Scalars(FORGET_A)] == [
        (step, pytest.approx(value)) for step, value in curve(whole, FORGET_A)
    ]


def test_no_random_number_is_drawn_and_only_the_loggers_asked_for_write(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    with report(tmp_path / "reports", ("csv",)) as told:
        note(told, 0)
        note(told, 1)
    assert torch.equal(before, torch.get_rng_state())
    assert sorted(path.name for path in (tmp_path / "reports").iterdir()) == ["metrics.csv", "state.json"]


@pytest.mark.parametrize("loggers", [(), ("text", "wandb")])
def test_unknown_loggers_are_refused(loggers: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(InvalidParameterError, match="expected some of text, tensorboard, csv"):
        report(tmp_path, loggers)


def test_files_of_somebody_else_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("mine")
    with pytest.raises(InvalidDataError, match=r"metrics\.csv is there, but no state\.json"):
        report(tmp_path)
    assert (tmp_path / "metrics.csv").read_text() == "mine"
    (tmp_path / "metrics.csv").unlink()
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(InvalidDataError, match="not readable"):
        report(tmp_path)
