from pathlib import Path

import pytest
from scenario_texts import MINIMAL

from fed_unlearn.requests import ClassScope, ClientScope, SampleScope
from fed_unlearn.simulations.run.data_checks import check_against_data
from fed_unlearn.simulations.scenario import (
    Scenario,
    ScenarioError,
    built_in_scenarios,
    load_scenario,
    validate,
)
from fed_unlearn.simulations.scenario.sections import TrainingOverrides

CLIENT_3 = "timeline[1].forget.client: 3 is not one of the 3 clients (0..2)"


def problem(name: str | Path, *overrides: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        check_against_data(load_scenario(str(name), overrides), class_count=10)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "name",
    [
        "digits",
        "digits-avalanche",
        "digits-continual",
        "digits-demo",
        "digits-long",
        "digits-three",
        "cifar10",
        "cifar10-sequence",
        "faces",
        "frozen-head",
    ],
)
def test_built_in_scenarios_load_and_their_resolved_files_load_to_the_same(name: str, tmp_path: Path) -> None:
    scenario = load_scenario(name)
    assert scenario.source_file == f"{name}.toml"
    copy = tmp_path / "scenario.toml"
    copy.write_text(scenario.to_toml())
    assert load_scenario(str(copy)).model_dump() == scenario.model_dump()


def test_the_digits_scenario_is_what_the_documentation_promises() -> None:
    scenario = load_scenario("digits")
    requests = [scenario.request_of(step) for _, steps in scenario.forget_entries() for step in steps]
    assert (scenario.clients.count, scenario.clients.partition, dict(scenario.clients.parameters)) == (
        10,
        "dirichlet",
        {"alpha": 0.5},
    )
    assert [request.id for request in requests] == [f"r{number}" for number in range(1, 9)]
    assert [request.scope for request in requests] == [
        *(ClassScope((class_id,)) for class_id in (3, 7, 1)),
        ClientScope("2"),
        *(SampleScope(client, count=8) for client in ("3", "8")),
        *(SampleScope(client, count=4) for client in ("4", "7")),
    ]
    assert [request.method for request in requests] == (
        ["boundary-shrink", "boundary-expanding", "boundary-shrink", "fedosd"] + 4 * ["instance-wise"]
    )
    assert [request.parameters.get("goal") for request in requests[4:]] == (
        2 * ["indistinguishable"] + 2 * ["misclassify"]
    )
    names = {
        "digits",
        "digits-avalanche",
        "digits-continual",
        "digits-demo",
        "digits-long",
        "digits-three",
        "cifar10",
        "cifar10-sequence",
        "faces",
        "frozen-head",
    }
    assert set(built_in_scenarios()) == names


def test_three_clients_are_asked_for_the_same_kinds_of_requests_as_ten() -> None:
    ten, three = load_scenario("digits"), load_scenario("digits-three")
    assert three.clients.count == 3

    def kinds(scenario: Scenario) -> list[tuple[object, ...]]:
        requests = [scenario.request_of(step) for _, steps in scenario.forget_entries() for step in steps]
        return [
            (item.scope.kind, item.method, item.parameters.get("goal"), getattr(item.scope, "count", None))
            for item in requests
        ]

    assert kinds(three) == kinds(ten)


@pytest.mark.parametrize("name", ["digits", "digits-continual", "digits-demo", "digits-long", "digits-three"])
@pytest.mark.parametrize("seed", range(10))
def test_clients_hold_what_the_digits_scenarios_ask_for_under_every_seed(name: str, seed: int) -> None:
    from fed_unlearn.simulations.run.data_checks import check_clients
    from fed_unlearn.simulations.scenario.checks import forget_steps
    from fed_unlearn.simulations.task import data_of_client, source_of

    scenario = load_scenario(name, [f"seed={seed}"])
    check_against_data(scenario, class_count=10)
    source = source_of(scenario.data)
    check_clients(scenario, source)
    held = [len(data_of_client(scenario, source, client).train) for client in range(scenario.clients.count)]
    asked = [step for _, step in forget_steps(scenario) if step.client is not None and step.samples]
    assert asked and all(step.samples < held[step.client] for step in asked)


def test_values_survive_the_resolved_file(minimal: Path, tmp_path: Path) -> None:
    scenario = load_scenario(
        str(minimal),
        [
            'gate.class.max-retain-drop="none"',
            "data.image-size=[16, 16]",
            "unlearning.repair.batch-norm=frozen",
            "unlearning.parameters.boundary-shrink.epochs=2",
            "timeline.2.forget={client = 1, sample-ids = [4, \"a\"], method = 'boundary-shrink', id = 'mine'}",
            "clients.partition=dirichlet",
            "clients.min-partition-size=2",
        ],
    )
    assert scenario.gate.class_.max_retain_drop is None
    assert scenario.gate.class_.max_forget_accuracy == 0.05
    assert scenario.clients.parameters == {"min_partition_size": 2}
    request = scenario.request_of(scenario.timeline[2].requests[0])
    assert (request.scope, request.id, dict(request.parameters)) == (
        SampleScope("1", sample_ids=("4", "a")),
        "mine",
        {"epochs": 2},
    )
    copy = tmp_path / "scenario.toml"
    copy.write_text(scenario.to_toml())
    assert load_scenario(str(copy)).model_dump() == scenario.model_dump()


def test_overridden_training_changes_only_what_is_given() -> None:
    training = load_scenario("digits").training
    changed = training.overridden(TrainingOverrides(fraction=0.2, batch_norm="frozen"))
    assert changed == training.model_copy(update={"fraction": 0.2, "batch_norm": "frozen"})
    assert training.overridden(TrainingOverrides()) == training


def test_ids_that_are_given_are_kept_and_the_others_are_free(minimal: Path) -> None:
    scenario = load_scenario(
        str(minimal), ["timeline.2.forget={class = 4, id = 'r1'}", "timeline.3.forget={class = 5}"]
    )
    assert [step.id for _, steps in scenario.forget_entries() for step in steps] == ["r2", "r1", "r3"]


def test_a_checkpoint_stands_in_for_the_training_before_the_first_request(minimal: Path) -> None:
    overrides = ["timeline.2.train={rounds = 1}"]
    assert not load_scenario(str(minimal), overrides).skips_training(0)
    scenario = load_scenario(str(minimal), [*overrides, "model.checkpoint=m.safetensors"])
    assert (scenario.skips_training(0), scenario.skips_training(2)) == (True, False)


def test_relative_paths_of_a_file_are_relative_to_it_and_those_of_overrides_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "files" / "photos").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    path = tmp_path / "files" / "mine.toml"
    path.write_text(MINIMAL.replace('dataset = "digits"', 'dataset = "hf:photos"\nroot = "cache"'))
    monkeypatch.chdir(tmp_path / "here")
    scenario = load_scenario(str(path), ["model.checkpoint=../m.safetensors"])
    assert scenario.data.dataset == f"hf:{tmp_path}/files/photos"
    assert scenario.data.root == f"{tmp_path}/files/cache"
    assert scenario.model.checkpoint == f"{tmp_path}/m.safetensors"
    assert load_scenario(str(path), ["data.dataset=hf:uoft-cs/cifar10"]).data.dataset == "hf:uoft-cs/cifar10"
    assert load_scenario(str(path), ["data.dataset=hf:../x"]).data.dataset == f"hf:{tmp_path}/x"
    assert load_scenario(str(path), ["data.dataset=folder:x"]).data.dataset == f"folder:{tmp_path}/here/x"


def test_the_message_of_the_documentation() -> None:
    assert problem("digits", "timeline.2.forget.class=12") == (
        "digits.toml: timeline[2].forget.class: 12 is not a class of 'digits' (0..9)"
    )


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["timeline.1.forget={client = 3, samples = 1}"], CLIENT_3),
        (["training.learnig-rate=1"], "training.learnig-rate: is not a known key; did you mean learning-rate?"),
        (["clients.cuont=1"], "clients.cuont: is not a known key; did you mean count?"),
        (["timeline.1.forget.klass=1"], "timeline[1].forget.klass: is not a known key; did you mean class?"),
        (["training.learning-rate=-0.1"], "training.learning-rate: -0.1 was given; expected a number greater than 0"),
        (["training.learning-rate=nan"], "training.learning-rate: nan was given; expected a"),
        (["clients.count=many"], "clients.count: 'many' was given; expected integer"),
        (["clients.count=2.5"], "clients.count: 2.5 was given; expected integer"),
        (["training.augment=1"], "training.augment: 1 was given; expected boolean"),
        (["training.batch-norm=off"], "training.batch-norm: 'off' was given; expected 'train' or 'frozen'"),
        (["unlearning.retention=soon"], "unlearning.retention: 'soon' was given; expected \"none\" or a number"),
        (["data=digits"], "data: 'digits' was given; expected a table"),
        (["timeline=[]"], "timeline: is empty"),
        (["timeline.1={}"], "timeline[1]: neither of train and forget was given; expected exactly one"),
        (["timeline.1.train.rounds=1"], "timeline[1]: both of train and forget was given; expected exactly one"),
        (["timeline.0.train.rounds=0"], "timeline[0].train.rounds: 0 was given; expected 1 or more"),
        (["timeline.0={forget = {class = 1}}"], "timeline[0].forget: nothing was trained before it"),
        (["timeline.1.forget={}"], "timeline[1].forget: names nothing to forget; expected class, classes, or client"),
        (["timeline.1.forget.client=1"], "timeline[1].forget: class and client were given together"),
        (["timeline.1.forget=[{class = 1}, {clas = 3}]"], "timeline[1].forget[1].clas: is not a known key; did you mean class?"),
        (["timeline.1.forget=[{class = 1}, {}]"], "timeline[1].forget[1]: names nothing to forget"),
        (["timeline.1.forget=[]"], "timeline[1].forget: is empty; expected at least one entry"),
        (["timeline.1.forget=3"], "timeline[1].forget: 3 was given; expected a table"),
        (["timeline.1.forget=[{class = 1, id = 'a'}, {class = 3, id = 'a'}]"], "timeline[1].forget[1].id: 'a' is the id of timeline[1][0] too"),
        (["timeline.1.forget=[{class = 1}, {class = 12}]"], "timeline[1].forget[1].class: 12 is not a class of 'digits' (0..9)"),
        (["timeline.1.forget={client = 1}", "timeline.2.forget={client = 1}"], "timeline[2].forget.client: 1 was forgotten as a whole before"),
        (["timeline.1.forget={client = 1}", "timeline.2.forget={client = 1, samples = 2}"], "timeline[2].forget.client: 1 was forgotten as a whole before"),
        (["timeline.1.forget=[{client = 1}, {client = 0}]"], "timeline[1].forget[1].client: forgetting 0 leaves 1 of 3 clients; at least 2 must stay"),
        (["timeline.1.forget={client = 1, method = 'boundary-shrink'}"], "timeline[1].forget.method: 'boundary-shrink' does not serve client requests; federaser or fedosd or fedquit or fresh-head or frozen-head or negated-update or projected-ascent or reset-and-relearn or retrain or weight-negation does"),
        (["timeline.1.forget={client = 1, method = 'scrub'}"], "timeline[1].forget.method: 'scrub' does not serve client requests; "),
        (["timeline.1.forget.method=fedosd"], "timeline[1].forget.method: 'fedosd' does not serve class requests; "),
        (["timeline.1.forget={client = 1, goal = 'relabel'}"], "timeline[1].forget.method: server-side method 'fedosd' has no parameter 'goal'"),
        (["timeline.1.forget.deadline=0"], "timeline[1].forget.deadline: 0 was given; expected a number greater than 0"),
        (["timeline.1.forget.priority=high"], "timeline[1].forget.priority: 'high' was given; expected integer"),
        (["unlearning.escalation.class=retrain"], "unlearning.escalation.class: 'retrain' was given; expected a list of names"),
        (["unlearning.escalation.class=['retrain', 'magic']"], "unlearning.escalation.class[1]: method 'magic' is unknown; known are"),
        (["unlearning.escalation.sample=['mask-output']"], "unlearning.escalation.sample[0]: 'mask-output' does not serve sample requests"),
        (["unlearning.escalation.client=['delete']"], "unlearning.escalation.client[0]: 'delete' does not serve client requests"),
        (["unlearning.hold.data=0"], "unlearning.hold.data: 0 was given; expected a number greater than 0"),
        (["unlearning.hold.class=1.5"], "unlearning.hold.class: 1.5 was given; expected a number less than or equal to 1"),
        (["unlearning.history.every=0"], "unlearning.history.every: 0 was given; expected a number greater than or equal to 1"),
        (["gate.client.membership-contains-half='yes'"], "gate.client.membership-contains-half: 'yes' was given; expected boolean"),
        (["timeline.1.forget={samples = 1}"], "timeline[1].forget.client: is missing"),
        (["timeline.1.forget={client = 99, samples = 1}"], "timeline[1].forget.client: 99 is not one of the 3"),
        (["timeline.1.forget.method=frozen-head"], "timeline[1].forget.method: frozen-head: it needs the strategy FrozenHead"),
        (["timeline.1.forget.method=magic"], "timeline[1].forget.method: method 'magic' is unknown; known are"),
        (["unlearning.parameters.boundary-shrink.epoch=3"], "unlearning.parameters.boundary-shrink: method"),
        (["timeline.1.forget.id=a", "timeline.2.forget={class = 4, id = 'a'}"], "timeline[2].forget.id: 'a' is the id"),
        (["timeline.1.forget={classes = [0, 1, 2, 3, 4, 5, 6, 7, 8]}"], "timeline[1].forget: leaves 1 of 10 classes"),
        (["timeline.1.forget={classes = [1, 10]}"], "timeline[1].forget.classes: 10 is not a class of 'digits' (0..9)"),
        (["seed=x"], "seed: 'x' was given; expected integer"),
    ],
)  # fmt: skip
def test_problems_name_place_value_and_what_is_allowed(minimal: Path, overrides: list[str], expected: str) -> None:
    assert problem(minimal, *overrides).startswith(f"small.toml: {expected}")


def test_wrong_types_and_bounds_are_told_all_at_once(minimal: Path) -> None:
    wrong = [
        "clients=3",
        "seed=x",
        "unlearning.repair-rounds=-1",
        "unlearning.guard-weight=0",
        "gate.class.max-retain-drop=2",
    ]
    found = validate(str(minimal), wrong)
    assert found == [
        "small.toml: seed: 'x' was given; expected integer",
        "small.toml: clients: 3 was given; expected a table",
        "small.toml: unlearning.repair-rounds: -1 was given; expected a number greater than or equal to 0",
        "small.toml: unlearning.guard-weight: 0 was given; expected a number greater than or equal to 1",
        "small.toml: gate.class.max-retain-drop: 2 was given; expected a number less than or equal to 1",
    ]
    with pytest.raises(ScenarioError) as caught:
        load_scenario(str(minimal), wrong)
    assert list(caught.value.problems) == found
    assert validate(str(minimal)) == []


def test_what_does_not_fit_together_is_told_all_at_once_and_each_thing_once(minimal: Path) -> None:
    found = validate(
        str(minimal),
        [
            "clients.cuont=1",
            "timeline.0={forget = {class = 1, method = 'fedosd', id = 'a'}}",
            "timeline.1.forget={client = 9}",
            "timeline.2.forget={client = 1, samples = 1, id = 'a'}",
            "timeline.3={}",
            "unlearning.parameters.instance-wise.step=1",
            "unlearning.escalation.class=['magic']",
        ],
    )
    expected = [
        "clients.cuont: is not a known key; did you mean count?",
        "timeline[3]: neither of train and forget was given; expected exactly one",
        "timeline[0].forget: nothing was trained before it; ",
        "timeline[1].forget.client: 9 is not one of the 3 clients (0..2)",
        "timeline[2].forget.id: 'a' is the id of timeline[0] too; ids must differ",
        "unlearning.parameters.instance-wise: ",
        "unlearning.escalation.class[0]: method 'magic' is unknown; ",
        "timeline[0].forget.method: 'fedosd' does not serve class requests; ",
    ]
    assert len(found) == len(expected)
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(f"small.toml: {start}")


def test_every_override_that_cannot_be_applied_is_told(minimal: Path) -> None:
    found = validate(str(minimal), ["clients.count", "seed=3", "seed.x=1"])
    assert [line.split(": ")[1] for line in found] == ["--set 'clients.count'", "--set 'seed.x=1'"]


def test_a_method_that_does_not_serve_the_scope_is_refused_with_one_that_does(minimal: Path) -> None:
    message = problem(minimal, "timeline.1.forget={client = 1, samples = 2, method = 'mask-output'}")
    assert message.startswith("small.toml: timeline[1].forget.method: 'mask-output' does not serve sample requests; ")
    assert "instance-wise" in message


def test_missing_keys_and_files_that_are_no_scenarios(tmp_path: Path, minimal: Path) -> None:
    minimal.write_text(MINIMAL.replace('name = "small"', ""))
    assert problem(minimal) == "small.toml: name: is missing"
    minimal.write_text("name = ")
    assert problem(minimal).startswith("small.toml: not a readable TOML file: ")
    minimal.write_bytes(b"\xff\xfe")
    assert problem(minimal).startswith("small.toml: not a readable TOML file: ")
    assert problem(tmp_path).startswith(f"scenario '{tmp_path}' is a folder; expected the path of a TOML file or")
    assert problem("digts") == (
        "scenario 'digts' is unknown; did you mean 'digits'? expected the path of a TOML file or one of the"
        " built-in cifar10, cifar10-sequence, digits, digits-avalanche, digits-continual, digits-demo, digits-long,"
        " digits-three, faces, frozen-head"
    )
    assert problem("digits", "clients.count").startswith("digits.toml: --set 'clients.count': expected KEY=VALUE")


def test_scenarios_cannot_be_changed(minimal: Path) -> None:
    scenario: Scenario = load_scenario(str(minimal))
    with pytest.raises(ValueError, match="frozen"):
        scenario.seed = 3  # type: ignore[misc]
