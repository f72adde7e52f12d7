"""What ``fed-unlearn demo`` says of a request: sentences whose figures all come from the results."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fed_unlearn.audits.figures import Figures
from fed_unlearn.figure_numbers import percent
from fed_unlearn.simulations.run.results import RequestResult

_FINE = 10


def request_sentences(request: RequestResult) -> list[str]:
    """What the model does with what it was to forget, what it did before, and what the oracle does.

    Parameters
    ----------
    request : RequestResult
        A committed request.

    Returns
    -------
    list of str
        No sentence where nothing was measured.
    """
    sentences = {"class": _class_sentences, "client": _client_sentences, "sample": _sample_sentences}
    return sentences[request.scope](request) if request.after is not None else []


def costs_line(requests: Sequence[RequestResult]) -> str:
    """How many sample passes training anew takes for each of a request's; empty where no oracle was trained.

    Parameters
    ----------
    requests : sequence of RequestResult
    """
    ratios = [(item.id, item.pass_ratio) for item in requests if item.pass_ratio is not None]
    shown = ", ".join(f"{name} {ratio:.{0 if ratio >= _FINE else 1}f}" for name, ratio in ratios)
    return f"sample passes of training anew per pass of the request: {shown}" if shown else ""


def _class_sentences(request: RequestResult) -> list[str]:
    called = f"a {_class_of(request)}"
    others = _told(request, "it reads {} of the other digits", lambda figures: _share(figures.test_retain_accuracy))
    view = None if request.views is None else request.views.destinations
    if view is None or view.after is None:
        return _told(request, f"it reads {{}} of the images of {called}", _forget_share) + others

    def counted(counts: Sequence[int] | None) -> str | None:
        return None if counts is None else str(sum(counts[number] for number in _classes(request)))

    sentence = f"it takes {counted(view.after)} of {sum(view.after)} test images of {called} for {called}"
    return [sentence + _compared(counted(view.before), counted(view.oracle)), *others]


def _client_sentences(request: RequestResult) -> list[str]:
    return _told(request, "it reads {} of the client's images", _forget_share)


def _sample_sentences(request: RequestResult) -> list[str]:
    ids = request.target.get("sample_ids")
    number = len(ids) if isinstance(ids, list | tuple) else request.target.get("samples")

    def read(figures: Figures) -> str | None:
        if not isinstance(number, int) or figures.forget_accuracy is None or "forget_accuracy" in figures.samples:
            return _forget_share(figures)
        return str(round(number * figures.forget_accuracy))

    images = f"{number} images" if isinstance(number, int) else "images"
    if request.goal == "misclassify":
        return _told(request, f"it was to misread {images}, and reads {{}} of them", read)
    return _told(request, f"it reads {{}} of {images}", read)


def _told(request: RequestResult, sentence: str, shown: Callable[[Figures], str | None]) -> list[str]:
    """A sentence with the figure of now in the place of ``{}``; no sentence where there is none."""
    before, after, oracle = (
        None if figures is None else shown(figures) for figures in (request.before, request.after, request.oracle)
    )
    return [] if after is None else [sentence.format(after) + _compared(before, oracle)]


def _compared(before: str | None, oracle: str | None) -> str:
    told = [f"{whose} {shown}" for whose, shown in (("before", before), ("the oracle", oracle)) if shown is not None]
    return f"; {', '.join(told)}" if told else ""


def _forget_share(figures: Figures) -> str | None:
    return _share(figures.forget_accuracy)


def _share(fraction: float | None) -> str | None:
    return None if fraction is None else percent(fraction, missing="")


def _classes(request: RequestResult) -> list[int]:
    classes = request.target.get("classes")
    return [number for number in classes if isinstance(number, int)] if isinstance(classes, list | tuple) else []


def _class_of(request: RequestResult) -> str:
    return " or a ".join(map(str, _classes(request)))
