from dataclasses import replace
from pathlib import Path

import pytest
from flwr.serverapp.strategy import FedAvg, FedXgbBagging

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.strategies import ContinualUnlearning, History, HolderTurn, Holds, Repair, Retry, UnlearningPlan

FLAT = {
    "repair_rounds": 3,
    "alternations": 2,
    "repair_config": {"learning-rate": 0.1},
    "guard_weight": 2,
    "guard_margin": 4.0,
    "max_holder_steps": 5,
    "max_update_norm": 0.5,
    "history_every": 2,
    "history_bytes": 1000,
    "retries": 1,
    "backoff_seconds": 0.25,
}
GROUPED = UnlearningPlan(
    repair=Repair(rounds=3, alternations=2, config={"learning-rate": 0.1}, guard_weight=2, guard_margin=4.0),
    holder_turn=HolderTurn(max_steps=5, max_norm=0.5),
    history=History(every=2, max_bytes=1000),
    retry=Retry(count=1, backoff_seconds=0.25),
)


def test_flat_keywords_are_put_into_their_groups() -> None:
    assert UnlearningPlan(**FLAT) == GROUPED  # type: ignore[arg-type]
    assert replace(UnlearningPlan(), **FLAT) == GROUPED  # type: ignore[arg-type]


def test_a_flat_keyword_alone_leaves_the_rest_of_its_group_as_the_plan_has_it() -> None:
    assert UnlearningPlan(history_bytes=1000).history == History(every=0, max_bytes=1000)
    assert UnlearningPlan(retries=0).retry == Retry(count=0)


def test_a_plan_names_all_that_is_wrong() -> None:
    with pytest.raises(InvalidParameterError) as caught:
        UnlearningPlan(
            repair_rounds=-1,
            retries=-1,
            max_norm_factor=0.5,
            retention_days=-1,
            holds=Holds(data=0.5),
            parameters={"magic": {}},
            escalation={"class": ("fedosd",)},
        )
    found = caught.value.problems
    assert found[:4] == (
        "unlearning: repair.rounds = -1; expected a whole number from 0",
        "unlearning: retry.count = -1; expected a whole number from 0",
        "unlearning: max_norm_factor = 0.5; expected a number from 1",
        "unlearning: retention_days = -1; expected a number from 0",
    )
    assert found[4].startswith("method 'magic' is unknown")
    assert found[5:] == ("'fedosd' does not serve class requests; it serves client requests",)


def test_a_strategy_tells_all_that_is_wrong_with_it(tmp_path: Path) -> None:
    strategy = ContinualUnlearning(FedAvg(), ledger=tmp_path / "ledger.db")
    try:
        assert strategy.validate() == []
        strategy.plan = UnlearningPlan(
            class_method="magic",
            sample_method="mask-output",
            client_method="federaser",
            escalation={"client": ("retrain",)},
        )
        strategy.inner = FedXgbBagging()
        found = strategy.validate()
        assert [line.split(" ")[:2] for line in found] == [
            ["strategy", "FedXgbBagging"],
            ["method", "'magic'"],
            ["'mask-output'", "does"],
            ["unlearning:", "history.every"],
        ]
        assert found[-1] == ("unlearning: history.every = 0; expected a whole number from 1 for federaser")
        strategy.plan = UnlearningPlan(client_method="federaser", history_every=1)
        assert strategy.validate() == found[:1]
    finally:
        strategy.ledger.close()
