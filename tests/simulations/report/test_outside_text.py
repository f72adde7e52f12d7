"""Text from outside is shown as text: no markup, no character that controls a terminal."""

from __future__ import annotations

import io
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table
from sample_results import RESULTS

from fed_unlearn.simulations.report.layout import MOST_PRINTED, plain_text, print_line
from fed_unlearn.simulations.report.progress import watching
from fed_unlearn.simulations.report.table import print_results
from fed_unlearn.simulations.run.logs import logging_to, quiet_flower
from fed_unlearn.strategies import Event

HOSTILE = "\x1b[31m[/red] [bold]x[/bold] \u202e\\"
SHOWN = "\\x1b[31m[/red] [bold]x[/bold] \\u202e\\"


def console(**options: bool) -> Console:
    return Console(file=io.StringIO(), width=200, color_system=None, **options)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_lines_and_cells() -> None:
    screen = console()
    print_line(screen, HOSTILE)
    table = Table(title=plain_text(HOSTILE))
    table.add_column("x", overflow="fold")
    table.add_row(plain_text(f"{HOSTILE}\n{'a' * 5000}"))
    screen.print(table)
    text = shown(screen)
    assert text.count(SHOWN) == 3 and text.count("a") == MOST_PRINTED - 3
    assert text.replace("\n", "").isprintable()


@pytest.mark.parametrize("is_terminal", [False, True])
def test_events_of_a_run(is_terminal: bool) -> None:
    screen = console(force_terminal=is_terminal)
    with watching(screen) as observer:
        for kind in ("request-step", "request-finished"):
            observer(Event(kind, HOSTILE, request_id="r[/]\x07"))
    assert f"r[/]\\x07: {SHOWN}" in shown(screen)
    assert "\x07" not in shown(screen) and "\x1b[31m" not in shown(screen)


def test_results() -> None:
    results = RESULTS
    request = replace(results.requests[0], id=HOSTILE, method="[/]", reason=HOSTILE, target={"client": "\x07[/a]"})
    screen = console()
    print_results(replace(results, scenario="[/x]\x07", requests=(request,)), screen)
    text = shown(screen)
    assert text.replace("\n", "").isprintable()
    assert "[/x]\\x07" in text and "client \\x07[/a]" in text


def test_log_messages(tmp_path: Path) -> None:
    flower = logging.getLogger("flwr")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    flower.addHandler(handler)
    try:
        with quiet_flower(), logging_to(tmp_path / "log.txt"):
            flower.warning("client %s\n\tleaves", HOSTILE)
            logging.getLogger("fed_unlearn.strategies").info("%s", "\x07" * 100_000)
        flower.warning("%s", "\x07")
    finally:
        flower.removeHandler(handler)
    assert stream.getvalue() == f"client {SHOWN}\n\tleaves\n\x07\n"
    first, second, third = (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()
    assert first.endswith(f"client {SHOWN}") and second == "\tleaves"
    assert third.endswith("\\x07...") and len(third) < 10_100
