import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from fed_unlearn.gate import Gate
from fed_unlearn.plan import MEBIBYTE
from fed_unlearn.requests import ClassScope, ClientScope, SampleScope
from fed_unlearn.simulations.run.assembly import new_gate, new_plan
from fed_unlearn.simulations.scenario import load_scenario
from fed_unlearn.strategies import UnlearningPlan


def test_requests_of_one_entry_are_put_together_and_single_tables_stay_single(minimal: Path, tmp_path: Path) -> None:
    several = "timeline.2.forget=[{class = 4, priority = 2}, {client = 1, samples = 3, deadline = 60}]"
    scenario = load_scenario(str(minimal), [several, "timeline.3.forget={client = 2}"])
    entries = list(scenario.forget_entries())
    assert [(index, [step.id for step in steps]) for index, steps in entries] == [
        (1, ["r1"]),
        (2, ["r2", "r3"]),
        (3, ["r4"]),
    ]
    requests = [scenario.request_of(step, put_at=1000.0) for _, steps in entries for step in steps]
    assert [request.scope for request in requests] == [
        ClassScope((3,)),
        ClassScope((4,)),
        SampleScope("1", count=3),
        ClientScope("2"),
    ]
    assert [(request.priority, request.deadline) for request in requests] == [
        (0, None),
        (2, None),
        (0, 1060.0),
        (0, None),
    ]
    assert [request.method for request in requests] == 2 * ["boundary-shrink"] + ["instance-wise", "fedosd"]
    copy = tmp_path / "scenario.toml"
    copy.write_text(scenario.to_toml())
    assert load_scenario(str(copy), ["timeline.1.forget.class=8"]).timeline[1].requests[0].class_ids == (8,)
    assert load_scenario(str(copy)).model_dump() == scenario.model_dump()


def test_a_deadline_counts_from_when_the_request_is_put(minimal: Path) -> None:
    scenario = load_scenario(str(minimal), ["timeline.1.forget.deadline=3600"])
    before = time.time()
    deadline = scenario.request_of(scenario.timeline[1].requests[0]).deadline
    assert deadline is not None and before + 3600 <= deadline <= time.time() + 3600


def test_what_is_not_said_about_unlearning_has_defaults_and_what_is_said_survives(
    minimal: Path, tmp_path: Path
) -> None:
    section = load_scenario(str(minimal)).unlearning
    assert (section.sample_method, section.client_method) == ("instance-wise", "fedosd")
    assert (section.escalation.class_, section.escalation.sample, section.escalation.client) == ((), (), ())
    assert (section.history.every, section.history.max_megabytes) == (1, 512)
    assert (section.hold.data, section.hold.class_, section.hold.client) == (None, None, None)
    assert (section.reopen_relapsed, section.share_rounds) == (False, True)
    scenario = load_scenario(
        str(minimal),
        [
            "unlearning.sample-method=scrub",
            "unlearning.escalation={class = ['delete', 'retrain'], client = ['retrain']}",
            "unlearning.history={every = 2, max-megabytes = 8}",
            "unlearning.hold={data = 0.5, class = 1, client = 'none'}",
            "unlearning.reopen-relapsed=true",
            "unlearning.share-rounds=false",
            "gate.indistinguishable={membership-contains-half = false, max-forget-excess = 0.2}",
            "gate.client.max-forget-excess='none'",
        ],
    )
    section = scenario.unlearning
    assert (section.escalation.of("class"), section.escalation.of("client")) == (("delete", "retrain"), ("retrain",))
    assert (section.history.every, section.history.max_megabytes) == (2, 8)
    assert (section.hold.data, section.hold.class_, section.hold.client) == (0.5, 1.0, None)
    assert (section.reopen_relapsed, section.share_rounds) == (True, False)
    assert scenario.gate.indistinguishable.max_forget_excess == 0.2
    assert not scenario.gate.indistinguishable.membership_contains_half
    assert scenario.gate.client.max_forget_excess is None
    copy = tmp_path / "scenario.toml"
    copy.write_text(scenario.to_toml())
    assert load_scenario(str(copy)).model_dump() == scenario.model_dump()


def test_the_thresholds_of_a_file_that_names_none_are_those_of_the_gate(minimal: Path) -> None:
    gate, section = Gate(), load_scenario(str(minimal)).gate
    for thresholds, ours in (
        (gate.class_thresholds, section.class_),
        (gate.sample_thresholds, section.sample),
        (gate.client_thresholds, section.client),
        (gate.indistinguishable_thresholds, section.indistinguishable),
    ):
        assert ours.thresholds() == thresholds
        assert ours.model_dump() == {key: value for key, value in asdict(thresholds).items() if key != "figures"}


def test_a_scenario_that_says_nothing_has_the_defaults_of_plan_and_gate(minimal: Path) -> None:
    scenario = load_scenario(str(minimal))
    plan, usual = new_plan(scenario), UnlearningPlan()
    assert new_gate(scenario) == Gate()
    assert plan == replace(usual, escalation={"class": (), "sample": (), "client": ()})
    assert scenario.unlearning.history.max_megabytes * MEBIBYTE == usual.history.max_bytes


def test_a_scenario_says_how_deep_classes_are_forgotten(minimal: Path) -> None:
    plan = new_plan(load_scenario(str(minimal)))
    assert plan.depth == "shallow"
    assert new_plan(load_scenario(str(minimal), ["unlearning.depth=deep"])) == replace(plan, depth="deep")


def test_a_scenario_is_fitted_to_a_smaller_federation(caplog: pytest.LogCaptureFixture) -> None:
    from fed_unlearn.simulations.scenario.checks import forget_steps
    from fed_unlearn.simulations.task import fitted

    scenario = load_scenario("digits")
    assert fitted(scenario, 10) is scenario
    three = fitted(scenario, 3)
    assert [(step.id, step.client) for _, step in forget_steps(three) if step.client is not None] == [
        ("r4", 2),
        ("r5", 0),
        ("r7", 1),
        ("r8", 1),
    ]  # client 8 would be 2, which has left
    caplog.clear()
    two = fitted(scenario, 2)
    assert two.clients.count == 2
    assert [(step.id, step.client) for _, step in forget_steps(two) if step.client is not None] == [
        ("r5", 1),
        ("r6", 0),
        ("r7", 0),
        ("r8", 1),
    ]
    assert [record.getMessage() for record in caplog.records] == [
        "fed_unlearn: request r4 is left out: 2 clients are too few for it"
    ]
    assert len(two.timeline) == len(scenario.timeline) - 1
