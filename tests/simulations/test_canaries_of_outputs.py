"""No output of a run has ids of samples, and none but the operator's report and log has names of clients.

Clients and samples of one run have ids that occur nowhere else. All that is made of it is searched for them: raw, in
hexadecimal, base64 and as SHA-256, also inside of pictures that a page carries.
"""

from __future__ import annotations

import io
import json
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import pytest
import wandb_file
from canaries import found_anywhere, found_in
from canary_run import CLIENTS, CanaryRun, canary_run
from rich.console import Console

from fed_unlearn.ledger import Ledger
from fed_unlearn.simulations.cli import run_command
from fed_unlearn.simulations.live.view import RunView
from fed_unlearn.simulations.report.page import write_report
from fed_unlearn.simulations.report.pages import write_pages
from fed_unlearn.simulations.report.table import plain_lines, print_results
from fed_unlearn.simulations.run.export import export_model
from fed_unlearn.simulations.sweep.cells import end_of_run
from fed_unlearn.simulations.sweep.record import Cell

pytestmark = pytest.mark.slow

TRACKERS = 'reporting.trackers=["csv", "tensorboard", "mlflow", "wandb"]'


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> CanaryRun:
    """A run that may name its clients to its operator, with all that is written at its end."""
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith(("MLFLOW_", "WANDB_"))]:
            environment.delenv(name)  # both write into the run folder then
        made = canary_run(tmp_path_factory.mktemp("canaries") / "run", TRACKERS, 'reporting.loggers=["text", "csv"]')
    assert [line for line in write_pages(made.results, made.folder) if not line.startswith("report: ")] == []
    return made


@pytest.fixture(scope="module")
def anonymous(tmp_path_factory: pytest.TempPathFactory) -> CanaryRun:
    """The same with ``--anonymous``."""
    made = canary_run(tmp_path_factory.mktemp("anonymous") / "run", anonymous=True)
    assert [line for line in write_pages(made.results, made.folder) if not line.startswith("report: ")] == []
    return made


def _searched(paths: Sequence[Path], secrets: Sequence[str]) -> list[str]:
    """What is found; there must be files, or nothing was searched."""
    assert all(path.is_file() or any(item.is_file() for item in path.rglob("*")) for path in paths), paths
    return found_anywhere(paths, secrets)


def test_the_operators_report_and_log_have_names_and_no_ids(run: CanaryRun) -> None:
    operators = [run.folder / "report.html", run.folder / "log.txt"]
    assert _searched(operators, run.sample_ids) == []
    for path in operators:
        assert found_anywhere([path], CLIENTS), "the search finds names where they may be"
    assert found_in({"events": run.said.encode()}, run.sample_ids) == []


def test_figures_have_no_ids(run: CanaryRun) -> None:
    assert list((run.folder / "figures").glob("*.svg")) and list((run.folder / "figures").glob("*.png"))
    assert _searched([run.folder / "figures"], run.sample_ids) == []


@pytest.mark.parametrize("part", ["receipts", "tracking", "reports"])
def test_what_others_read_has_neither_names_nor_ids(run: CanaryRun, part: str) -> None:
    assert _searched([run.folder / part], [*CLIENTS, *run.sample_ids]) == []


def test_what_mlflow_has_of_a_run_has_neither(run: CanaryRun) -> None:
    """Every value of every row of its database, as SQLite reads it."""
    with closing(sqlite3.connect(run.folder / "tracking" / "mlflow.db")) as store:
        tables = [name for (name,) in store.execute("select name from sqlite_master where type = 'table'")]
        rows = {name: store.execute(f'select * from "{name}"').fetchall() for name in tables}
    assert {row[0] for row in rows["metrics"]} >= {"test_accuracy", "samples/after/forget_accuracy"}
    assert ("clients.count", "4") in {row[:2] for row in rows["params"]}
    values = {name: "\n".join(str(value) for row in found for value in row).encode() for name, found in rows.items()}
    assert found_in(values, [*CLIENTS, *run.sample_ids]) == []


def test_what_weights_and_biases_has_of_a_run_has_neither(run: CanaryRun) -> None:
    """Every text of every record of its file, as protocol buffers read it."""
    [file] = wandb_file.offline_runs(run.folder / "tracking")
    names = {name for _, figures in wandb_file.history(file) for name in figures}
    assert names >= {"test_accuracy", "samples/after/forget_accuracy"}
    texts = wandb_file.texts(file)
    assert {"clients.count", "leaves/status"} <= {*texts, *wandb_file.summary(file)}
    assert found_in({"records": "\n".join(texts).encode()}, [*CLIENTS, *run.sample_ids]) == []


def test_a_receipt_as_it_is_shown_has_neither(run: CanaryRun, capsys: pytest.CaptureFixture[str]) -> None:
    documents = sorted((run.folder / "receipts").glob("*.json"))
    assert len(documents) == len(run.results.requests)
    for document in documents:
        assert run_command(["receipt", "show", str(document)]) == 0
    printed = capsys.readouterr()
    assert found_in({"shown": (printed.out + printed.err).encode()}, [*CLIENTS, *run.sample_ids]) == []


def test_a_model_card_has_neither(run: CanaryRun, tmp_path: Path) -> None:
    export_model(run.folder, tmp_path / "model.safetensors", card=tmp_path / "card.md")
    assert _searched([tmp_path], [*CLIENTS, *run.sample_ids]) == []


def test_events_of_the_ledger_have_neither(run: CanaryRun, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(Ledger(run.folder / "ledger.db", create=False)) as ledger:
        events = json.dumps([asdict(event) for event in ledger.events()])
    assert events.count('"sequence"') > 20
    assert found_in({"events": events.encode()}, [*CLIENTS, *run.sample_ids]) == []
    assert run_command(["ledger", "show", str(run.folder)]) == 0
    assert found_in({"shown": capsys.readouterr().out.encode()}, [*CLIENTS, *run.sample_ids]) == []


def test_the_live_page_has_names_only_if_it_may(run: CanaryRun, anonymous: CanaryRun) -> None:
    page = RunView(run.folder, "canaries").shown(now=True).page.encode()
    assert found_in({"page": page}, CLIENTS[:1]) and found_in({"page": page}, run.sample_ids) == []
    hidden = RunView(anonymous.folder, "canaries").shown(now=True).page.encode()
    assert b"client A" in hidden and found_in({"page": hidden}, [*CLIENTS, *anonymous.sample_ids]) == []


def test_comparisons_have_neither(run: CanaryRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    formats = {"--markdown": "t.md", "--csv": "t.csv", "--runs-csv": "runs.csv", "--latex": "t.tex", "--html": "t.html"}
    files = [word for option, name in formats.items() for word in (option, str(tmp_path / name))]
    assert run_command(["compare", str(run.folder), "--figure", "all", *files]) == 0
    assert len(list(tmp_path.iterdir())) == len(formats)
    assert _searched([tmp_path], [*CLIENTS, *run.sample_ids]) == []
    assert found_in({"printed": capsys.readouterr().out.encode()}, [*CLIENTS, *run.sample_ids]) == []


def test_what_a_sweep_keeps_of_a_run_has_neither(run: CanaryRun) -> None:
    end, told = end_of_run(Cell("canaries", "own", 0), run.folder, code=1)
    text = f"{json.dumps(asdict(end))} {end.told} {told}"
    assert "ended" in text and found_in({"sweep": text.encode()}, [*CLIENTS, *run.sample_ids]) == []


def test_an_anonymous_run_names_no_client_anywhere_that_is_read(anonymous: CanaryRun, tmp_path: Path) -> None:
    secrets = [*CLIENTS, *anonymous.sample_ids]
    shown = [anonymous.folder / name for name in ("report.html", "figures", "log.txt", "receipts")]
    assert _searched(shown, secrets) == []
    assert found_in({"events": anonymous.said.encode()}, secrets) == []
    assert "client A" in (anonymous.folder / "report.html").read_text()


def test_an_anonymous_report_of_a_run_that_was_not(run: CanaryRun, tmp_path: Path) -> None:
    page = write_report(run.folder, anonymous=True, images=True, to=tmp_path / "anonymous.html")
    assert _searched([page], [*CLIENTS, *run.sample_ids]) == []


def test_the_terminal_has_no_ids(run: CanaryRun) -> None:
    stream = io.StringIO()
    print_results(run.results, Console(file=stream, width=100))
    said = stream.getvalue() + "\n".join(plain_lines(run.results))
    assert (
        found_in({"terminal": said.encode()}, CLIENTS) and found_in({"terminal": said.encode()}, run.sample_ids) == []
    )
