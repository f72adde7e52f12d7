"""Bounds on figures of audits in scenario files."""

from __future__ import annotations

from pathlib import Path

import pytest

from fed_unlearn.gate import Bound, Gate
from fed_unlearn.simulations.run.assembly import new_gate
from fed_unlearn.simulations.scenario import ScenarioError, load_scenario


def figures(*overrides: str) -> dict[str, Bound]:
    return dict(new_gate(load_scenario("digits", overrides)).class_thresholds.figures)


def test_keys_become_bounds_beside_the_defaults() -> None:
    default = dict(Gate().class_thresholds.figures)
    assert figures() == default
    assert figures("gate.class.max-logit-auc=0.9", "gate.class.min-logit-auc=0.5") == {
        **default,
        "logit_auc": Bound(minimum=0.5, maximum=0.9),
    }
    assert figures('gate.class.max-recall-at-5="none"') == {"recall_without_bias": default["recall_without_bias"]}
    assert figures('gate.class.max-recall-at-5="reset-rows"')["recall_at_5"] == Bound(beside="reset-rows")


def test_a_resolved_file_has_the_same_bounds(tmp_path: Path) -> None:
    scenario = load_scenario("digits", ["gate.class.max-logit-auc=0.9", 'gate.class.max-recall-at-5="none"'])
    (tmp_path / "scenario.toml").write_text(scenario.to_toml())
    again = load_scenario(str(tmp_path / "scenario.toml"))
    assert new_gate(again) == new_gate(scenario)


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("class.max-logit-auk=0.9", "max-logit-auk: logit_auk is no figure of an audit; did you mean logit_auc?"),
        ("class.max-logit-auc=1.5", "max-logit-auc: logit_auc 1.5 was given; expected a number from 0 to 1"),
        ("class.max-logit-auc=true", "max-logit-auc: True was given; expected a number or 'reset-rows' or 'none'"),
        ("class.min-logit-auc=nan", "min-logit-auc: "),
        ("class.max-tug-of-war=0.9", "comes from audit 'tug_of_war', which no gate can ask for"),
        ("client.max-logit-auc=0.9", "is measured of class requests; expected a figure of client requests"),
        ('class.beside="oracle"', "beside: a federation trains its oracles after the requests"),
        ('class.max-logit-auc="oracle"', "max-logit-auc: a federation trains its oracles after the requests"),
        ('class.max-logit-auc={beside="oracle"}', "max-logit-auc: a federation trains its oracles after the requests"),
        ("class.max-forget-acuracy=0.1", "is not a known key; did you mean max-forget-accuracy?"),
        ("class.logit-auc=0.9", "is not a known key; "),
    ],
)
def test_what_cannot_be_is_told_in_one_line(override: str, problem: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load_scenario("digits", [f"gate.{override}"])
    message = str(caught.value)
    assert message.startswith("digits.toml: gate.") and problem in message and "\n" not in message


def test_ends_that_exclude_each_other_are_told() -> None:
    with pytest.raises(ScenarioError, match=r"0\.9 is over max-logit-auc = 0\.8; expected at most as much"):
        load_scenario("digits", ["gate.class.min-logit-auc=0.9", "gate.class.max-logit-auc=0.8"])
