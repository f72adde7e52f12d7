"""A sequence of two requests measured from end to end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.gate import Thresholds
from fed_unlearn.simulations.bench.sequence.bench import run_sequence_bench, scenarios_of
from fed_unlearn.simulations.bench.sequence.results import SequenceReport
from fed_unlearn.simulations.bench.sequence.settings import SequenceSettings

SEQUENCE = """
name = "sequence"
[run]
threads = 1
[data]
dataset = "digits"
[clients]
count = 2
[model]
name = "small-cnn"
width = 8
[training]
learning-rate = 0.05
[unlearning]
method = "reset-and-relearn"
repair-rounds = 0
retention = 1
[unlearning.parameters.reset-and-relearn]
rounds = 1
[gate.class]
max-retain-drop = "none"
max-total-retain-drop = "none"
[gate.indistinguishable]
max-retain-drop = "none"
max-total-retain-drop = "none"
[[timeline]]
train = { rounds = 2 }
[[timeline]]
forget = { class = 3 }
[[timeline]]
forget = { client = 1, samples = 8, goal = "indistinguishable" }
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[SequenceSettings, SequenceReport, list[str]]:
    folder = tmp_path_factory.mktemp("sequence")
    (folder / "sequence.toml").write_text(SEQUENCE)
    settings = SequenceSettings(
        scenario=str(folder / "sequence.toml"), out=folder / "out", seeds=(5,), oracles=2, beside=("delete",)
    )
    said = list[str]()
    threads = torch.get_num_threads()
    report = run_sequence_bench(settings, said.append)
    assert torch.get_num_threads() == threads
    return settings, report, said


def test_each_earlier_request_has_its_figures_after_every_later_event(
    measured: tuple[SequenceSettings, SequenceReport, list[str]],
) -> None:
    _, report, _ = measured
    of_class = {"logit_auc", "recall_at_5", "nearest_mean_10", "probe_accuracy", "relearn_10_steps_90"}
    places = {(cell.event, cell.request): set[str]() for cell in report.cells(report.main)}
    for cell in report.cells(report.main):
        places[cell.event, cell.request].add(cell.figure)
        assert len(cell.oracles) == 2 and set(cell.models) == {"reset-and-relearn", "original"}
    assert places == {
        ("r1", "r1"): of_class,
        ("r2", "r1"): of_class,
        ("r2", "r2"): {"membership_auc", "forget_accuracy"},
    }
    assert [item.event for item in report.accuracies(report.main)] == ["r1", "r2"]


def test_the_original_still_knows_the_class_that_no_oracle_has_seen(
    measured: tuple[SequenceSettings, SequenceReport, list[str]],
) -> None:
    report = measured[1]
    cells = [cell for cell in report.cells(report.main) if cell.figure == "logit_auc"]
    assert len(cells) == 2
    for cell in cells:
        assert cell.models["original"] > 0.95 > max(cell.oracles)


def test_another_method_stands_beside_the_same_oracles(
    measured: tuple[SequenceSettings, SequenceReport, list[str]],
) -> None:
    report = measured[1]
    own = {(cell.event, cell.request, cell.figure): cell.oracles for cell in report.cells(report.main)}
    beside = {(cell.event, cell.request, cell.figure): cell.oracles for cell in report.cells("delete")}
    assert own == beside
    assert {name for cell in report.cells("delete") for name in cell.models} == {"delete"}
    assert not report.not_committed("delete"), "no gate stands in its way"


def test_a_seed_that_was_measured_is_not_measured_again_and_another_comparison_is_refused(
    measured: tuple[SequenceSettings, SequenceReport, list[str]],
) -> None:
    settings, report, said = measured
    assert said[-1].startswith("seed 5: ")
    again = list[str]()
    assert run_sequence_bench(settings, again.append) == report
    assert again == ["seed 5: measured before"]
    other = SequenceSettings(scenario=settings.scenario, out=settings.out, seeds=(5,), oracles=3, beside=("delete",))
    with pytest.raises(FedUnlearnError, match="holds another comparison"):
        run_sequence_bench(other)


def test_what_cannot_be_measured_is_refused_before_anything_runs(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    path.write_text(SEQUENCE[: SEQUENCE.index("[[timeline]]")] + "[[timeline]]\ntrain = { rounds = 1 }\n")
    with pytest.raises(FedUnlearnError, match="the timeline has no request"):
        run_sequence_bench(SequenceSettings(scenario=str(path), out=tmp_path / "out"))
    path.write_text(SEQUENCE)
    with pytest.raises(FedUnlearnError, match="--beside reset-and-relearn: is the method of the scenario itself"):
        run_sequence_bench(SequenceSettings(scenario=str(path), out=tmp_path / "out", beside=("reset-and-relearn",)))
    with pytest.raises(FedUnlearnError, match="method 'nothing' is unknown"):
        run_sequence_bench(SequenceSettings(scenario=str(path), out=tmp_path / "out", beside=("nothing",)))
    assert not (tmp_path / "out").exists()


def test_methods_beside_are_committed_whatever_their_figures_and_serve_by_their_own_steps(
    measured: tuple[SequenceSettings, SequenceReport, list[str]],
) -> None:
    settings, _, _ = measured
    deep = replace(settings, overrides=("unlearning.depth=deep",))
    beside = scenarios_of(deep, "reset-and-relearn", 5)["delete"]
    assert (beside.unlearning.method, beside.unlearning.depth) == ("delete", "shallow")
    open_to_all = Thresholds(max_forget_accuracy=None, max_retain_drop=None, max_total_retain_drop=None)
    sections = (beside.gate.class_, beside.gate.sample, beside.gate.client, beside.gate.indistinguishable)
    assert [section.thresholds() for section in sections] == [open_to_all] * 4
