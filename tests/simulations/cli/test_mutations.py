"""Samples of the trials of the command line, and whether these trials notice what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import command_trials
import pytest
from command_trials import summary, trials

from tests.trials.mutated_arguments import commands, mutated_arguments
from tests.trials.mutated_scenarios import mutated_scenarios


@pytest.mark.slow
@pytest.mark.parametrize("mutated", [mutated_arguments, mutated_scenarios], ids=["arguments", "scenarios"])
def test_200_mutations(mutated: Callable[[int], command_trials.Trials]) -> None:
    made = mutated(200)
    assert not made.problems, summary(made)
    assert made.codes.total() >= 200
    assert made.codes["2"] > 100 and made.codes["started"] > 5, "most are refused, and some are valid"


def test_a_few_mutations() -> None:
    for made in (mutated_arguments(15), mutated_scenarios(15)):
        assert not made.problems, summary(made)
        assert made.codes["2"] > 5


def test_all_commands_are_drawn_from() -> None:
    assert {("run",), ("request", "add"), ("ledger", "verify"), ("bench", "methods"), ("export",)} <= set(commands())


def test_a_valid_run_is_seen_to_start_and_the_folder_is_made_anew() -> None:
    with trials() as made:
        assert made.run(["run", "tiny.toml", "--out", "out"]).has_started
        assert not (made.folder / "out").exists()
        assert made.run(["request", "add", "ledger.db", "--class", "4"]).output == "r3\n"
        assert made.run(["request", "add", "ledger.db", "--class", "4"]).output == "r3\n"
    assert (made.codes, made.problems) == ({"started": 1, "0": 2}, [])


def lines(*texts: str, code: int = 2, output: str = "", file: str | None = None) -> Callable[[list[str]], int]:
    def command(_: list[str]) -> int:
        sys.stderr.write("".join(texts))
        sys.stdout.write(output)
        if file is not None:
            Path(file).write_text("half")
        return code

    return command


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (lines("fed-unlearn: a\n", "fed-unlearn: b\n"), "other than one line"),
        (lines("a\n"), "other than one line"),
        (lines("fed-unlearn: ", "a" * 400, "\n"), "other than one line"),
        (lines("fed-unlearn: \x1b\n"), "unprintable"),
        (lines("fed-unlearn: a\n", code=70), "exit code 70"),
        (lines(code=130), "exit code 130"),
        (lines(code=0, output="\x07"), "unprintable"),
        (lines("fed-unlearn: Traceback\n"), "a traceback"),
        (lines("fed-unlearn: a\n", output="r3\n"), "with output"),
        (lines("fed-unlearn: a\n", file="left"), "left a/b/c/left behind"),
        (lines("fed-unlearn: a\n", file="../../up"), "left a/up behind"),
        (lines("fed-unlearn: a\n", file="tiny.toml"), "changed a/b/c/tiny.toml"),
    ],
)
def test_what_is_wrong_is_noticed(
    monkeypatch: pytest.MonkeyPatch, command: Callable[[list[str]], int], problem: str
) -> None:
    monkeypatch.setattr(command_trials, "run_command", command)
    with trials() as made:
        made.run(["x"])
    assert any(problem in told for told in made.problems)


def test_a_changed_ledger_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    run_command = command_trials.run_command
    monkeypatch.setattr(command_trials, "run_command", lambda arguments: run_command(arguments) or 1)
    with trials() as made:
        made.run(["request", "withdraw", "ledger.db", "r1"])
    assert made.problems == ["'request' 'withdraw' 'ledger.db' 'r1': changed a/b/c/ledger.db"]
