"""``audits.md``: every figure of every model of a comparison, audit by audit, beside those of the oracles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fed_unlearn.audits.oracles.prediction import prediction_interval
from fed_unlearn.checkpoints import write_atomically
from fed_unlearn.simulations.bench.audited import READING, RowAudits, RowFigure
from fed_unlearn.simulations.bench.results import MethodBenchReport, MethodRow
from fed_unlearn.simulations.bench.table import MARKS, bench_title, oracle_sentence, short_count
from fed_unlearn.simulations.report.layout import MOST_PRINTED
from fed_unlearn.text import printable

FILE_NAME = "audits.md"

_MOST_COLUMNS = 4  # figures side by side

Named = tuple[str, RowAudits]


def write_full_table(report: MethodBenchReport, folder: Path) -> Path:
    """Write ``audits.md`` in one step and return its path."""
    write_atomically(folder / FILE_NAME, (full_table(report) + "\n").encode())
    return folder / FILE_NAME


def full_table(report: MethodBenchReport) -> str:
    """All figures in Markdown: a table for each audit, with a row for each model.

    Parameters
    ----------
    report : MethodBenchReport
    """
    models = [(row.method, row.audits) for row in report.rows if row.audits is not None]
    lines = [f"# Audits: {bench_title(report)}", "", *_explained(report)]
    for audit in _audits(models):
        lines += ["", f"## {audit}", "", *_audit_lines(audit, models, report.oracles)]
    return "\n".join([*lines, *_fingerprint_lines(models), *_outside_lines(models)])


def _explained(report: MethodBenchReport) -> Iterator[str]:
    yield f"{oracle_sentence(report)[0].upper()}{oracle_sentence(report)[1:]}."
    yield "Behind each figure stands its own 95 % interval, where it is known."
    if len(report.oracles) > 1:
        yield f"{MARKS['above']} is above and {MARKS['below']} below what the oracles allow: the 95 % interval of"
        yield "one more oracle, in the last row, widened by the error of the drawn samples. Both are traces."


def _audits(models: Sequence[Named]) -> list[str]:
    """Names of all audits that were run, in order."""
    named = dict.fromkeys(figure.audit for _, audits in models for figure in audits.figures.values())
    costs = dict.fromkeys(audit for _, audits in models for audit in audits.costs if audit != READING)
    return list(named | costs)


def _audit_lines(audit: str, models: Sequence[Named], oracles: Sequence[MethodRow]) -> Iterator[str]:
    names = list(
        dict.fromkeys(name for _, audits in models for name, figure in audits.figures.items() if figure.audit == audit)
    )
    yield from _cost_lines(audit, models)
    for start in range(0, len(names), _MOST_COLUMNS):
        shown = names[start : start + _MOST_COLUMNS]
        rows = [[model, *(_cell(audits.figures.get(name)) for name in shown)] for model, audits in models]
        predicted = [_predicted(name, oracles) for name in shown]
        if any(predicted):
            rows.append(["one more oracle", *predicted])
        yield ""
        yield from _table(["model", *shown], rows)


def _cost_lines(audit: str, models: Sequence[Named]) -> Iterator[str]:
    costs = [audits.costs[audit] for _, audits in models if audit in audits.costs]
    if costs:
        forward, backward = (
            max(getattr(cost, name) for cost in costs) for name in ("forward_passes", "backward_passes")
        )
        passes = f"{short_count(forward)} samples forward, {short_count(backward)} backward" if forward else "no sample"
        yield f"At most {passes} beside reading, and {max(cost.seconds for cost in costs):.2f} s a model."
    for model, audits in models:
        if audit in audits.errors:
            yield f"Failed for {model}: {printable(audits.errors[audit], MOST_PRINTED)}"


def _fingerprint_lines(models: Sequence[Named]) -> Iterator[str]:
    rows = [
        [
            model,
            f"{test.distance:.2f}",
            f"{min(test.oracle_distances):.2f} to {max(test.oracle_distances):.2f}",
            f"{test.p_value:.3f}",
            f"{test.rank_p_value:.2f}",
            ", ".join(test.figures[:3]),
        ]
        for model, audits in models
        if (test := audits.fingerprint) is not None
    ]
    if rows:
        yield from ("", "## Fingerprint test", "")
        yield "Distance of a model from the oracles over all figures, beside theirs from each other; p is approximate,"
        yield "and by rank never below 1 / (oracles + 1). With few oracles it shows only what lies far off."
        yield ""
        yield from _table(["model", "distance", "the oracles'", "p", "by rank", "differs most in"], rows)


def _outside_lines(models: Sequence[Named]) -> Iterator[str]:
    rows = [
        [
            model,
            f"{outside.figures} of {outside.judged_figures}",
            f"{outside.audits} of {outside.judged_audits}",
            ", ".join(dict.fromkeys(figure.audit for figure in audits.figures.values() if figure.is_outside)) or "-",
        ]
        for model, audits in models
        if (outside := audits.outside) is not None
    ]
    if rows:
        yield from ("", "## Outside", "")
        yield from _table(["model", "figures", "audits", "which audits"], rows)


def _cell(figure: RowFigure | None) -> str:
    if figure is None or figure.measured.value is None:
        return "-"
    interval = figure.measured.interval
    between = "" if interval is None else f" ({_number(interval[0])} to {_number(interval[1])})"
    mark = MARKS[figure.judgement.verdict] if figure.judgement is not None else ""
    return f"{_number(figure.measured.value)}{mark}{between}"


def _predicted(name: str, oracles: Sequence[MethodRow]) -> str:
    figures = [row.audits.figures.get(name) for row in oracles if row.audits is not None]
    values = [figure.measured.value for figure in figures if figure is not None]
    interval = prediction_interval([value for value in values if value is not None])
    return "" if interval is None else f"{_number(interval[0])} to {_number(interval[1])}"


def _number(value: float) -> str:
    if value == int(value) and abs(value) >= 2:
        return str(int(value))
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.3g}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table in Markdown whose columns are aligned as plain text, too."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = [headings, ["-" * width for width in widths], *rows]
    for line in lines:
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
