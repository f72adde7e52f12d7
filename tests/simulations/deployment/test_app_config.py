"""Overrides of an app's config reach the app as `flwr run` itself reads them, or are refused before anything runs."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from flwr.common.config import flatten_dict, fuse_dicts, parse_config_args

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.simulations.deployment.app_config import app_settings, check_connection
from fed_unlearn.simulations.engines.commands import FlowerCommands, toml_value

CONFIG = {"rounds": 1, "rate": 0.5, "name": "a", "a": {"b": 0, "c": 0, "deep": {"d": "x"}}, "on": False}


class Recorded(FlowerCommands):
    """Keeps the commands that it is to call."""

    def __init__(self) -> None:
        super().__init__({})
        self.called: list[tuple[str, ...]] = []

    def call(self, *arguments: str) -> dict[str, object]:
        self.called.append(arguments)
        return {"run-id": 7}


def as_flower_reads(settings: dict[str, object], tmp_path: Path) -> dict[str, object]:
    commands = Recorded()
    assert commands.start_run(tmp_path, settings) == "7"
    (call,) = commands.called
    given = [value for option, value in itertools.pairwise(call) if option == "-c"]
    return dict(fuse_dicts(flatten_dict(CONFIG), parse_config_args(given)))


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        (("rounds=3",), {"rounds": 3}),
        (("a.b=1",), {"a.b": 1}),
        (("a.b=1", "a.c=2", "a.deep.d='y'"), {"a.b": 1, "a.c": 2, "a.deep.d": "y"}),
        (("a={b=1, deep={d='z'}}",), {"a.b": 1, "a.deep.d": "z"}),
        (("rounds=3", "rounds=4"), {"rounds": 4}),
        (("on=true", "rate=1e-3"), {"on": True, "rate": 0.001}),
        (('name="it\'s"',), {"name": "it's"}),
        (("name='two  words = 3'", "a.b=-1"), {"name": "two  words = 3", "a.b": -1}),
    ],
)
def test_flower_reads_what_was_given(items: tuple[str, ...], expected: dict[str, object], tmp_path: Path) -> None:
    settings = app_settings(items, CONFIG)
    assert settings == expected
    assert as_flower_reads(settings, tmp_path) == {**flatten_dict(CONFIG), **expected}


@pytest.mark.parametrize(
    "text",
    ["", "plain", "it's", 'say "no"', "both ' and \"", "a\\b", "line\nbreak", "tab\t", "é ' 😀", "x='y' z=\"1\""],
)
def test_every_text_reaches_the_app(text: str, tmp_path: Path) -> None:
    assert parse_config_args([f"name={toml_value(text)}"]) == {"name": text}
    assert as_flower_reads({"name": text, "rounds": 2}, tmp_path)["name"] == text


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("rounds", "expected KEY=VALUE"),
        ("", "expected KEY=VALUE"),
        ("name=x", "expected KEY=VALUE"),
        ("rounds=[1, 2]", "the value of rounds is no text, number"),
        ("rounds=2026-01-01", "the value of rounds is no text, number"),
        ("a=1", "has no key a; it has a.b, a.c, a.deep.d, name, on, rate, rounds"),
        ("a.x=1", "has no key a.x"),
        ('"a b"=1', "has other characters"),
        ('a."b.c"=1', "has other characters"),
    ],
)
def test_what_flower_would_not_take_is_refused(item: str, message: str) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        app_settings(["rounds=2", item], CONFIG)
    assert message in str(caught.value)


def test_an_app_without_a_config_takes_nothing() -> None:
    assert app_settings([], {}) == {}
    with pytest.raises(InvalidParameterError, match="no key rounds; it has none"):
        app_settings(["rounds=2"], {})


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("[superlink]\ndefault = 'a'\n[superlink.a]\n[superlink.b]\n", None, None),
        ("[superlink]\ndefault = 'a'\n[superlink.a]\n[superlink.b]\n", "b", None),
        ("[superlink]\ndefault = 'a'\n[superlink.a]\n[superlink.b]\n", "c", "has no connection 'c'; it has a, b"),
        ("[superlink]\ndefault = 'a'\n[superlink.a]\n", "default", "has no connection 'default'; it has a"),
        ("[superlink]\ndefault = 'c'\n[superlink.a]\n", None, "has no connection 'c'; it has a"),
        ("[superlink.a]\n", None, "names no default connection; give --superlink NAME, of a"),
        ("", "a", "it has none"),
        ("superlink = 1", None, "is no table of connections"),
        ("[superlink", None, "cannot be read as TOML"),
        (None, "a", None),
        (None, None, "is not there, and without it Flower simulates; write the connection"),
        ("[superlink]\ndefault = 'a'\n[superlink.a]\naddress = ':local:'\n", None, "'a' is Flower's simulation on"),
        ("[superlink]\ndefault = 'a'\n[superlink.a]\naddress = ':local:'\n", "a", None),
    ],
)
def test_a_connection_that_is_not_there_is_named(
    text: str | None, name: str | None, message: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    if text is not None:
        (tmp_path / "config.toml").write_text(text)
    if message is None:
        check_connection(name)
    else:
        with pytest.raises(InvalidParameterError) as caught:
            check_connection(name)
        assert message in str(caught.value)
