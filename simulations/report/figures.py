"""Three figures of a run, drawn from ``results.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fed_unlearn.simulations.report.table import goal_words, target_words
from fed_unlearn.simulations.run.results import HistoryPoint, RequestResult, RunResults

TIMELINE, REQUESTS, RELAPSE = "timeline.png", "requests.png", "relapse.png"

# The palette of Okabe and Ito. People with any common kind of colour vision can distinguish its colours.
_BLUE, _ORANGE, _GREEN, _RED, _PURPLE, _SKY, _YELLOW, _GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#999999",
)  # fmt: skip
_MODELS = {"before": _GREY, "unlearned": _ORANGE, "after": _BLUE, "oracle": _GREEN}
_PANELS = {
    "forget_accuracy": "forget set (training samples)",
    "retain_accuracy": "retain set (training samples)",
    "test_forget_accuracy": "forgotten classes (test samples)",
    "test_retain_accuracy": "other classes (test samples)",
}
_LINES = ((_BLUE, "o", "-"), (_RED, "s", "--"), (_GREEN, "^", "-."), (_PURPLE, "D", ":"), (_ORANGE, "v", "-"),
          (_SKY, "P", "--"), (_GREY, "X", "-."))  # fmt: skip
_DPI = 150


def write_figures(results: RunResults, folder: Path) -> list[Path]:
    """Draw the figures of a run.

    Parameters
    ----------
    results : RunResults
        The results of a run, complete or not.
    folder : Path
        Folder of the figures, made if it does not exist. Existing figures are replaced.

    Returns
    -------
    list of Path
        ``timeline.png`` shows the test accuracy over all rounds, with every request marked. ``requests.png`` shows
        bars for every request: before it, after its unlearn round, at the end, and of the oracle. ``relapse.png``
        shows the accuracy on forgotten data after every later event. A figure without data is left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {TIMELINE: _timeline(results), REQUESTS: _requests(results), RELAPSE: _relapse(results)}
    written = []
    for name, figure in drawn.items():
        if figure is not None:
            figure.savefig(folder / name, dpi=_DPI)
            written.append(folder / name)
    return written


def _timeline(results: RunResults) -> Figure | None:
    if not results.history:
        return None
    figure = Figure(figsize=(9.0, 4.5), layout="constrained")
    axes = figure.add_subplot()
    points = results.history
    rounds = [point.round for point in points]
    axes.plot(rounds, [point.test_accuracy for point in points], color=_BLUE, marker="o", markersize=4,
              label="classes not forgotten")  # fmt: skip
    by_id = {request.id: request for request in results.requests}
    requests = [(point, by_id[point.event]) for point in points if point.event in by_id]
    _mark_requests(axes, requests)
    _mark_forgotten(axes, requests)
    axes.set_xlabel("round (training, unlearning and repair)")
    axes.set_ylabel("test accuracy")
    axes.set_ylim(-0.04, 1.04)
    axes.margins(x=0.03)
    axes.grid(alpha=0.3)
    figure.suptitle(_title(results, "test accuracy over the run"))
    axes.legend(loc="center left" if requests else "lower right", framealpha=0.9)
    return figure


def _mark_requests(axes: Axes, requests: Sequence[tuple[HistoryPoint, RequestResult]]) -> None:
    for point, request in requests:
        committed = request.status == "committed"
        colour = "black" if committed else _RED
        axes.axvline(point.round, color=colour, linewidth=0.8, linestyle="-" if committed else "--", alpha=0.6)
        label = f"{request.id}: {target_words(request)}" + ("" if committed else f" ({request.status})")
        axes.annotate(label, (point.round, 0.5), xytext=(-3, 0), textcoords="offset points", rotation=90,
                      ha="right", va="center", fontsize=8, color=colour)  # fmt: skip


def _mark_forgotten(axes: Axes, requests: Sequence[tuple[HistoryPoint, RequestResult]]) -> None:
    """Draw a line from the accuracy on the request's classes before each class request to the one after it."""
    labels = {"before": "classes of the request, before", "after": "classes of the request, after"}
    for point, request in requests:
        before = None if request.before is None else request.before.test_forget_accuracy
        if before is None or point.test_forget_accuracy is None:
            continue
        axes.plot([point.round] * 2, [before, point.test_forget_accuracy], color=_RED, linewidth=1.5, zorder=2)
        ends = {"before": (before, "white"), "after": (point.test_forget_accuracy, _RED)}
        for name, (accuracy, fill) in ends.items():
            axes.plot(
                point.round, accuracy, "s", color=_RED, markerfacecolor=fill, zorder=3, label=labels.pop(name, None)
            )


def _requests(results: RunResults) -> Figure | None:
    measured = [request for request in results.requests if request.before is not None]
    if not measured:
        return None
    figure = Figure(figsize=(max(8.0, 2.0 + 1.5 * len(measured)), 7.0), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey=True)
    models = [name for name in _MODELS if any(getattr(request, name) is not None for request in measured)]
    for axes, (key, title) in zip(panels.flat, _PANELS.items(), strict=True):
        _bars(axes, measured, models, key)
        axes.set_title(title, fontsize=10)
        axes.set_xticks(range(len(measured)), [_tick(request) for request in measured], fontsize=8)
    for axes in panels[:, 0]:
        axes.set_ylabel("accuracy")
    panels[0, 0].set_ylim(0.0, 1.2)
    panels[0, 0].set_yticks([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(models), frameon=False)
    figure.suptitle(_title(results, "every request, and the retrain oracle" if "oracle" in models else "every request"))
    return figure


def _bars(axes: Axes, requests: Sequence[RequestResult], models: Sequence[str], key: str) -> None:
    width = 0.8 / len(models)
    for position, model in enumerate(models):
        offset = (position - (len(models) - 1) / 2) * width
        figures = [getattr(request, model) for request in requests]
        values = [None if entry is None else getattr(entry, key) for entry in figures]
        places = [index + offset for index, value in enumerate(values) if value is not None]
        heights = [value for value in values if value is not None]
        bars = axes.bar(places, heights, width * 0.92, color=_MODELS[model], label=model)
        if len(requests) <= 8:
            axes.bar_label(bars, [_bar_label(height) for height in heights], rotation=90, fontsize=6, padding=2)
    for index, request in enumerate(requests):
        if all((entry := getattr(request, model)) is None or getattr(entry, key) is None for model in models):
            axes.text(index, 0.03, "does not\napply", ha="center", va="bottom", fontsize=7, color=_GREY)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)


def _bar_label(height: float) -> str:
    return f"{height:.2f}" if 0 < height < 1 else f"{height:.0f}"


def _relapse(results: RunResults) -> Figure | None:
    rows = results.relapse
    series = {
        request.id: values
        for request in results.requests
        if (values := _accuracies_after(results, request))
    }  # fmt: skip
    if not series:
        return None
    figure = Figure(figsize=(max(9.0, 1.0 * len(rows)), 4.0 + 0.12 * len(series)), layout="constrained")
    axes = figure.add_subplot()
    targets = {request.id: ", ".join(_words(request)) for request in results.requests}
    for number, (request_id, values) in enumerate(series.items()):
        colour, _, line = _LINES[number % len(_LINES)]
        marker = _LINES[(number + number // len(_LINES)) % len(_LINES)][
            1
        ]  # with more lines than colours, no two lines look alike
        axes.plot(list(values), list(values.values()), color=colour, marker=marker, linestyle=line, clip_on=False,
                  zorder=3, label=f"{request_id}: {targets[request_id]}")  # fmt: skip
    highest = max(max(values.values()) for values in series.values())
    axes.set_ylim(-0.02 * max(0.1, highest), max(0.1, min(1.0, 1.25 * highest)))
    axes.set_xlim(-0.3, len(rows) - 0.7)
    axes.set_xticks(range(len(rows)), [row.after for row in rows])
    axes.set_xlabel("after")
    axes.set_ylabel("accuracy on what was forgotten")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    figure.suptitle(_title(results, "does it stay forgotten?"))
    return figure


def _accuracies_after(results: RunResults, request: RequestResult) -> Mapping[int, float]:
    """The accuracy on what a request forgot, by event: on test samples for a class request, else on the forget set."""
    key = "test_forget_accuracy" if request.scope == "class" else "forget_accuracy"
    rows = enumerate(results.relapse)
    return {index: getattr(row, key)[request.id] for index, row in rows if request.id in getattr(row, key)}


def _words(request: RequestResult) -> list[str]:
    """What a request forgets, what it wants of samples, and how its forgetting is known."""
    return [words for words in (target_words(request), goal_words(request), request.evidence) if words]


def _tick(request: RequestResult) -> str:
    target, *others = _words(request)
    broken = ("\n".join(words.rsplit(" ", 1)) for words in others)
    return "\n".join((request.id, target.replace(" of ", "\nof ").replace("classes", "class"), *broken))


def _title(results: RunResults, subject: str) -> str:
    return f"{results.scenario}, seed {results.seed}: {subject}"
