"""What ``fed-unlearn demo`` prints: what is about to happen, a line for each step of it, and where to look."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from fed_unlearn.audits.figures import Figures
from fed_unlearn.figure_numbers import percent
from fed_unlearn.simulations.report.demonstration_lines import costs_line, request_sentences
from fed_unlearn.simulations.report.layout import plain_text, print_line
from fed_unlearn.simulations.report.pages import write_pages
from fed_unlearn.simulations.report.table import reason_lines, target_words
from fed_unlearn.simulations.report.telling import Telling
from fed_unlearn.simulations.run.folders import RECEIPTS
from fed_unlearn.simulations.run.results import RunResults
from fed_unlearn.strategies import Event, Observer
from fed_unlearn.text import printable

_INTRODUCTION = """\
Five clients train a model to read handwritten digits, each on its own images.
Then the model is asked to forget: first a digit, then a whole client, then
four images of another client. After each request it is also trained anew
without them, to compare: that model is the oracle. What it reads of them it
has learned from other images.
"""
_LEGEND = """\
before, after, oracle: how much of what is to be forgotten is read correctly;
others: how many test images of the digits that are kept."""
_CANDIDATE = "after, of a request that is not committed: the last attempt, which is not used."


def demonstration() -> Telling:
    """Make what tells of the demonstration: what is about to happen, its steps, and where to look."""
    return Telling(watching=_watching, report=_report)


@contextmanager
def _watching(console: Console) -> Iterator[Observer]:
    """A line for the training and for each request; on a terminal also what is being done at the moment."""
    console.print(_INTRODUCTION, highlight=False)
    status = console.status("starting") if console.is_terminal else None

    def observe(event: Event) -> None:
        who = f"{event.request_id}: " if event.request_id else ""
        if status is not None:
            status.update(escape(printable(f"{who}{event.text}", console.width - 4)))
        if event.kind == "training-started":
            print_line(console, f"training: {event.text.rpartition(': ')[2]} ...")
        elif event.kind == "request-started":
            print_line(console, f"{who}{event.text.partition(': ')[2] or event.text} ...")
        elif event.kind in ("request-waits", "clients-failed", "training-refused", "receipt-failed", "tracker-failed"):
            print_line(console, f"{who}{event.text}")

    with status or nullcontext():
        yield observe


def _report(results: RunResults, out: Path, console: Console) -> None:
    console.print()
    console.print(_table(results))
    console.print(_LEGEND, highlight=False)
    if any(request.status != "committed" and request.after is not None for request in results.requests):
        console.print(_CANDIDATE, highlight=False)
    console.print()
    committed = [request for request in results.requests if request.status == "committed"]
    if sentences := [f"{request.id}: {text}" for request in committed for text in request_sentences(request)]:
        console.print("the model that each request left:", highlight=False)
    for sentence in sentences:
        print_line(console, sentence)
    if line := costs_line(results.requests):
        print_line(console, line)
    for line in reason_lines(results):
        print_line(console, line)
    for line in write_pages(results, out):
        if not line.startswith("report: "):
            print_line(console, line)
    _print_places(out, console)


def _table(results: RunResults) -> Table:
    """A request in a row: how much of what it names the model had right before, has right now, and the oracle has."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "request", "how it is known"):
        table.add_column(heading, overflow="fold")
    for heading in ("before", "after", "oracle", "others"):
        table.add_column(heading, justify="right", no_wrap=True)
    for request in results.requests:
        models = (request.before, request.after, request.oracle)
        is_committed = request.status == "committed"
        table.add_row(
            Text("✓", style="green") if is_committed else Text("✗", style="red"),
            Text.assemble((printable(request.id), "bold"), f" {printable(target_words(request))}"),
            plain_text((request.evidence or "") if is_committed else request.status),
            *(percent(None if figures is None else figures.forget_accuracy, missing="-") for figures in models),
            percent(_others(request.after), missing="-"),
        )
    return table


def _others(figures: Figures | None) -> float | None:
    return None if figures is None else figures.test_retain_accuracy


def _print_places(out: Path, console: Console) -> None:
    shown = printable(os.path.relpath(out) if out.is_relative_to(Path.cwd()) else str(out), 400)
    places = {
        "report.html": "the report: open it in a browser",
        "figures/": "its figures, as PNG and SVG",
        f"{RECEIPTS}/": "signed receipts, for whoever asked",
        "ledger.db": "the record of every step",
    }
    commands = {
        f"fed-unlearn ledger verify {shown}": "unchanged?",
        f"fed-unlearn export {shown} model.safetensors": "with its card",
        "fed-unlearn run": "the whole of it",
    }
    there = {name: what for name, what in places.items() if (out / name).exists()}
    console.print(f"\nlook in {shown}", highlight=False, markup=False, soft_wrap=True)
    _print_pairs(there, console)
    console.print("\ngo on with", highlight=False)
    _print_pairs(commands, console)


def _print_pairs(pairs: dict[str, str], console: Console) -> None:
    width = max(map(len, pairs), default=0)
    for name, what in pairs.items():
        console.print(f"  {name:{width}}  {what}", highlight=False, markup=False, soft_wrap=True)
