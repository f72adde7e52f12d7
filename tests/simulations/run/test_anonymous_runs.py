"""With ``--anonymous`` a run says no client's name: not in its log, not to whoever watches it, not in its figures."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest
from canaries import found_anywhere, found_in
from canary_run import CLIENTS, NEVER_TRAINS, CanaryRun, canary_run
from rich.console import Console

from fed_unlearn.simulations.cli import run_command
from fed_unlearn.simulations.cli.log_lines import print_log_line
from fed_unlearn.simulations.report.anonymous import shown
from fed_unlearn.simulations.report.figures import write_figures
from fed_unlearn.simulations.report.table import plain_lines, print_results
from fed_unlearn.simulations.run.anonymity import anonymity_of
from fed_unlearn.simulations.run.results import RunResults


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> CanaryRun:
    """A run whose log may name its clients."""
    return canary_run(tmp_path_factory.mktemp("named") / "run")


@pytest.fixture(scope="module")
def anonymous(tmp_path_factory: pytest.TempPathFactory) -> CanaryRun:
    """The same run with ``--anonymous``."""
    return canary_run(tmp_path_factory.mktemp("anonymous") / "run", anonymous=True)


@pytest.mark.slow
def test_a_run_names_its_clients_to_its_operator(named: CanaryRun) -> None:
    assert found_in({"log": (named.folder / "log.txt").read_bytes()}, [NEVER_TRAINS])
    assert found_in({"events": named.said.encode()}, [NEVER_TRAINS])
    assert shown(named.results, named.folder) == named.results


@pytest.mark.slow
def test_an_anonymous_run_names_none(anonymous: CanaryRun, tmp_path: Path) -> None:
    secrets = [*CLIENTS, *anonymous.sample_ids]
    log = anonymous.folder / "log.txt"
    assert "is left out" in log.read_text() and "did not train: RuntimeError" in anonymous.said
    assert found_anywhere([log], secrets) == []
    assert found_in({"events": anonymous.said.encode()}, secrets) == []
    results = shown(anonymous.results, anonymous.folder)
    console = Console(file=io.StringIO(), width=100)
    print_results(results, console)
    said = console.file.getvalue() + "\n".join(plain_lines(results))  # type: ignore[attr-defined]
    assert "never trained" in said and found_in({"terminal": said.encode()}, secrets) == []
    write_figures(results, tmp_path / "figures")
    assert found_anywhere([tmp_path / "figures"], secrets) == []


@pytest.mark.slow
def test_letters_in_the_log_are_those_of_the_results(anonymous: CanaryRun) -> None:
    letter = chr(ord("A") + sorted(CLIENTS).index(NEVER_TRAINS))
    assert list(shown(anonymous.results, anonymous.folder).training.never_trained) == [letter]
    assert f"client {letter} is left out" in (anonymous.folder / "log.txt").read_text()


@pytest.mark.slow
def test_an_anonymous_run_gives_the_same_results(named: CanaryRun, anonymous: CanaryRun) -> None:
    assert RunResults.load(anonymous.folder).training.never_trained == named.results.training.never_trained
    assert [request.after for request in anonymous.results.requests] == [
        request.after for request in named.results.requests
    ]


def _folder(tmp_path: Path, text: str = "") -> Path:
    (tmp_path / "scenario.toml").write_text(f"[clients]\ncount = 3\n{text}")
    return tmp_path


def test_names_before_the_ledger_knows_them_are_hidden_too(tmp_path: Path) -> None:
    anonymity = anonymity_of(_folder(tmp_path, "[reporting]\nanonymous = true\n"))
    assert anonymity is not None
    logger, lines = logging.getLogger("fed_unlearn.tests"), io.StringIO()
    handler = logging.StreamHandler(lines)
    logging.getLogger("fed_unlearn").addHandler(handler)
    try:
        with anonymity.in_logs():
            logger.warning("client %s %s", "clinic", "is left out: client clinic: it is too old")
            logger.warning("node %d is refused: %s", 7, "node 7 says that it is client north; its key is another's")
            logger.warning("request %s: clients %s owe %d tombstones", "r1", "clinic, south", 3)
            logger.warning("no name, and %d%% of 3 clients", 5)
        logger.warning("client %s is named again", "clinic")
    finally:
        logging.getLogger("fed_unlearn").removeHandler(handler)
    assert lines.getvalue().splitlines()[:4] == [
        "client A is left out: client A: it is too old",
        "node 7 is refused: node 7 says that it is client B; its key is another's",
        "request r1: clients A, C owe 3 tombstones",
        "no name, and 5% of 3 clients",
    ]
    assert lines.getvalue().splitlines()[-1] == "client clinic is named again"


def test_lines_of_a_process_elsewhere_are_printed_without_names(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    anonymity = anonymity_of(_folder(tmp_path, "[reporting]\nanonymous = true\n"))
    print_log_line("WARNING :   fed_unlearn: client 2 did not answer", console, anonymity)
    print_log_line("(ClientAppActor pid=1) client 1: RuntimeError", console, anonymity)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert printed == "client C did not answer\n(ClientAppActor pid=1) client B: RuntimeError\n"
    assert anonymity_of(_folder(tmp_path)) is None


def test_the_option_is_a_key_of_the_scenario(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "launch",
        "digits-three",
        "--print",
        "--host",
        "example.org",
        "--anonymous",
        "--set",
        "clients.alpha=2",
    ]
    assert run_command(arguments) == 0
    assert "clients.alpha=2; reporting.anonymous=true" in capsys.readouterr().out
    folder = _folder(tmp_path)
    (folder / "results.json").write_text("{}")
    assert run_command(["run", "--resume", str(folder), "--anonymous"]) == 2
    assert "--anonymous with --resume" in capsys.readouterr().err
