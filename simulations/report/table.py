"""The closing table of a run. A request is a row, and a model is a line of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fed_unlearn.audits.base import Figures
from fed_unlearn.simulations.report.client_lines import client_lines
from fed_unlearn.simulations.report.layout import plain_text, print_line
from fed_unlearn.simulations.report.outcome_facts import goal_text
from fed_unlearn.simulations.report.shown import headings_of, shown_names
from fed_unlearn.simulations.run.results import RequestResult, RunResults
from fed_unlearn.strategies.worn_off import is_commit_of, worn_off_at
from fed_unlearn.text import printable, quoted

_MODELS = ("before", "unlearned", "after", "oracle")
_FIGURES = ("forget_accuracy", "retain_accuracy", "test_forget_accuracy", "test_retain_accuracy", "membership_auc")
_HEADINGS = ("\nforget", "\nretain", "test\nforget", "test\nretain", "attack\nAUC")
_MOST_BESIDE = 1
"""Figures of audits that have room beside the others on 80 columns."""

_COLOURS = {"committed": "green", "failed": "red", "rejected": "red"}


def print_results(results: RunResults, console: Console) -> None:
    """Print the results of a run: its training, the table of requests, and relapses.

    Parameters
    ----------
    results : RunResults
    console : Console
        A console of rich, at least 80 columns wide.
    """
    console.print(training_line(results), highlight=False)
    if results.requests:
        for table in closing_tables(results):
            console.print(table)
    lines = [*client_lines(results), *reason_lines(results), *pass_lines(results), *relapse_lines(results)]
    for line in lines:
        print_line(console, line)


def closing_tables(results: RunResults) -> Iterator[Table]:
    """A table of all requests, with the figures before, after the unlearn round, at the end, and of the oracle.

    Where audits have more figures than have room beside these, a second table has all of the audits.
    """
    title = plain_text(f"{results.scenario}, seed {results.seed}, {results.engine}", "table.title")
    extra = shown_names(getattr(request, name) for request in results.requests for name in _MODELS)
    beside = extra if len(extra) <= _MOST_BESIDE else []
    table = _table_of(title, (*_HEADINGS, *headings_of(beside)))
    for request in results.requests:
        table.add_row(_request_cell(request), *_cells(request, (*_FIGURES, *beside)))
    yield table
    if extra and not beside:
        further = _table_of(plain_text("audits", "table.title"), headings_of(extra))
        for request in results.requests:
            further.add_row(Text(printable(request.id), style="bold"), *_cells(request, extra))
        yield further


def _table_of(title: Text, headings: Sequence[str]) -> Table:
    table = Table(title=title, box=box.HORIZONTALS, show_lines=True, pad_edge=False)
    table.add_column("request", overflow="fold")
    table.add_column("model", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _cells(request: RequestResult, names: Sequence[str]) -> list[str]:
    """The models of a request, one a line, and a column for each figure."""
    models = [(name, figures) for name in _MODELS if (figures := getattr(request, name)) is not None]
    columns = [[_number(figures.named().get(name)) for _, figures in models] for name in names]
    return ["\n".join(name for name, _ in models), *("\n".join(column) for column in columns)]


def _request_cell(request: RequestResult) -> Text:
    speedup, pass_ratio = _savings(request)
    cell = Text()
    cell.append(printable(request.id), style="bold")
    cell.append(f" {printable(target_words(request))}\n{printable(request.method)}\n")
    if request.goal:
        cell.append(f"{printable(goal_words(request))}\n")
    cell.append(request.status, style=_COLOURS.get(request.status, "yellow"))
    cell.append(f", {_attempts(request)}\n")
    known = known_words(request)
    cell.append(f"{printable(known)}\n" if known else "")
    cell.append(f"{request.seconds:.2f} s")
    cell.append(f", {speedup}" if speedup else "")
    cell.append(f"\n{pass_ratio}" if pass_ratio else "")
    return cell


def plain_lines(results: RunResults) -> list[str]:
    """Write the results as sentences for a log: a line for the training, for each request, and for each relapse."""
    lines = [training_line(results), *client_lines(results)]
    for request in results.requests:
        asked = f", {goal_words(request)}," if request.goal else ""
        known = f", {known_words(request)}" if known_words(request) else ""
        parts = [f"{request.id} {target_words(request)}{asked} by {request.method}: {request.status}{known}"]
        if request.before is not None and request.after is not None:
            parts.append(_change("forget", request, "forget_accuracy"))
            parts.append(_change("retain", request, "retain_accuracy"))
            parts.append(_change("test forget", request, "test_forget_accuracy"))
            parts.append(_change("test retain", request, "test_retain_accuracy"))
            parts.append(_change("attack AUC", request, "membership_auc"))
            parts += [_change(name, request, name) for name in shown_names((request.before, request.after))]
        costs = (f"{request.seconds:.2f} s", *_savings(request), _passes(request), _attempts(request))
        parts.append(", ".join(cost for cost in costs if cost))
        if request.reason:
            parts.append(request.reason)
        lines.append("; ".join(part for part in parts if part))
    return [*lines, *relapse_lines(results)]


def target_words(request: RequestResult) -> str:
    """Say what a request forgets, such as ``class 3`` or ``4 samples of client 7``."""
    target: Mapping[str, object] = request.target
    classes, ids = target.get("classes"), target.get("sample_ids")
    if isinstance(classes, list | tuple):
        shown = [class_text(item, label) for item, label in zip_longest(classes, request.labels)]
        return ("class " if len(classes) == 1 else "classes ") + ", ".join(shown)
    count = len(ids) if isinstance(ids, list | tuple) else target.get("samples", target.get("count"))
    if count is None:
        return f"client {target.get('client')}"
    label = request.labels[0] if request.labels else None
    of_class = "" if target.get("of_class") is None else f" of class {class_text(target['of_class'], label)}"
    return f"{count} sample{'' if count == 1 else 's'}{of_class} of client {target.get('client')}"


def class_text(index: object, label: str | None) -> str:
    """A class by the data's own label, with its index where that is another one; by its index if no label is known."""
    return str(index) if label is None or label == str(index) else f"{quoted(label)} (index {index})"


def goal_words(request: RequestResult) -> str:
    """Say what a sample request wants of its samples, such as ``to look unseen``."""
    return goal_text(request.goal)


def known_words(request: RequestResult) -> str:
    """Say how the forgetting is known, and where one holder alone says so."""
    alone = "1 witness" if request.witnesses == 1 else ""
    return ", ".join(part for part in (request.evidence, alone) if part)


def training_line(results: RunResults) -> str:
    """Describe the training in one line."""
    training = results.training
    if training.rounds == 0:
        return "training: none in this run"
    accuracy = "" if training.test_accuracy is None else f", test accuracy {training.test_accuracy:.3f}"
    return f"training: {training.rounds} rounds in {training.seconds:.1f} s{accuracy}"


def reason_lines(results: RunResults) -> list[str]:
    """Say why requests were not committed, one line for each."""
    return [f"{request.id} {request.status}: {request.reason}" for request in results.requests if request.reason]


def pass_lines(results: RunResults) -> list[str]:
    """Say what the sample passes of each request were for, one line for each that had any."""
    return [f"{request.id}: {passes}" for request in results.requests if (passes := _passes(request))]


def relapse_lines(results: RunResults) -> list[str]:
    """Say for each request with a later event how high the accuracy on what it forgot rose, and when.

    A request that asks for no low accuracy is said to have none to keep: what others teach of its samples stays. Those
    whose forgetting has worn off are named, and what nobody could audit.
    """
    lines = [f"relapse after {after}: not audited, since no client answered" for after in results.relapse_due]
    for request in results.requests:
        later = list(_later_accuracies(results, request))
        if later:
            accuracy, where, after = max(later, key=lambda item: item[0])
            if request.scope == "client" or request.goal == "indistinguishable":
                right = f"at most {accuracy:.3f} of its {where} right"
                lines.append(f"{request.id} later: {right} after {after}, no bound")
            else:
                lines.append(f"relapse of {request.id}: at most {accuracy:.3f} of its {where} after {after}")
        worn = worn_off_at(results.relapse, request.id) if request.status == "committed" else None
        if worn is not None:
            event = results.relapse[worn].after
            lines.append(f"{request.id} has worn off: after {event} the gate would refuse it")
    return lines


def _later_accuracies(results: RunResults, request: RequestResult) -> Iterator[tuple[float, str, str]]:
    seen = False
    for row in results.relapse:
        if seen and request.id in row.test_forget_accuracy:
            yield row.test_forget_accuracy[request.id], "test samples", row.after
        elif seen and request.id in row.forget_accuracy:
            yield row.forget_accuracy[request.id], "forget samples", row.after
        seen = seen or is_commit_of(row, request.id)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _change(label: str, request: RequestResult, key: str) -> str:
    models: list[Figures | None] = [request.before, request.after]
    before, after = (None if figures is None else figures.named().get(key) for figures in models)
    if before is None and after is None:
        return ""
    oracle = "" if request.oracle is None else f" (oracle {_number(request.oracle.named().get(key))})"
    return f"{label} {_number(before)} -> {_number(after)}{oracle}"


def _savings(request: RequestResult) -> tuple[str, str]:
    return _times(request.speedup, "faster", "slower"), _times(request.pass_ratio, "fewer passes", "more passes")


def _times(ratio: float | None, better: str, worse: str) -> str:
    """A ratio in words, such as ``20.0x faster``, or ``2.5x slower`` where it is 0.4; empty where there is none."""
    if not ratio:
        return ""
    return f"{ratio:.1f}x {better}" if ratio >= 1 else f"{1 / ratio:.1f}x {worse}"


def _passes(request: RequestResult) -> str:
    """A request's sample passes and what they were for, such as ``3,120 sample passes: unlearn 1,500, audit 1,620``."""
    parts = ", ".join(f"{printable(part)} {count:,}" for part, count in request.passes_by_part.items())
    return f"{request.passes:,} sample passes: {parts}" if parts else ""


def _attempts(request: RequestResult) -> str:
    return f"{request.attempts} attempt{'' if request.attempts == 1 else 's'}"
