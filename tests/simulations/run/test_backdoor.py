"""A client of a scenario that plants a trigger, and what becomes of its backdoor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from fed_unlearn.data.trigger import Trigger
from fed_unlearn.seeding import seeded_generator
from fed_unlearn.simulations.cli import run_command
from fed_unlearn.simulations.run.data_checks import check_clients
from fed_unlearn.simulations.scenario import ScenarioError, load_scenario
from fed_unlearn.simulations.task import data_of_client, fitted, source_of

BACKDOOR = "clients.backdoor={client = 2, target = 0}"


def test_one_client_has_the_trigger_in_its_training_samples_and_all_know_it(minimal: Path) -> None:
    scenario = load_scenario(str(minimal), [BACKDOOR, "seed=3"])
    clean = load_scenario(str(minimal), ["seed=3"])
    source = source_of(scenario.data)
    for client in range(3):
        data, before = (data_of_client(item, source, client) for item in (scenario, clean))
        assert data.trigger == Trigger(0) and before.trigger is None
        expected = before.train
        if client == 2:
            planted = Trigger(0).planted(before.train, seeded_generator(3, "backdoor", 2))
            assert not torch.equal(planted.labels, before.train.labels)
            assert torch.equal(data.train.batch()[0], planted.batch()[0])
            expected = before.train.relabelled(planted.labels)
        assert torch.equal(data.train.labels, expected.labels) and data.train.ids == expected.ids
        assert torch.equal(data.validation.labels, before.validation.labels)
        assert torch.equal(data.test.batch()[0], before.test.batch()[0])


def test_what_the_section_says_is_what_is_planted(minimal: Path, tmp_path: Path) -> None:
    said = (
        'clients.backdoor={client = 1, target = 7, fraction = 0.25, size = 2, value = 0.5, corner = "top-left"}',
        "clients.partition=iid",
    )
    scenario = load_scenario(str(minimal), said)
    copy = tmp_path / "scenario.toml"
    copy.write_text(scenario.to_toml())
    assert load_scenario(str(copy)).model_dump() == scenario.model_dump()
    trigger = data_of_client(scenario, source_of(scenario.data), 0).trigger
    assert trigger == Trigger(7, size=2, value=0.5, corner="top-left", fraction=0.25)
    smaller = fitted(scenario, 1).clients.backdoor
    assert smaller is not None and smaller.client == 0


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("{client = 3, target = 0}", "clients.backdoor.client: 3 is not one of the 3 clients"),
        ("{client = 1}", "clients.backdoor.target: is missing"),
        ("{client = 1, target = 0, fraction = 0}", "clients.backdoor.fraction: 0 was given"),
        ("{client = 1, target = 0, colour = 1}", "clients.backdoor.colour: is not a known key"),
        ('{client = 1, target = 0, corner = "middle"}', "clients.backdoor.corner"),
    ],
)
def test_sections_that_cannot_be_are_refused(minimal: Path, said: str, words: str) -> None:
    with pytest.raises(ScenarioError, match=words):
        load_scenario(str(minimal), [f"clients.backdoor={said}"])


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("{client = 1, target = 12}", r"clients.backdoor: 12 is not a class of the data \(0..9\)"),
        ("{client = 1, target = 0, size = 9}", "clients.backdoor: trigger: .* at least 9 pixels"),
    ],
)
def test_triggers_that_do_not_fit_the_data_are_refused(minimal: Path, said: str, words: str) -> None:
    scenario = load_scenario(str(minimal), [f"clients.backdoor={said}"])
    with pytest.raises(ScenarioError, match=words):
        check_clients(scenario, source_of(scenario.data))


@pytest.mark.slow
def test_results_say_that_the_backdoor_is_gone(minimal: Path, tmp_path: Path) -> None:
    minimal.write_text(minimal.read_text().replace("{ class = 3 }", "{ client = 2 }"))
    out = tmp_path / "run"
    changes = (BACKDOOR, "clients.count=4", "timeline.0.train.rounds=6", "gate.client.max-forget-excess=1.0")
    sets = [part for change in changes for part in ("--set", change)]
    assert run_command(["run", str(minimal), "--oracle", "--out", str(out), *sets]) == 0
    [request] = json.loads((out / "results.json").read_text())["requests"]
    found = {name: request[name]["extra"]["backdoor_success"] for name in ("before", "after", "oracle")}
    assert found["before"] > 0.8 and found["after"] < 0.1 and found["oracle"] < 0.1
    assert set(request["after"]["intervals"]) >= {"backdoor_success", "client_membership_auc"}
