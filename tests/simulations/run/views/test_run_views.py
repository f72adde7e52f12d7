"""Views of a run: counted and projected by hand, the same in every run and after every stop, and without ids."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor, nn

from fed_unlearn.checkpoints import CheckpointStore
from fed_unlearn.simulations.run.driver import run_in_process
from fed_unlearn.simulations.run.results import RequestResult, RunResults
from fed_unlearn.simulations.run.views.chosen_images import choose
from fed_unlearn.simulations.run.views.kept_views import FOLDER, ViewFolder
from fed_unlearn.simulations.scenario import Scenario, load_scenario
from fed_unlearn.simulations.task import new_model, source_of
from fed_unlearn.strategies import ContinualUnlearning, Event
from fed_unlearn.strategies.outcomes import OracleOutcome

SCENARIO = """
name = "viewed"
[run]
threads = 1
[data]
dataset = "canary_digits:digits_with_uuids"
[clients]
count = 2
[model]
name = "small-cnn"
[training]
learning-rate = 0.05
local-epochs = 1
[unlearning]
method = "random-label"
retention = 1
max-repair-rounds = 0
[unlearning.parameters.random-label]
max-steps = 10
[gate.class]
max-forget-accuracy = 1
max-retain-drop = 1
max-total-retain-drop = 1
[[timeline]]
train = { rounds = 1 }
[[timeline]]
forget = [{ class = 3, id = "r3" }, { class = 5, id = "r5" }, { client = 0, sample-ids = ["none"], id = "samples" }]
[[timeline]]
train = { rounds = 1 }
"""


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    path = tmp_path_factory.mktemp("scenario") / "viewed.toml"
    path.write_text(SCENARIO)
    return load_scenario(str(path))


@dataclass
class Watched:
    """A run, with every model that its folder ever held, and its oracles."""

    out: Path
    results: RunResults
    models: Path
    oracles: dict[str, OracleOutcome] = field(default_factory=dict)

    def request(self, name: str) -> RequestResult:
        [found] = [item for item in self.results.requests if item.id == name]
        return found


@pytest.fixture(scope="module")
def watched(scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    folder = tmp_path_factory.mktemp("watched")
    out, models, oracles = folder / "run", folder / "models", dict[str, OracleOutcome]()

    def keep(event: Event) -> None:
        shutil.copytree(out / "checkpoints", models, dirs_exist_ok=True)

    train = ContinualUnlearning.retrain_oracles

    def kept(*arguments: Any) -> dict[str, OracleOutcome]:
        found = train(*arguments)
        oracles.update(found)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ContinualUnlearning, "retrain_oracles", kept)
        results = run_in_process(scenario, out, oracle=True, observer=keep)
    return Watched(out, results, models, oracles)


def hand_made(scenario: Scenario, arrays: Any, images: Tensor) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """What a model calls images, and what its last layer reads."""
    model = new_model(scenario, source_of(scenario.data))
    model.load_state_dict({name: torch.as_tensor(np.array(value)) for name, value in arrays.items()})
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    seen: list[Tensor] = []
    last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        called = model.eval()(images).argmax(1)
    return called.numpy(), seen[0].double().numpy()


@pytest.mark.parametrize(("name", "label"), [("r3", 3), ("r5", 5)])
def test_destinations_and_projection_are_those_by_hand(
    watched: Watched, scenario: Scenario, name: str, label: int
) -> None:
    request, source = watched.request(name), source_of(scenario.data)
    views, models = request.views, CheckpointStore(watched.models)
    assert request.status == "committed" and views is not None
    assert views.destinations is not None and views.projection is not None
    assert request.model_before is not None and request.model_after is not None
    others = [other for other in range(10) if other != label]
    chosen = choose(source.test, (label,), others, seed=scenario.seed, request_id=name)
    shown, all_of_class = chosen.images.subset(chosen.shown).images, source.test.of_classes([label]).images
    assert views.projection.classes == tuple(sorted([*others * 12, *[label] * 30]))
    oracle = watched.oracles[name].arrays
    arrays = {
        "before": models.load(request.model_before),
        "after": models.load(request.model_after),
        "oracle": oracle,
    }
    plane = PCA(2, svd_solver="full").fit(hand_made(scenario, arrays["before"], shown)[1])
    assert views.projection.explained == pytest.approx(plane.explained_variance_ratio_.sum(), abs=1e-4)
    for when, model in arrays.items():
        called, _ = hand_made(scenario, model, all_of_class)
        assert getattr(views.destinations, when) == tuple(np.bincount(called, minlength=10).tolist())
        points = np.array(getattr(views.projection, when))
        assert points == pytest.approx(plane.transform(hand_made(scenario, model, shown)[1]), abs=2e-4)
    assert request.before is not None and views.destinations.before is not None
    accuracy = views.destinations.before[label] / sum(views.destinations.before)
    assert accuracy == pytest.approx(request.before.test_forget_accuracy), "as clients have measured it"
    assert request.after is not None and views.destinations.after is not None
    accuracy = views.destinations.after[label] / sum(views.destinations.after)
    assert accuracy == pytest.approx(request.after.test_forget_accuracy)
    assert views.destinations.labels == tuple(map(str, range(10)))


def test_requests_for_samples_have_no_views_and_results_are_read_back(watched: Watched) -> None:
    assert watched.request("samples").views is None
    assert sorted(path.name for path in (watched.out / FOLDER).iterdir()) == ["r3.json", "r5.json"]
    assert RunResults.load(watched.out).requests == watched.results.requests


def test_no_id_of_a_sample_and_no_client_is_in_views(watched: Watched, scenario: Scenario) -> None:
    source = source_of(scenario.data)
    told = "".join(path.read_text() for path in (watched.out / FOLDER).iterdir())
    told += (watched.out / "results.json").read_text()
    assert not [name for name in (*source.train.ids, *source.test.ids) if name in told]
    for path in (watched.out / FOLDER).iterdir():
        body = json.loads(path.read_text())
        assert set(body) == {
            *("version", "request", "series", "classes", "others", "is_whole", "projection", "views"),
        }


def views_of(out: Path) -> dict[str, object]:
    """The views in ``results.json`` and the files, by request and name."""
    body = json.loads((out / "results.json").read_text())
    assert body["complete"]
    files: dict[str, object] = {path.name: path.read_bytes() for path in (out / FOLDER).iterdir()}
    return files | {item["id"]: item.get("views") for item in body["requests"]}


@pytest.fixture(scope="module")
def uncut(scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    out = tmp_path_factory.mktemp("uncut") / "run"
    run_in_process(scenario, out)
    return views_of(out)


def test_two_runs_have_the_same_bytes(scenario: Scenario, uncut: dict[str, object], tmp_path: Path) -> None:
    run_in_process(scenario, tmp_path / "run")
    again = views_of(tmp_path / "run")
    assert again == uncut and again["r3"] is not None and again["samples"] is None


class StoppedError(BaseException):
    """The process ends here."""


def stopping(write: Callable[..., None], number: int, *, is_written: bool) -> Callable[..., None]:
    """A writer of views that stops the process at one of its writes, before it or after it."""
    writes = 0

    def stop(folder: ViewFolder, *arguments: Any) -> None:
        nonlocal writes
        writes += 1
        if writes != number or is_written:
            write(folder, *arguments)
        if writes == number:
            raise StoppedError

    return stop


@pytest.mark.parametrize(
    ("number", "is_written"),
    [
        (1, False),
        (3, True),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((1, True), (2, False), (2, True))),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((3, False), (4, False), (4, True))),
    ],
)
def test_a_run_that_stops_at_a_view_goes_on_to_the_same_views(
    scenario: Scenario,
    uncut: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    is_written: bool,
) -> None:
    """Writes 1 and 2 are of the model before, when an attempt has begun; 3 and 4 of the one after, when it has ended."""
    out, write = tmp_path / "run", ViewFolder.write
    monkeypatch.setattr(ViewFolder, "write", stopping(write, number, is_written=is_written))
    with pytest.raises(StoppedError):
        run_in_process(scenario, out)
    monkeypatch.setattr(ViewFolder, "write", write)
    run_in_process(scenario, out)
    assert views_of(out) == uncut


def test_a_run_whose_views_are_lost_goes_on_without_them(scenario: Scenario, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run_in_process(scenario, out)
    shutil.rmtree(out / FOLDER)
    results = run_in_process(scenario, out)
    assert results.complete and all(item.views is None for item in results.requests)


def test_after_a_request_that_failed_the_model_before_it_still_serves(tmp_path: Path) -> None:
    in_vain = (
        *("gate.class.max-forget-accuracy=0", "unlearning.max-attempts=1", "unlearning.repair-rounds=0"),
        *("unlearning.parameters.random-label.max-steps=1", "timeline=[{train={rounds=1}},{forget={class=3}}]"),
    )
    path = tmp_path / "viewed.toml"
    path.write_text(SCENARIO)
    [request] = run_in_process(load_scenario(str(path), in_vain), tmp_path / "run").requests
    assert request.status == "failed" and request.after is not None and request.views is not None
    assert request.model_after == request.model_before is not None
    destinations, projection = request.views.destinations, request.views.projection
    assert destinations is not None and destinations.after == destinations.before is not None
    assert projection is not None and projection.after == projection.before is not None
    assert (destinations.oracle, projection.oracle) == (None, None)
