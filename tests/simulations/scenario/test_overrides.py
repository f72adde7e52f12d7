import pytest

from fed_unlearn.simulations.scenario.overrides import apply_override
from fed_unlearn.simulations.scenario.reading import parse_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ('"3"', "3"),
        ("{ class = 3 }", {"class": 3}),
        ("hf:../data", "hf:../data"),
        ("FedAvg", "FedAvg"),
        ("3\nother = 4", "3\nother = 4"),
    ],
)
def test_values_are_toml_and_anything_else_is_a_string(text: str, value: object) -> None:
    assert parse_value(text) == value


def test_keys_lead_through_tables_and_lists() -> None:
    table: dict[str, object] = {
        "clients": {"count": 10},
        "timeline": [{"train": {"rounds": 3}}, {"forget": {"class": 1}}],
    }
    apply_override(table, "clients.count=5")
    apply_override(table, "timeline.1.forget.class = 8")
    apply_override(table, "timeline[0].train.rounds=4")
    apply_override(table, "timeline.2.forget={class = 2}")
    apply_override(table, "unlearning.repair.fraction=0.5")
    assert table == {
        "clients": {"count": 5},
        "timeline": [{"train": {"rounds": 4}}, {"forget": {"class": 8}}, {"forget": {"class": 2}}],
        "unlearning": {"repair": {"fraction": 0.5}},
    }


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("clients.count", "expected KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
        ("clients..count=3", "expected KEY=VALUE"),
        ("name.first=3", "name is 'x', which has no keys below it"),
        ("timeline.3.train.rounds=3", "'3' is no entry of timeline; expected a number from 0 to 1"),
        ("timeline.last.train.rounds=3", "'last' is no entry of timeline; expected a number from 0 to 1"),
    ],
)
def test_bad_overrides_say_what_would_be_right(override: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem.replace("+", "[+]")):
        apply_override({"name": "x", "timeline": [{}]}, override)
