"""Only what a scenario can hold passes the reading of TOML."""

from __future__ import annotations

from pathlib import Path

import pytest

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.simulations.scenario import ScenarioError, load_scenario
from fed_unlearn.simulations.scenario.overrides import apply_override
from fed_unlearn.simulations.scenario.reading import MAX_BYTES, MAX_DEPTH, parse_value, read_table

BEGINNING = """
name = "tiny"
[data]
dataset = "digits"
[clients]
count = 2
[model]
name = "small-cnn"
[[timeline]]
train = { rounds = 1 }
"""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name = '\xff'", "not a readable TOML file: byte 8 is no UTF-8"),
        (b"name =", "not a readable TOML file: Invalid value (at end of document)"),
        (b"\x1b = 1", "not a readable TOML file: Invalid statement (at line 1, column 1)"),
        (b"seed = " + b"9" * 5000, "a number has more than 4300 digits; expected an integer of 64 bits"),
        (b"a = [{b = 9223372036854775808}]", "a[0].b: 9223372036854775808 was given; expected an integer of 64 bits"),
        (b"a = " + b"[" * 33 + b"]" * 33, "tables or lists stand more than 32 levels deep; expected fewer"),
        (b"a = " + b"[" * 50_000, "tables or lists stand more than 32 levels deep; expected fewer"),
        (b".".join([b"a"] * 500) + b" = 1", "tables or lists stand more than 32 levels deep; expected fewer"),
        (b"#" * (MAX_BYTES + 1), "has more than 1,000,000 bytes; expected a scenario"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "s.toml").write_bytes(content)
    with pytest.raises(InvalidParameterError) as caught:
        read_table(tmp_path / "s.toml")
    assert str(caught.value) == message
    with pytest.raises(ScenarioError) as told:
        load_scenario(str(tmp_path / "s.toml"))
    assert str(told.value) == f"s.toml: {message}"


def test_the_bounds_themselves_pass(tmp_path: Path) -> None:
    nested = "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1)
    (tmp_path / "s.toml").write_text(f"a = {nested}\nb = [-9223372036854775808, 9223372036854775807]")
    assert read_table(tmp_path / "s.toml")["b"] == [-(2**63), 2**63 - 1]


def test_values_of_arguments_have_the_same_bounds() -> None:
    assert parse_value("9223372036854775807") == 2**63 - 1
    for text in ("9223372036854775808", "9" * 5000, "[" * 40 + "]" * 40, "[" * 50_000):
        with pytest.raises(InvalidParameterError, match=r"64 bits|levels deep"):
            parse_value(text)
    with pytest.raises(ValueError, match="33 parts; expected at most 32"):
        apply_override({}, ".".join("a" * 33) + "=1")
    with pytest.raises(ValueError, match="is no entry of a"):
        apply_override({"a": []}, "a." + "9" * 5000 + "=1")


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ('[data]\nroot = "{}"', "data.root"),
        ('[data]\ndataset = "folder:{}"', "data.dataset"),
        ('[data]\ndataset = "hf:{}"', "data.dataset"),
        ('[model]\ncheckpoint = "{}"', "model.checkpoint"),
    ],
)
@pytest.mark.parametrize("path", ["x" * 5000, "a\\u0000b", "~nobody-at-all/x"], ids=["long", "null", "home"])
def test_what_cannot_be_a_path_is_named(tmp_path: Path, line: str, place: str, path: str) -> None:
    if place == "data.dataset" and path.startswith(("x", "a")) and "hf" in line:
        path = f"./{path}"
    section, key = line.format(path).split("\n")
    text = BEGINNING.replace('dataset = "digits"\n', "") if "dataset" in key else BEGINNING
    (tmp_path / "s.toml").write_text(text.replace(section, f"{section}\n{key}"))
    with pytest.raises(ScenarioError) as caught:
        load_scenario(str(tmp_path / "s.toml"))
    (problem,) = caught.value.problems
    assert problem.startswith(f"s.toml: {place}: ") and " is no path (" in problem and len(problem) < 400


@pytest.mark.parametrize("value", [["a"], {"a": 1}, 1, None, [[]]])
def test_a_strategy_of_another_type_is_refused_in_words(tmp_path: Path, value: object) -> None:
    (tmp_path / "s.toml").write_text(BEGINNING)
    with pytest.raises(ScenarioError, match=r"training\.strategy: .* was given; expected"):
        load_scenario(str(tmp_path / "s.toml"), [f"training.strategy={'{a=1}' if isinstance(value, dict) else value}"])


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "\ud800"], ids=["long", "null", "surrogate"])
def test_a_name_that_is_no_path(name: str) -> None:
    with pytest.raises(ScenarioError, match=r"is no path|is unknown") as caught:
        load_scenario(name)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600
